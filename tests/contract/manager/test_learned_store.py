"""What the manager relies on from the store of learned dependencies and traces, in memory and in PostgreSQL alike."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from services.chassis.migrations import migrate
from services.chassis.postgres import connect
from services.chassis.settings import PostgresSettings, Secret
from services.manager.adapters.postgres.catalog import PostgresCatalogReader
from services.manager.adapters.postgres.learned_edges import PostgresLearnedEdgeReader
from services.manager.adapters.postgres.store import PostgresStore
from services.manager.adapters.tenant_caches import CatalogCache
from services.manager.app import MIGRATIONS, SCHEMA
from services.manager.core.dependency_graph import EdgeState
from services.manager.core.learned_edges import LearnedChanges, LearnedEdge, TraceSighting
from services.manager.ports.readers import CatalogReader, LearnedEdgeFilter, LearnedEdgeReader, Page
from services.manager.ports.tables import Store
from tests.fakes.learned_edges import a_learned_edge
from tests.fakes.manager import MemoryStore
from tests.fakes.manager_readers import MemoryCatalogReader, MemoryLearnedEdgeReader
from tests.fakes.transitions import NOW

SECOND = timedelta(seconds=1)
IGNORED = a_learned_edge("a", "ignored").decided(EdgeState.IGNORED, "ann", NOW + SECOND)
WEAK = a_learned_edge("a", "weak", is_supported=False, support=2.5, forward=0.5)


@dataclass(frozen=True, slots=True)
class Stored:
    """A store and its readers."""

    store: Store
    catalog: CatalogReader
    edges: LearnedEdgeReader

    async def save(self, *edges: LearnedEdge, changed: bool = True) -> None:
        async with self.store.transaction() as transaction:
            await transaction.learned_edges.lock()
            await transaction.learned_edges.save(LearnedChanges(written=edges, is_graph_changed=changed))

    async def report(self, *sightings: TraceSighting, seconds: int = 0) -> None:
        async with self.store.transaction() as transaction:
            await transaction.traces.upsert(sightings, NOW + seconds * SECOND)

    async def taken(self, *, before: int, limit: int = 100) -> list[tuple[str, str, int]]:
        async with self.store.transaction() as transaction:
            taken = await transaction.traces.take_closed(NOW + before * SECOND, limit)
        return sorted((each.trace_id[-1], each.service, (each.first_time - NOW).seconds) for each in taken)

    async def listed(self, size: int = 50, *after: str, **options: object) -> list[tuple[str, str]]:
        wanted = LearnedEdgeFilter(**options)  # type: ignore[arg-type]  # fields of the filter
        return [edge.pair for edge in await self.edges.list_page(wanted, Page(size=size, after=after))]


def sighting(trace: int, service: str, second: int = 0) -> TraceSighting:
    return TraceSighting(trace_id=f"{trace:032x}", service=service, first_time=NOW + second * SECOND)


class LearnedContract(ABC):
    @pytest.fixture
    @abstractmethod
    def stored(self) -> Stored: ...

    async def test_edges_come_back_as_they_were_and_are_replaced_and_deleted(self, stored: Stored) -> None:
        await stored.save(IGNORED, WEAK)
        counted = replace(WEAK, support=3.5, forward=1.5, count_time=NOW + SECOND, seen_time=NOW + SECOND)
        await stored.save(counted)
        async with stored.store.transaction() as transaction:
            await transaction.learned_edges.lock()
            assert await transaction.learned_edges.load_all() == {IGNORED.pair: IGNORED, WEAK.pair: counted}
            assert await transaction.learned_edges.load([WEAK.pair, ("weak", "a")]) == {WEAK.pair: counted}
            assert await transaction.learned_edges.load([]) == {}
            assert await transaction.learned_edges.count() == 2
            await transaction.learned_edges.save(LearnedChanges(deleted=(WEAK.pair, ("no", "edge"))))
        async with stored.store.transaction() as transaction:
            assert set(await transaction.learned_edges.load_all()) == {IGNORED.pair}

    async def test_pages_are_in_the_order_of_both_services_and_filtered(self, stored: Stored) -> None:
        confirmed = a_learned_edge("b", "a").decided(EdgeState.CONFIRMED, "", NOW)
        await stored.save(confirmed, WEAK, IGNORED, a_learned_edge("Z", "ä"))
        assert await stored.listed() == [("Z", "ä"), ("a", "ignored"), ("b", "a")]
        assert await stored.listed(is_weak_included=True) == [("Z", "ä"), ("a", "ignored"), ("a", "weak"), ("b", "a")]
        assert await stored.listed(1, "Z", "ä") == [("a", "ignored"), ("b", "a")]
        assert await stored.listed(service="a") == [("a", "ignored"), ("b", "a")]
        assert await stored.listed(states=(EdgeState.IGNORED, EdgeState.UNSPECIFIED)) == [("Z", "ä"), ("a", "ignored")]

    async def test_of_a_trace_the_earliest_times_stay_whoever_reports_them(self, stored: Stored) -> None:
        await stored.report(sighting(1, "web", 5), sighting(1, "web", 4), sighting(1, "pay", 6))
        await stored.report(sighting(1, "web", 7), sighting(1, "pay", 2), sighting(2, "pay", 1), seconds=1)
        await stored.report()
        async with stored.store.transaction() as transaction:
            assert await transaction.traces.count() == 3
        assert await stored.taken(before=0) == []
        assert await stored.taken(before=1) == [("1", "pay", 2), ("1", "web", 4)]
        assert await stored.taken(before=2) == [("2", "pay", 1)]
        assert await stored.taken(before=9) == []

    async def test_the_oldest_traces_are_taken_first_and_whole(self, stored: Stored) -> None:
        await stored.report(sighting(2, "web"), seconds=1)
        await stored.report(sighting(1, "web"))
        await stored.report(sighting(1, "pay", 3), seconds=9)
        assert await stored.taken(before=5, limit=1) == [("1", "pay", 3), ("1", "web", 0)]
        assert await stored.taken(before=5, limit=1) == [("2", "web", 0)]

    async def test_reports_at_once_that_name_the_same_rows_all_go_through(self, stored: Stored) -> None:
        sightings = [sighting(n, name, n) for n in range(10) for name in ("a", "b", "c")]
        reports = (stored.report(*(sightings if n % 2 else reversed(sightings))) for n in range(8))
        taking = (stored.taken(before=1) for _ in range(4))
        taken = await asyncio.gather(*reports, *taking)
        rest = await stored.taken(before=1)
        assert {each[1] for found in (*taken[8:], rest) for each in found or ()} == {"a", "b", "c"}

    async def test_of_many_that_count_at_once_only_as_many_write_as_there_is_room_for(self, stored: Stored) -> None:
        async def report(trace: int) -> None:
            async with stored.store.transaction() as transaction:
                if await transaction.traces.count() < 3:
                    await transaction.traces.upsert([sighting(trace, "web")], NOW)

        await asyncio.gather(*map(report, range(8)))
        async with stored.store.transaction() as transaction:
            assert await transaction.traces.count() == 3

    async def test_the_catalog_follows_the_learned_edges(self, stored: Stored) -> None:
        cache = CatalogCache(stored.catalog)
        await cache.refresh()
        await stored.save(IGNORED, WEAK, a_learned_edge("a", "b"))
        await cache.refresh()
        before = cache.current
        assert {(edge.depends_on, edge.state) for edge in before.graph.edges_of("a")} == {
            ("ignored", EdgeState.IGNORED),
            ("b", EdgeState.UNSPECIFIED),
        }
        assert before.version == await stored.catalog.version()
        await stored.save(replace(WEAK, support=3.0), changed=False)
        await cache.refresh()
        assert cache.current is before
        await stored.save(a_learned_edge("a", "b").decided(EdgeState.CONFIRMED, "ann", NOW))
        await cache.refresh()
        assert cache.current.confirmed_graph.depends_on("a", 1) == {"b": 1}


class TestMemoryLearned(LearnedContract):
    @pytest.fixture
    def stored(self) -> Stored:
        store = MemoryStore()
        return Stored(store, MemoryCatalogReader(store), MemoryLearnedEdgeReader(store))


@pytest.mark.integration
class TestPostgresLearned(LearnedContract):
    @pytest.fixture
    async def stored(self, database: str) -> AsyncIterator[Stored]:
        settings = PostgresSettings(database_url=Secret(database))
        await migrate(settings, schema=SCHEMA, scripts=MIGRATIONS)
        async with connect(settings, schema=SCHEMA) as opened:
            yield Stored(PostgresStore(opened), PostgresCatalogReader(opened), PostgresLearnedEdgeReader(opened))
