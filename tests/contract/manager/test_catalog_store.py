"""What the manager relies on from the store of its catalog, in memory and in PostgreSQL alike."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from services.chassis.migrations import migrate
from services.chassis.postgres import connect
from services.chassis.settings import PostgresSettings, Secret
from services.manager.adapters.postgres.catalog import PostgresCatalogReader
from services.manager.adapters.postgres.store import PostgresStore
from services.manager.adapters.tenant_caches import CatalogCache
from services.manager.app import MIGRATIONS, SCHEMA
from services.manager.core.catalog import ServiceEntry, StoredService
from services.manager.ports.readers import CatalogReader
from services.manager.ports.tables import Store
from tests.fakes.manager import MemoryStore
from tests.fakes.manager_readers import MemoryCatalogReader
from tests.fakes.transitions import NOW

ENTRY = ServiceEntry(
    name="pay",
    owner="team-pay",
    tier="1",
    description='"quotes" and\nlines',
    links={"runbook": "https://r"},
    labels={"team": "pay", "a": ""},
    depends_on=("bank", "ledger"),
)


@dataclass(frozen=True, slots=True)
class Stored:
    """A store and its reader."""

    store: Store
    catalog: CatalogReader


async def write(stored: Stored, *entries: ServiceEntry) -> int:
    """Write entries at one revision, and return it."""
    async with stored.store.transaction() as transaction:
        revision = await transaction.catalog.lock()
        await transaction.catalog.upsert(
            [StoredService(entry=entry, revision=revision, create_time=NOW, update_time=NOW) for entry in entries]
        )
    return revision


async def delete(stored: Stored, name: str) -> None:
    async with stored.store.transaction() as transaction:
        await transaction.catalog.delete(name, await transaction.catalog.lock())


class CatalogContract(ABC):
    @pytest.fixture
    @abstractmethod
    def stored(self) -> Stored: ...

    async def test_services_come_back_as_they_were(self, stored: Stored) -> None:
        other = ServiceEntry(name="Bänk \N{SNOWMAN}")
        assert await write(stored, ENTRY, other) == 1
        async with stored.store.transaction() as transaction:
            found = await transaction.catalog.load(["pay", "nobody"])
            assert await transaction.catalog.count() == 2
        assert {name: each.entry for name, each in found.items()} == {"pay": ENTRY}
        whole = await stored.catalog.snapshot()
        assert (whole.revision, {each.entry.name: each.entry for each in whole.services}) == (
            1,
            {"pay": ENTRY, other.name: other},
        )
        assert whole.services[0].create_time == NOW

    async def test_a_written_service_replaces_the_former_one_with_its_dependencies(self, stored: Stored) -> None:
        await write(stored, ENTRY, ServiceEntry(name="bank", depends_on=("ledger",)))
        after = replace(ENTRY, labels={}, links={}, depends_on=("bank", "cache"))
        assert await write(stored, after) == 2
        whole = {each.entry.name: each for each in (await stored.catalog.snapshot()).services}
        assert (whole["pay"].entry, whole["pay"].revision) == (after, 2)
        assert (whole["bank"].entry.depends_on, whole["bank"].revision) == (("ledger",), 1)

    async def test_what_was_written_since_a_revision_is_known_until_something_is_deleted(self, stored: Stored) -> None:
        assert (await stored.catalog.snapshot()).services == ()
        await write(stored, ENTRY)
        first = await stored.catalog.version()
        await write(stored, ServiceEntry(name="bank"))
        assert await stored.catalog.version() != first
        changes = await stored.catalog.changes_since(1)
        assert changes is not None
        assert (changes.revision, [each.entry.name for each in changes.services]) == (2, ["bank"])
        await delete(stored, "pay")
        assert await stored.catalog.changes_since(2) is None
        nothing = await stored.catalog.changes_since(3)
        assert nothing is not None
        assert nothing.services == ()
        assert [each.entry.name for each in (await stored.catalog.snapshot()).services] == ["bank"]

    async def test_a_deleted_service_may_come_back_without_its_dependencies(self, stored: Stored) -> None:
        await write(stored, ENTRY)
        await delete(stored, "pay")
        await write(stored, ServiceEntry(name="pay"))
        (only,) = (await stored.catalog.snapshot()).services
        assert only.entry == ServiceEntry(name="pay")

    async def test_edits_at_once_have_revisions_of_their_own(self, stored: Stored) -> None:
        revisions = await asyncio.gather(*(write(stored, ServiceEntry(name=f"s{n}")) for n in range(8)))
        assert sorted(revisions) == list(range(1, 9))
        assert (await stored.catalog.snapshot()).revision == 8

    async def test_the_cache_follows_what_is_written_and_deleted(self, stored: Stored) -> None:
        cache = CatalogCache(stored.catalog)
        await cache.refresh()
        assert cache.current.services == {}
        await write(stored, ENTRY, ServiceEntry(name="bank"))
        await cache.refresh()
        before = cache.current
        assert before.entry_of("pay") == ENTRY
        await cache.refresh()
        assert cache.current is before
        await write(stored, ServiceEntry(name="bank", owner="b"))
        await cache.refresh()
        assert sorted((name, each.entry.owner) for name, each in cache.current.services.items()) == [
            ("bank", "b"),
            ("pay", "team-pay"),
        ]
        await delete(stored, "pay")
        await cache.refresh()
        assert set(cache.current.services) == {"bank"}
        assert cache.current.version == await stored.catalog.version()


class TestMemoryCatalog(CatalogContract):
    @pytest.fixture
    def stored(self) -> Stored:
        store = MemoryStore()
        return Stored(store, MemoryCatalogReader(store))


@pytest.mark.integration
class TestPostgresCatalog(CatalogContract):
    @pytest.fixture
    async def stored(self, database: str) -> AsyncIterator[Stored]:
        settings = PostgresSettings(database_url=Secret(database))
        await migrate(settings, schema=SCHEMA, scripts=MIGRATIONS)
        async with connect(settings, schema=SCHEMA) as opened:
            yield Stored(PostgresStore(opened), PostgresCatalogReader(opened))
