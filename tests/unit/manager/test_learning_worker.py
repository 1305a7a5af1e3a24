"""Closed traces become edges, once, whichever of two managers is told of them."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.failures import StoreUnavailable
from services.chassis.telemetry import telemetry
from services.manager.core.learned_edges import LearningSettings, TraceSighting, count_orders
from services.manager.metrics import Metrics
from services.manager.worker.learning import LearningWorker
from tests.fakes.clock import FakeClock
from tests.fakes.learned_edges import a_learned_edge
from tests.fakes.manager import MemoryStore
from tests.fakes.transitions import NOW

CLOSE_DELAY = timedelta(minutes=2)


class World:
    """Two managers on one store."""

    def __init__(self) -> None:
        self.store, self.clock = MemoryStore(), FakeClock(NOW)
        self.workers = [
            LearningWorker(self.store, self.clock, Metrics(), close_delay=CLOSE_DELAY, settings=LearningSettings())
            for _ in range(2)
        ]

    async def report(self, *sightings: TraceSighting) -> None:
        async with self.store.transaction() as transaction:
            await transaction.traces.upsert(sightings, self.clock.now())

    async def turn(self) -> list[timedelta]:
        return [await worker.turn() for worker in self.workers]

    def edges(self) -> dict[tuple[str, str], float]:
        return {pair: edge.forward for pair, edge in self.store.tables.learned.edges.items()}


@pytest.fixture
def world() -> Iterator[World]:
    with telemetry("manager", "test", ""):
        yield World()


def sighting(trace: int, service: str, second: int) -> TraceSighting:
    return TraceSighting(trace_id=f"{trace:032x}", service=service, first_time=NOW + timedelta(seconds=second))


async def test_a_trace_is_counted_once_some_time_after_its_first_report(world: World) -> None:
    await world.report(sighting(1, "pay", 1))
    world.clock.advance(CLOSE_DELAY)
    # Another evaluator, through the other manager.
    await world.report(sighting(1, "web", 0), sighting(1, "pay", 2))
    await world.turn()
    assert world.edges() == {}
    world.clock.advance(timedelta(seconds=1))
    assert await world.turn() == [timedelta(seconds=10)] * 2
    assert world.edges() == {("web", "pay"): 1}
    assert world.store.tables.learned.sightings == {}


async def test_a_failed_commit_leaves_the_trace_for_the_next_turn(world: World) -> None:
    await world.report(sighting(1, "web", 0), sighting(1, "pay", 1))
    world.clock.advance(2 * CLOSE_DELAY)
    world.store.fail_commits = 1
    with pytest.raises(StoreUnavailable):
        await world.workers[0].turn()
    assert world.edges() == {}
    await world.turn()
    assert world.edges() == {("web", "pay"): 1}


async def test_the_graph_changes_when_an_edge_is_supported_and_when_it_has_faded(world: World) -> None:
    await world.report(*(sighting(n, name, second) for n in range(20) for second, name in enumerate(("web", "pay"))))
    world.clock.advance(2 * CLOSE_DELAY)
    await world.turn()
    assert world.store.tables.learned.revision == 1
    world.clock.advance(timedelta(days=14))
    await world.turn()
    assert world.store.tables.learned.revision == 2


async def test_edges_fade_without_new_traces_but_are_not_looked_at_each_turn(world: World) -> None:
    worker = world.workers[0]
    await worker.turn()
    world.store.tables.learned.edges["web", "pay"] = a_learned_edge(support=1.0, forward=1.0)
    world.clock.advance(timedelta(seconds=59))
    await worker.turn()
    assert world.store.tables.learned.revision == 0
    world.clock.advance(timedelta(seconds=1))
    await worker.turn()
    assert world.store.tables.learned.revision == 1


async def test_some_edges_too_many_are_borne_until_all_are_looked_at(world: World) -> None:
    settings = LearningSettings(max_edges=10)
    worker = LearningWorker(world.store, world.clock, Metrics(), close_delay=timedelta(), settings=settings)
    counts = []
    for first, last in ((0, 8), (8, 11), (11, 12)):
        await world.report(
            *(sighting(n, name, at) for n in range(first, last) for at, name in enumerate((f"s{n}", "pay")))
        )
        world.clock.advance(timedelta(seconds=1))
        await worker.turn()
        counts.append(len(world.edges()))
    assert counts == [8, 11, 10]


async def test_many_closed_traces_are_counted_without_a_pause(world: World) -> None:
    await world.report(*(sighting(n, "web", 0) for n in range(2500)))
    world.clock.advance(2 * CLOSE_DELAY)
    assert await world.workers[0].turn() == timedelta()
    assert len(world.store.tables.learned.sightings) == 500
    assert await world.workers[1].turn() == timedelta(seconds=10)
    assert world.store.tables.learned.sightings == {}


names = st.sampled_from(["a", "b", "c"])
reports = st.lists(st.tuples(st.integers(0, 1), st.builds(sighting, st.integers(0, 2), names, st.integers(0, 4))))


@given(reports, st.lists(st.integers(0, 1), max_size=4))
def test_it_does_not_matter_which_manager_is_told_of_what_nor_which_one_counts(
    sent: list[tuple[int, TraceSighting]], turns: list[int]
) -> None:
    async def learned() -> dict[tuple[str, str], float]:
        world = World()
        for manager in (0, 1):
            await world.report(*(each for told, each in sent if told == manager))
        world.clock.advance(CLOSE_DELAY + timedelta(seconds=1))
        for turn in [*turns, 0]:
            await world.workers[turn].turn()
        return world.edges()

    assert asyncio.run(learned()) == count_orders(each for _, each in sent)
