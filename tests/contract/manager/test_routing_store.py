"""What the manager relies on from the store of routing trees, in memory and in PostgreSQL alike."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import pytest

from services.chassis.migrations import migrate
from services.chassis.postgres import connect
from services.chassis.settings import PostgresSettings, Secret
from services.manager.adapters.postgres.routing import PostgresRoutingReader
from services.manager.adapters.postgres.store import PostgresStore
from services.manager.adapters.tenant_caches import RoutingCache
from services.manager.app import MIGRATIONS, SCHEMA
from services.manager.core.routing_tree import InhibitionRule, StoredTree
from services.manager.ports.readers import Page, RoutingReader
from services.manager.ports.tables import Store
from tests.fakes.manager import MemoryStore
from tests.fakes.manager_readers import MemoryRoutingReader, version_of
from tests.fakes.routing import a_route, a_stored_tree, a_tree, matchers

TREE = a_tree(
    a_route(
        'team="sh\\"op", "user tier"!~"a|\\nb"',
        a_route("a=b", receivers=(), policy="", correlation_labels=(), inhibits_dependents=False),
        receivers=("chat", "mail"),
        continues=True,
        correlation_labels=("cluster", "user tier"),
        correlation_window=timedelta(minutes=5),
        bundling_interval=timedelta(seconds=90.5),
        inhibits_dependents=True,
    ),
    rules=(InhibitionRule(source=matchers("a=b, c=d"), target=matchers("e!=f"), equal=("service",)),),
    policy="é",
)


@dataclass(frozen=True, slots=True)
class Stored:
    """A store and its reader."""

    store: Store
    reader: RoutingReader

    async def put(self, *versions: StoredTree) -> None:
        for each in versions:
            async with self.store.transaction() as transaction:
                await transaction.routing.lock()
                await transaction.routing.insert(each)


class RoutingStoreContract(ABC):
    """What both do."""

    @abstractmethod
    @pytest.fixture
    def stored(self, database: str) -> Stored | AsyncIterator[Stored]: ...

    async def test_at_first_there_is_no_tree(self, stored: Stored) -> None:
        assert await stored.reader.version() == ""
        assert await stored.reader.newest() is None
        assert await stored.reader.list_page(Page()) == []
        async with stored.store.transaction() as transaction:
            assert await transaction.routing.lock() is None

    async def test_a_tree_comes_back_as_it_was(self, stored: Stored) -> None:
        first, second = a_stored_tree(TREE, comment="é\n"), a_stored_tree(version=2, author="bob")
        await stored.put(first, second)
        assert await stored.reader.get(1) == first
        assert await stored.reader.newest() == second
        assert await stored.reader.get(3) is None
        async with stored.store.transaction() as transaction:
            assert await transaction.routing.lock() == second
            assert await transaction.routing.get(1) == first

    async def test_pages_begin_with_the_newest(self, stored: Stored) -> None:
        assert await stored.reader.list_page(Page()) == []
        await stored.put(*(a_stored_tree(version=n) for n in range(1, 5)))
        assert [each.version for each in await stored.reader.list_page(Page(size=1))] == [4, 3]
        assert await stored.reader.list_page(Page(size=5, after=("3",))) == [
            version_of(a_stored_tree(version=n)) for n in (2, 1)
        ]

    async def test_the_oldest_versions_are_deleted(self, stored: Stored) -> None:
        await stored.put(a_stored_tree(), a_stored_tree(version=1000))
        assert [each.version for each in await stored.reader.list_page(Page())] == [1000, 1]
        await stored.put(a_stored_tree(version=1001))
        assert [each.version for each in await stored.reader.list_page(Page())] == [1001, 1000]

    async def test_a_cache_follows_all_changes(self, stored: Stored) -> None:
        cache = RoutingCache(stored.reader)
        await cache.refresh()
        assert cache.current is None
        for version in (1, 2):
            await stored.put(a_stored_tree(TREE, version))
            await cache.refresh()
            current = cache.current
            assert current == a_stored_tree(TREE, version)
            await cache.refresh()
            assert cache.current is current


class TestMemory(RoutingStoreContract):
    @pytest.fixture
    def stored(self) -> Stored:
        store = MemoryStore()
        return Stored(store, MemoryRoutingReader(store))


@pytest.mark.integration
class TestPostgres(RoutingStoreContract):
    @pytest.fixture
    async def stored(self, database: str) -> AsyncIterator[Stored]:
        settings = PostgresSettings(database_url=Secret(database))
        await migrate(settings, schema=SCHEMA, scripts=MIGRATIONS)
        async with connect(settings, schema=SCHEMA) as opened:
            yield Stored(PostgresStore(opened), PostgresRoutingReader(opened))

    async def test_of_two_at_once_the_second_sees_what_the_first_wrote(self, stored: Stored) -> None:
        async def set_next() -> int:
            async with stored.store.transaction() as transaction:
                newest = await transaction.routing.lock()
                version = newest.version + 1 if newest else 1
                await transaction.routing.insert(a_stored_tree(version=version))
                return version

        assert sorted(await asyncio.gather(*(set_next() for _ in range(5)))) == [1, 2, 3, 4, 5]
