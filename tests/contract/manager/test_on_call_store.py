"""What the manager relies on from the store of people, schedules and policies, in memory and in PostgreSQL alike."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from services.chassis.migrations import migrate
from services.chassis.postgres import connect
from services.chassis.settings import PostgresSettings, Secret
from services.manager.adapters.postgres.on_call import PostgresOnCallReader
from services.manager.adapters.postgres.store import PostgresStore
from services.manager.adapters.tenant_caches import OnCallCache
from services.manager.app import MIGRATIONS, SCHEMA
from services.manager.core.on_call_records import OnCallEdit, OnCallKind, OnCallResource, apply_resources
from services.manager.ports.readers import OnCallReader
from services.manager.ports.tables import Store
from tests.fakes.manager import MemoryStore
from tests.fakes.manager_readers import MemoryOnCallReader
from tests.fakes.on_call import BERLIN, a_person, a_policy, a_schedule, an_override, full_policy, full_schedule
from tests.fakes.transitions import NOW


@dataclass(frozen=True, slots=True)
class Stored:
    """A store and its reader."""

    store: Store
    reader: OnCallReader

    async def put(self, *values: OnCallResource) -> int:
        """Write resources at one revision, and return it."""
        async with self.store.transaction() as transaction:
            revision = await transaction.on_call.lock()
            applied = apply_resources(await transaction.on_call.load(), values, revision, now=NOW)
            edit = OnCallEdit(upserted=tuple(each.record for each in applied))
            await transaction.on_call.save(edit, revision)
        return revision

    async def save(self, edit: OnCallEdit) -> None:
        async with self.store.transaction() as transaction:
            await transaction.on_call.save(edit, await transaction.on_call.lock())


ANN = a_person(display_name="Ann é", zone=BERLIN, receivers=("pager", "mail"))


class OnCallContract(ABC):
    @pytest.fixture
    @abstractmethod
    def stored(self) -> Stored: ...

    async def test_resources_come_back_as_they_were(self, stored: Stored) -> None:
        values = (ANN, full_schedule(), a_schedule(), full_policy(), a_policy())
        assert await stored.put(*values) == 1
        snapshot = await stored.reader.snapshot()
        assert {record.value for record in snapshot.records.values()} == set(values)
        record = snapshot.records[OnCallKind.PERSON, "ann"]
        assert (record.revision, record.create_time, record.update_time) == (1, NOW, NOW)
        async with stored.store.transaction() as transaction:
            assert await transaction.on_call.load() == snapshot

    async def test_a_written_resource_replaces_the_former_one(self, stored: Stored) -> None:
        await stored.put(ANN, a_policy(ANN.name))
        changed = replace(ANN, receivers=("mail",))
        assert await stored.put(changed) == 2
        snapshot = await stored.reader.snapshot()
        assert snapshot.records[OnCallKind.PERSON, "ann"].value == changed
        assert snapshot.records[OnCallKind.POLICY, "ann"].revision == 1

    async def test_a_deleted_resource_is_gone_and_others_of_its_name_stay(self, stored: Stored) -> None:
        await stored.put(ANN, a_policy("ann"), a_person("ben"))
        await stored.save(OnCallEdit(deleted=((OnCallKind.PERSON, "ann"),)))
        snapshot = await stored.reader.snapshot()
        assert set(snapshot.records) == {(OnCallKind.POLICY, "ann"), (OnCallKind.PERSON, "ben")}

    async def test_overrides_come_back_in_the_order_in_which_they_were_created(self, stored: Stored) -> None:
        late = an_override("a", create_time=NOW + timedelta(seconds=1))
        early = an_override("b", start_time=NOW + timedelta(hours=1))
        await stored.save(OnCallEdit(new_overrides=(early,)))
        await stored.save(OnCallEdit(new_overrides=(late,)))
        assert (await stored.reader.snapshot()).overrides == (early, late)
        await stored.save(OnCallEdit(deleted_overrides=("b", "unknown")))
        assert (await stored.reader.snapshot()).overrides == (late,)

    async def test_a_cache_follows_all_changes(self, stored: Stored) -> None:
        cache = OnCallCache(stored.reader)
        await cache.refresh()
        assert cache.current.people == {}
        await stored.put(ANN, a_person("ben"), a_schedule())
        await cache.refresh()
        directory = cache.current
        assert set(directory.people) == {"ann", "ben"}
        await cache.refresh()
        assert cache.current is directory
        before = directory.on_call("payments", NOW)
        await stored.save(OnCallEdit(new_overrides=(an_override(person="cem"),)))
        await cache.refresh()
        assert (before, cache.current.on_call("payments", NOW)) == (("ann",), ("cem",))
        assert cache.current.revision == cache.snapshot.revision == 2

    async def test_changes_are_made_one_after_the_other(self, stored: Stored) -> None:
        await asyncio.gather(*(stored.put(a_person(f"p{n}")) for n in range(5)))
        snapshot = await stored.reader.snapshot()
        assert sorted(record.revision for record in snapshot.records.values()) == [1, 2, 3, 4, 5]


class TestMemory(OnCallContract):
    @pytest.fixture
    def stored(self) -> Stored:
        store = MemoryStore()
        return Stored(store, MemoryOnCallReader(store))


@pytest.mark.integration
class TestPostgres(OnCallContract):
    @pytest.fixture
    async def stored(self, database: str) -> AsyncIterator[Stored]:
        settings = PostgresSettings(database_url=Secret(database))
        await migrate(settings, schema=SCHEMA, scripts=MIGRATIONS)
        async with connect(settings, schema=SCHEMA) as opened:
            yield Stored(PostgresStore(opened), PostgresOnCallReader(opened))
