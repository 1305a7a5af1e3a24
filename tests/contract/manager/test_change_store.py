"""What the manager relies on from the store of changes of services, in memory and in PostgreSQL alike."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import pytest

from services.chassis.migrations import migrate
from services.chassis.postgres import connect
from services.chassis.settings import PostgresSettings, Secret
from services.manager.adapters.postgres.service_changes import PostgresChangeReader
from services.manager.adapters.postgres.store import PostgresStore
from services.manager.app import MIGRATIONS, SCHEMA
from services.manager.core.service_changes import ChangeFilter, ServiceChange, ServiceChangeKind
from services.manager.ports.readers import ChangeReader, Page
from services.manager.ports.tables import Store
from tests.fakes.manager import MemoryStore
from tests.fakes.manager_readers import MemoryChangeReader
from tests.fakes.transitions import NOW

MINUTE = timedelta(minutes=1)
CHANGES = [
    ServiceChange(
        id=f"id-{n}",
        service="ab"[n % 2],
        kind=list(ServiceChangeKind)[n % 4],
        version=f"1.{n}",
        actor="ci",
        link="https://ci.example",
        time=NOW - (n // 2) * MINUTE,
        create_time=NOW,
    )
    for n in range(8)
]


@dataclass(frozen=True, slots=True)
class Stored:
    """A store and its reader."""

    store: Store
    changes: ChangeReader


class ChangeContract(ABC):
    @pytest.fixture
    @abstractmethod
    def stored(self) -> Stored: ...

    async def test_pages_and_filters_agree_with_the_values(self, stored: Stored) -> None:
        async with stored.store.transaction() as transaction:
            for change in CHANGES:
                await transaction.changes.insert(change)
            assert (await transaction.changes.count(100), await transaction.changes.count(3)) == (len(CHANGES), 3)
        for wanted in (
            ChangeFilter(),
            ChangeFilter(service="a"),
            ChangeFilter(kinds=(ServiceChangeKind.OTHER, ServiceChangeKind.DEPLOYMENT)),
            ChangeFilter(after=NOW - 2 * MINUTE, before=NOW),
            ChangeFilter(service="nobody"),
        ):
            expected = sorted(
                (change for change in CHANGES if wanted.selects(change)),
                key=lambda change: (change.time, change.id),
                reverse=True,
            )
            found: list[ServiceChange] = []
            page = Page(size=3)
            while rows := await stored.changes.list_page(wanted, page):
                found += rows[:3]
                if len(rows) <= 3:
                    break
                page = Page(size=3, after=(rows[2].time.isoformat(), rows[2].id))
            assert found == expected

    async def test_of_many_that_count_at_once_only_as_many_insert_as_there_is_room_for(self, stored: Stored) -> None:
        async def insert(change: ServiceChange) -> None:
            async with stored.store.transaction() as transaction:
                if await transaction.changes.count(3) < 3:
                    await transaction.changes.insert(change)

        await asyncio.gather(*map(insert, CHANGES))
        assert len(await stored.changes.list_page(ChangeFilter(), Page(size=len(CHANGES)))) == 3

    async def test_changes_of_some_services_between_two_times_are_found(self, stored: Stored) -> None:
        async with stored.store.transaction() as transaction:
            for change in CHANGES:
                await transaction.changes.insert(change)
        found = await stored.changes.list_between(["a", "nobody"], NOW - 2 * MINUTE, NOW - MINUTE)
        assert found == [CHANGES[2], CHANGES[4]]
        assert await stored.changes.list_between([], NOW - 2 * MINUTE, NOW) == []


class TestMemoryChanges(ChangeContract):
    @pytest.fixture
    def stored(self) -> Stored:
        store = MemoryStore()
        return Stored(store, MemoryChangeReader(store))


@pytest.mark.integration
class TestPostgresChanges(ChangeContract):
    @pytest.fixture
    async def stored(self, database: str) -> AsyncIterator[Stored]:
        settings = PostgresSettings(database_url=Secret(database))
        await migrate(settings, schema=SCHEMA, scripts=MIGRATIONS)
        async with connect(settings, schema=SCHEMA) as opened:
            yield Stored(PostgresStore(opened), PostgresChangeReader(opened))
