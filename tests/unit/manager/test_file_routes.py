"""The routes of the notifier's file become the tree, as long as nobody has set one."""

import asyncio
from datetime import timedelta

import pytest

from services.manager.core.routing_tree import RoutingTree
from services.manager.worker.file_routes import FileRoutesWorker
from tests.fakes.clock import FakeClock
from tests.fakes.manager import MemoryStore
from tests.fakes.routing import FakeReceivers, MemoryRoutingFeed, a_route, a_stored_tree, a_tree

TREE = a_tree(a_route("severity=~CRITICAL|HIGH", receivers=("chat", "mail")))
SECOND = timedelta(seconds=1)
SECONDS, MINUTE = timedelta(seconds=3), timedelta(minutes=1)


def worker(store: MemoryStore, receivers: FakeReceivers, clock: FakeClock | None = None) -> FileRoutesWorker:
    return FileRoutesWorker(store, MemoryRoutingFeed(store), receivers, clock or FakeClock())


def receivers(tree: RoutingTree | None = TREE) -> FakeReceivers:
    return FakeReceivers("chat", "mail", "operators", file_routes=tree)


async def test_the_routes_are_stored_once_by_two_managers() -> None:
    store, asked = MemoryStore(), receivers()
    first, second = worker(store, asked), worker(store, asked)
    assert set(await asyncio.gather(first.turn(), second.turn())) == {SECONDS}
    assert {version: stored.tree for version, stored in store.tables.routing.items()} == {1: TREE}
    assert store.tables.routing[1].author == "notifier's file"
    assert await first.turn() == SECONDS
    assert len(store.tables.routing) == 1


async def test_a_tree_that_somebody_set_stays() -> None:
    store, asked = MemoryStore(), receivers()
    store.tables.routing[1] = a_stored_tree()
    late = worker(store, asked)
    assert await late.turn() == SECONDS
    assert store.tables.routing == {1: a_stored_tree()}
    assert await late.turn() == MINUTE
    assert asked.asked == 1


async def test_a_file_that_changes_changes_the_tree_but_not_all_the_time() -> None:
    store, asked, clock = MemoryStore(), receivers(), FakeClock()
    working = worker(store, asked, clock)
    await working.turn()
    asked.known = receivers(a_tree(receivers=("mail",))).known
    clock.advance(14 * SECOND)
    await working.turn()
    assert list(store.tables.routing) == [1]
    clock.advance(SECOND)
    await working.turn()
    assert list(store.tables.routing) == [1, 2]
    assert store.tables.routing[2].tree == a_tree(receivers=("mail",))
    clock.advance(MINUTE)
    asked.known = receivers(None).known
    await working.turn()
    assert list(store.tables.routing) == [1, 2]


@pytest.mark.parametrize(
    ("tree", "next_look"), [(None, SECONDS), (a_tree(a_route("a=b", receivers=("nobody",))), MINUTE)]
)
async def test_nothing_is_stored_of_a_file_without_routes_or_with_wrong_ones(
    tree: RoutingTree | None, next_look: timedelta
) -> None:
    store = MemoryStore()
    assert await worker(store, receivers(tree)).turn() == next_look
    assert store.tables.routing == {}


async def test_a_notifier_that_is_away_is_asked_again() -> None:
    store, asked = MemoryStore(), receivers()
    known, asked.known = asked.known, None
    waiting = worker(store, asked)
    assert await waiting.turn() == SECONDS
    assert store.tables.routing == {}
    asked.known = known
    await waiting.turn()
    assert list(store.tables.routing) == [1]
