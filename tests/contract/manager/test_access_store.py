"""What the manager relies on from the store of keys and of the audit log, in memory and in PostgreSQL alike."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import asyncpg
import pytest

from services.chassis.migrations import migrate
from services.chassis.postgres import Database, connect
from services.chassis.settings import PostgresSettings, Secret
from services.contract.audit_records import decode_audit_record
from services.contract.topics import AUDIT_LOG
from services.domain.audit_record import AuditOutcome, AuditRecord
from services.domain.roles import Role
from services.manager.adapters.key_source import StoredKeySource
from services.manager.adapters.postgres.api_keys import PostgresApiKeyReader
from services.manager.adapters.postgres.audit import PostgresAuditReader, set_audit_retention
from services.manager.adapters.postgres.retention import PostgresRetention
from services.manager.adapters.postgres.store import PostgresStore
from services.manager.app import MIGRATIONS, SCHEMA
from services.manager.core.api_keys import ApiKey, ApiKeyFilter, ApiKeyState, revoke_key
from services.manager.core.audit_filter import AuditFilter
from services.manager.ports.access import ApiKeyReader, AuditReader
from services.manager.ports.readers import Page, RetentionCutoffs
from services.manager.ports.tables import Store
from services.manager.worker.audit import StoredAuditSink
from tests.fakes.access import MemoryApiKeyReader, MemoryAuditReader, a_key, an_audit_record
from tests.fakes.clock import FakeClock
from tests.fakes.manager import MemoryStore
from tests.fakes.transitions import NOW

HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Stored:
    """A store and its readers."""

    store: Store
    keys: ApiKeyReader
    audit: AuditReader

    async def put(self, *keys: ApiKey) -> None:
        async with self.store.transaction() as transaction:
            await transaction.api_keys.lock()
            for key in keys:
                await transaction.api_keys.upsert(key)

    async def append(self, *records: AuditRecord) -> list[str]:
        async with self.store.transaction() as transaction:
            return [record.id for record in await transaction.audit.insert(records)]

    async def listed(self, wanted: AuditFilter, size: int = 2) -> list[AuditRecord]:
        found: list[AuditRecord] = []
        page = Page(size=size)
        while rows := await self.audit.list_page(wanted, page):
            found += rows[:size]
            if len(rows) <= size:
                break
            page = Page(size=size, after=(found[-1].create_time.isoformat(), found[-1].id))
        return found


class AccessStoreContract(ABC):
    """What both do."""

    @pytest.fixture
    @abstractmethod
    def stored(self, database: str) -> Any: ...

    async def test_a_key_comes_back_as_it_was_to_its_tenant_alone(self, stored: Stored) -> None:
        key = a_key(role=Role.INGEST, services=("a", "b"), expire_time=NOW + HOUR)
        await stored.put(key)
        async with stored.store.transaction() as transaction:
            assert await transaction.api_keys.get_for_update("default", key.id) == key
            assert await transaction.api_keys.get_for_update("shop", key.id) is None
            assert await transaction.api_keys.get_for_update("default", "nobody") is None
            assert await transaction.api_keys.count(NOW) == 1
            assert await transaction.api_keys.count(NOW + HOUR) == 0

    async def test_of_a_stored_key_only_its_revocation_changes(self, stored: Stored) -> None:
        await stored.put(a_key())
        await stored.put(replace(revoke_key(a_key(), revoker="bob", now=NOW), name="other", role=Role.ADMIN))
        (found,) = await stored.keys.list_page(ApiKeyFilter(tenant="default"), Page(), NOW)
        assert found == revoke_key(a_key(), revoker="bob", now=NOW)

    async def test_the_last_use_of_a_key_only_moves_forward_and_is_no_new_version(self, stored: Stored) -> None:
        await stored.put(a_key(id="a"), a_key(id="b", tenant="shop"), a_key(id="c"))
        version, source = await stored.keys.version(), StoredKeySource(stored.store, stored.keys, FakeClock(NOW))
        await source.report({"a": NOW + HOUR, "b": NOW, "nobody": NOW})
        await source.report({"a": NOW, "b": NOW + HOUR})
        await source.report({})

        keys = {key.id: key.last_use_time for key in (await stored.keys.list_valid(NOW))[1]}
        assert keys == {"a": NOW + HOUR, "b": NOW + HOUR, "c": None}
        assert await stored.keys.version() == version
        # Nor does a revocation change it.
        async with stored.store.transaction() as transaction:
            key = await transaction.api_keys.get_for_update("default", "a")
            assert key is not None
        await stored.put(revoke_key(a_key(id="a"), revoker="bob", now=NOW))
        (found, *_) = await stored.keys.list_page(
            ApiKeyFilter(tenant="default", states=frozenset({ApiKeyState.REVOKED})), Page(), NOW
        )
        assert (found.last_use_time, found.revoker) == (NOW + HOUR, "bob")

    async def test_the_valid_keys_of_all_tenants_have_a_version_of_their_own(self, stored: Stored) -> None:
        source = StoredKeySource(stored.store, stored.keys, FakeClock(NOW))
        empty = await source.read("")
        assert empty is not None
        assert empty.keys == {}
        await stored.put(
            a_key(id="a"),
            a_key(id="b", tenant="shop"),
            a_key(id="c", expire_time=NOW),
            revoke_key(a_key(id="d"), revoker="", now=NOW),
        )
        snapshot = await source.read(empty.etag)
        assert snapshot is not None
        assert set(snapshot.keys) == {"a", "b"}
        assert await stored.keys.version() == snapshot.etag != empty.etag
        assert await source.read(snapshot.etag) is None

    async def test_keys_are_listed_with_the_newest_first(self, stored: Stored) -> None:
        keys = [
            a_key(
                id=f"{n}x",
                name="ab"[n % 2],
                tenant=["default", "shop"][n == 5],
                create_time=NOW + timedelta(seconds=n // 2),
                expire_time=NOW if n == 1 else None,
                revoke_time=NOW if n == 2 else None,
            )
            for n in range(6)
        ]
        await stored.put(*keys)
        for wanted in (
            ApiKeyFilter(tenant="default"),
            ApiKeyFilter(tenant="shop"),
            ApiKeyFilter(tenant="default", name="b"),
            *(ApiKeyFilter(tenant="default", states=frozenset({state})) for state in ApiKeyState),
            ApiKeyFilter(tenant="default", states=frozenset({ApiKeyState.ACTIVE, ApiKeyState.EXPIRED})),
        ):
            expected = [key.id for key in reversed(keys) if wanted.selects(key, NOW)]
            found = [key.id for key in await stored.keys.list_page(wanted, Page(), NOW)]
            assert found == expected
        after = ((NOW + timedelta(seconds=1)).isoformat(), "3x")
        rows = await stored.keys.list_page(ApiKeyFilter(tenant="default"), Page(size=1, after=after), NOW)
        assert [key.id for key in rows] == ["2x", "1x"]

    async def test_an_entry_is_appended_once(self, stored: Stored) -> None:
        assert await stored.append(an_audit_record(id="a"), an_audit_record(id="b")) == ["a", "b"]
        assert await stored.append(an_audit_record(id="b", actor="x"), an_audit_record(id="c")) == ["c"]
        assert await stored.append() == []
        assert [record.actor for record in await stored.listed(AuditFilter(tenant="default"))] == ["ci"] * 3

    async def test_pages_and_filters_of_the_audit_log_agree_with_the_values(self, stored: Stored) -> None:
        records = [
            an_audit_record(
                id=f"{n}",
                create_time=NOW + timedelta(seconds=n // 2),
                tenant=["default", "shop"][n == 7],
                actor="ab"[n % 2],
                method=f"tocsin.x.v1.X/{['Create', 'Delete', '100%_'][n % 3]}",
                resource=f"r{n % 4}",
                outcome=list(AuditOutcome)[n % 3],
                count=n + 1,
                role=["", "admin"][n % 2],
            )
            for n in range(8)
        ]
        await stored.append(*records)
        for filters in (
            {},
            {"tenant": "shop"},
            {"actor": "a"},
            {"method": "CREATE"},
            {"method": "%"},
            {"method": "_"},
            {"resource": "r1"},
            {"outcomes": frozenset({AuditOutcome.REFUSED, AuditOutcome.FAILED})},
            {"after": NOW + timedelta(seconds=1), "before": NOW + timedelta(seconds=3)},
        ):
            wanted = AuditFilter(**{"tenant": "default"} | filters)
            assert await stored.listed(wanted) == [each for each in reversed(records) if wanted.selects(each)]


class TestMemoryAccessStore(AccessStoreContract):
    @pytest.fixture
    def stored(self) -> Stored:
        store = MemoryStore()
        return Stored(store, MemoryApiKeyReader(store), MemoryAuditReader(store))

    async def test_what_the_manager_writes_is_published_once(self, stored: Stored) -> None:
        sink = StoredAuditSink(stored.store)
        await sink.write([an_audit_record()])
        await sink.write([an_audit_record()])
        assert isinstance(stored.store, MemoryStore)
        assert stored.store.tables.access.published == [an_audit_record()]


@pytest.mark.integration
class TestPostgresAccessStore(AccessStoreContract):
    @pytest.fixture
    async def database_of(self, database: str) -> AsyncIterator[Database]:
        settings = PostgresSettings(database_url=Secret(database))
        await migrate(settings, schema=SCHEMA, scripts=MIGRATIONS)
        async with connect(settings, schema=SCHEMA) as opened:
            yield opened

    @pytest.fixture
    def stored(self, database_of: Database) -> Stored:
        return Stored(PostgresStore(database_of), PostgresApiKeyReader(database_of), PostgresAuditReader(database_of))

    async def test_what_the_manager_writes_is_published_once(self, stored: Stored, database_of: Database) -> None:
        sink = StoredAuditSink(stored.store)
        await sink.write([an_audit_record()])
        await sink.write([an_audit_record()])
        (row,) = await database_of.fetch("SELECT topic, value FROM outbox")
        assert (row["topic"], decode_audit_record(row["value"])) == (AUDIT_LOG, an_audit_record())

    async def test_a_text_with_a_nul_is_stored_without_it(self, stored: Stored) -> None:
        await stored.append(an_audit_record(resource="a\0b"))
        (found,) = await stored.listed(AuditFilter(tenant="default"))
        assert found.resource == "a\N{REPLACEMENT CHARACTER}b"

    async def test_nothing_changes_the_audit_log(self, stored: Stored, database_of: Database) -> None:
        await stored.append(an_audit_record(create_time=NOW - 999 * HOUR))
        async with database_of.pool.acquire() as connection:
            for statement in (
                "UPDATE audit_log SET actor = 'other'",
                "DELETE FROM audit_log",
                "TRUNCATE audit_log",
                "SET tocsin.purges_audit_log = 'on'; UPDATE audit_log SET actor = 'other'",
                "SET tocsin.purges_audit_log = 'on'; TRUNCATE audit_log",
            ):
                with pytest.raises(asyncpg.InsufficientPrivilegeError, match=r"append-only|permission denied"):
                    await connection.execute(statement)
        assert len(await stored.listed(AuditFilter(tenant="default"))) == 1

    async def test_retention_deletes_what_has_expired_and_nothing_that_the_owner_keeps(
        self, stored: Stored, database_of: Database, database: str
    ) -> None:
        now = datetime.now(UTC)  # the trigger asks the database's clock
        await keep_audit_log(database, 40 * HOUR)
        await stored.append(
            an_audit_record(id="old", create_time=now - 100 * HOUR),
            an_audit_record(id="kept", create_time=now - 50 * HOUR),
            an_audit_record(id="new", create_time=now),
        )
        await stored.put(
            a_key(id="expired", expire_time=now - 100 * HOUR),
            revoke_key(a_key(id="revoked"), revoker="", now=now - 100 * HOUR),
            a_key(id="ended later", expire_time=now - 50 * HOUR),
            a_key(id="valid", create_time=now - 999 * HOUR),
        )
        retention = PostgresRetention(database_of)
        assert await retention.purge(cutoffs(now - 60 * HOUR)) == 3
        wanted = AuditFilter(tenant="default")
        assert [record.id for record in await stored.listed(wanted)] == ["new", "kept"]
        keys = await stored.keys.list_page(ApiKeyFilter(tenant="default"), Page(), now)
        assert {key.id for key in keys} == {"ended later", "valid"}
        assert await retention.purge(cutoffs(now + HOUR)) == 2
        assert [record.id for record in await stored.listed(wanted)] == ["new"]

    async def test_the_service_deletes_nothing_that_the_owner_keeps_whatever_it_does(
        self, stored: Stored, database_of: Database, database: str
    ) -> None:
        now = datetime.now(UTC)
        await keep_audit_log(database, 40 * HOUR)
        await stored.append(
            an_audit_record(id="old", create_time=now - 41 * HOUR),
            an_audit_record(id="kept", create_time=now - 39 * HOUR),
        )
        async with database_of.pool.acquire() as connection:
            for attempt in (
                "CREATE OR REPLACE FUNCTION audit_retention() RETURNS interval LANGUAGE sql AS 'SELECT NULL::interval'",
                "DROP FUNCTION audit_retention()",
                "ALTER TABLE audit_log DISABLE TRIGGER audit_log_is_append_only",
                "SET session_replication_role = replica",
            ):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(attempt)
            async with connection.transaction():
                await connection.execute("SET LOCAL search_path = pg_temp, pg_catalog; SET LOCAL TimeZone = 'UTC-14'")
                # As the former release does: what is too young is left out, and nothing fails.
                await connection.execute("SET LOCAL tocsin.purges_audit_log = 'on'")
                assert await connection.execute("DELETE FROM manager.audit_log") == "DELETE 1"
        assert [record.id for record in await stored.listed(AuditFilter(tenant="default"))] == ["kept"]

    async def test_the_last_migration_says_what_is_kept(self, database: str, database_of: Database) -> None:
        for retention in (40 * HOUR, 400 * 24 * HOUR, 40 * HOUR):
            await asyncio.gather(*(keep_audit_log(database, retention) for _ in range(3)))
            (row,) = await database_of.fetch("SELECT audit_retention()")
            assert row[0] == retention


async def keep_audit_log(database: str, retention: timedelta) -> None:
    """Migrate as a manager does whose setting this is."""
    await migrate(
        PostgresSettings(database_url=Secret(database)),
        schema=SCHEMA,
        scripts=MIGRATIONS,
        afterwards=partial(set_audit_retention, schema=SCHEMA, retention=retention),
    )


def cutoffs(audit: datetime) -> RetentionCutoffs:
    """Return cutoffs by which nothing expires but entries of the audit log and keys."""
    long_ago = NOW - 99_999 * HOUR
    others = dict.fromkeys(("alerts", "incidents", "transitions", "requests", "changes", "silences"), long_ago)
    return RetentionCutoffs(**others, audit=audit)
