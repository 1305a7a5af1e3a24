"""Read people, schedules, escalation policies and overrides, and write them in a transaction."""

from collections.abc import Sequence

from asyncpg import Record

from services.chassis.postgres import Connection, Database
from services.chassis.tenants import current_tenant
from services.manager.adapters.postgres import ON_CALL_CHANGED
from services.manager.adapters.postgres.alert_rows import columns
from services.manager.adapters.postgres.on_call_documents import document_of, stored_resource_of
from services.manager.core.on_call import ScheduleOverride
from services.manager.core.on_call_records import OnCallEdit, OnCallKind, OnCallRecord, OnCallSnapshot

_OVERRIDE = "id, schedule, person, start_time, end_time, actor, create_time"
# ruff: noqa: S608  (made of our own column names)
_SELECT_VERSION = "SELECT epoch, revision FROM on_call_revision WHERE tenant = $1"
# In one statement, so that the revision and what it has belong together.
_SELECT_RESOURCES = """
SELECT newest.epoch, newest.revision AS newest_revision, resource.*
FROM on_call_revision AS newest LEFT JOIN on_call_resources AS resource ON resource.tenant = newest.tenant
WHERE newest.tenant = $1
"""
# Of the same moment when the revision is: in the order in which they were created.
_SELECT_OVERRIDES = f"""
SELECT newest.revision, {_OVERRIDE}
FROM on_call_revision AS newest LEFT JOIN on_call_overrides AS override ON override.tenant = newest.tenant
WHERE newest.tenant = $1
ORDER BY create_time, id
"""
_LOCK = "SELECT revision + 1 FROM on_call_revision WHERE tenant = $1 FOR UPDATE"
_SET_REVISION = "UPDATE on_call_revision SET revision = $2 WHERE tenant = $1"
_UPSERT = """
INSERT INTO on_call_resources (tenant, kind, name, document, revision, create_time, update_time)
SELECT $1, kind, name, document::jsonb, revision, create_time, update_time
FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[], $6::timestamptz[], $7::timestamptz[])
AS written (kind, name, document, revision, create_time, update_time)
ON CONFLICT (tenant, kind, name) DO UPDATE SET
    document = excluded.document, revision = excluded.revision, update_time = excluded.update_time
"""
_DELETE = """
DELETE FROM on_call_resources USING unnest($2::text[], $3::text[]) AS gone (kind, name)
WHERE tenant = $1 AND on_call_resources.kind = gone.kind AND on_call_resources.name = gone.name
"""
_INSERT_OVERRIDE = f"INSERT INTO on_call_overrides (tenant, {_OVERRIDE}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
_DELETE_OVERRIDES = "DELETE FROM on_call_overrides WHERE tenant = $1 AND id = ANY($2)"


class PostgresOnCall:
    """Tables on_call_resources and on_call_overrides, in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def lock(self) -> int:
        return int(await self._connection.fetchval(_LOCK, current_tenant()))

    async def load(self) -> OnCallSnapshot:
        resources = await self._connection.fetch(_SELECT_RESOURCES, current_tenant())
        return _snapshot_of(resources, await self._connection.fetch(_SELECT_OVERRIDES, current_tenant()))

    async def save(self, edit: OnCallEdit, revision: int) -> None:
        if edit.upserted:
            await self._connection.execute(_UPSERT, current_tenant(), *columns([_row(each) for each in edit.upserted]))
        if edit.deleted:
            await self._connection.execute(
                _DELETE, current_tenant(), *columns([(kind.value, name) for kind, name in edit.deleted])
            )
        if edit.deleted_overrides:
            await self._connection.execute(_DELETE_OVERRIDES, current_tenant(), list(edit.deleted_overrides))
        for each in edit.new_overrides:
            await self._connection.execute(_INSERT_OVERRIDE, current_tenant(), *_override_row(each))
        await self._connection.execute(_SET_REVISION, current_tenant(), revision)
        await self._connection.execute("SELECT pg_notify($1, $2)", ON_CALL_CHANGED, str(revision))


class PostgresOnCallReader:
    """The same tables, outside of transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def version(self) -> str:
        row = await self._database.fetchrow(_SELECT_VERSION, current_tenant())
        return f"{row['epoch']}.{row['revision']}" if row else ""

    async def snapshot(self) -> OnCallSnapshot:
        while True:
            resources = await self._database.fetch(_SELECT_RESOURCES, current_tenant())
            overrides = await self._database.fetch(_SELECT_OVERRIDES, current_tenant())
            # Otherwise something was written in between.
            if overrides[0]["revision"] == resources[0]["newest_revision"]:
                return _snapshot_of(resources, overrides)


def _snapshot_of(resources: Sequence[Record], overrides: Sequence[Record]) -> OnCallSnapshot:
    records = [_record_of(row) for row in resources if row["name"] is not None]
    return OnCallSnapshot(
        revision=resources[0]["newest_revision"],
        epoch=resources[0]["epoch"],
        records={record.key: record for record in records},
        overrides=tuple(_override_of(row) for row in overrides if row["id"] is not None),
    )


def _record_of(row: Record) -> OnCallRecord:
    return OnCallRecord(
        value=stored_resource_of(OnCallKind(row["kind"]), row["document"]),
        revision=row["revision"],
        create_time=row["create_time"],
        update_time=row["update_time"],
    )


def _override_of(row: Record) -> ScheduleOverride:
    return ScheduleOverride(
        id=row["id"],
        schedule=row["schedule"],
        person=row["person"],
        start_time=row["start_time"],
        end_time=row["end_time"],
        actor=row["actor"],
        create_time=row["create_time"],
    )


def _row(record: OnCallRecord) -> tuple[object, ...]:
    kind, name = record.key
    return kind.value, name, document_of(record.value), record.revision, record.create_time, record.update_time


def _override_row(override: ScheduleOverride) -> tuple[object, ...]:
    """Return the values of _OVERRIDE."""
    return (
        override.id,
        override.schedule,
        override.person,
        override.start_time,
        override.end_time,
        override.actor,
        override.create_time,
    )
