"""Read the audit log, and append to it in a transaction."""

from collections.abc import Sequence
from dataclasses import astuple, fields
from datetime import datetime, timedelta
from typing import Any

from asyncpg import Record

from services.chassis.outbox import OutboxRecord, put_all
from services.chassis.postgres import Connection, Database
from services.contract.audit_records import encode_audit_record
from services.contract.paging import key_time
from services.contract.topics import AUDIT_LOG
from services.domain.audit_record import AuditOutcome, AuditRecord
from services.manager.core.audit_filter import AuditFilter
from services.manager.ports.readers import Page

_NAMES = [field.name for field in fields(AuditRecord)]
_COLUMNS = ", ".join(_NAMES)
_TYPES = {"create_time": "timestamptz", "count": "integer"}
_ARRAYS = ", ".join(f"${n}::{_TYPES.get(name, 'text')}[]" for n, name in enumerate(_NAMES, 1))
# ruff: noqa: S608  (made of our own column names)
_INSERT = f"""
INSERT INTO audit_log ({_COLUMNS}) SELECT * FROM unnest({_ARRAYS}) ON CONFLICT (id) DO NOTHING RETURNING id
"""
_SELECT_PAGE = f"""
SELECT {_COLUMNS} FROM audit_log
WHERE tenant = $1 AND ($2 = '' OR actor = $2) AND ($3 = '' OR resource = $3)
  AND ($4 = '' OR position(lower($4) IN lower(method)) > 0)
  AND (cardinality($5::text[]) = 0 OR outcome = ANY($5))
  AND ($6::timestamptz IS NULL OR create_time >= $6) AND ($7::timestamptz IS NULL OR create_time < $7)
  AND ($8::timestamptz IS NULL OR (create_time, id) < ($8, $9))
ORDER BY create_time DESC, id DESC LIMIT $10
"""
_ALLOW_PURGE = "SELECT set_config('tocsin.purges_audit_log', 'on', true)"
# As the trigger does, which lets nothing else be deleted.
_PURGE = """
DELETE FROM audit_log WHERE id IN (
    SELECT id FROM audit_log WHERE create_time < least($1, now() - audit_retention()) ORDER BY create_time LIMIT $2
    FOR UPDATE SKIP LOCKED)
RETURNING true
"""
_LOCK_RETENTION = "SELECT pg_advisory_xact_lock(hashtext('audit_retention'))"
_SELECT_RETENTION = 'SELECT "{schema}".audit_retention()'
_REPLACE_RETENTION = """
CREATE OR REPLACE FUNCTION "{schema}".audit_retention() RETURNS interval LANGUAGE sql STABLE
AS $$ SELECT make_interval(secs => {seconds}) $$
"""


class PostgresAudit:
    """Table audit_log, in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def insert(self, records: Sequence[AuditRecord]) -> Sequence[AuditRecord]:
        columns = zip(*(_row(record) for record in records), strict=True)
        rows = await self._connection.fetch(_INSERT, *map(list, columns)) if records else []
        new = {row["id"] for row in rows}
        return [record for record in records if record.id in new]

    async def publish(self, records: Sequence[AuditRecord]) -> None:
        published = [
            OutboxRecord(key=record.tenant.encode(), value=encode_audit_record(record), headers=[])
            for record in records
        ]
        await put_all(self._connection, AUDIT_LOG, published)


class PostgresAuditReader:
    """The same table, outside of transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_page(self, wanted: AuditFilter, page: Page) -> Sequence[AuditRecord]:
        after = (key_time(page.after[0]), page.after[1]) if page.after else (None, None)
        rows = await self._database.fetch(
            _SELECT_PAGE,
            wanted.tenant,
            wanted.actor,
            wanted.resource,
            wanted.method,
            [outcome.value for outcome in wanted.outcomes],
            wanted.after,
            wanted.before,
            *after,
            page.size + 1,
        )
        return [_record_of(row) for row in rows]


async def set_audit_retention(owner: Connection, *, schema: str, retention: timedelta) -> None:
    """Let nothing be deleted that is younger, with the connection of the user who owns the tables: no other one can."""
    async with owner.transaction():
        await owner.execute(_LOCK_RETENTION)
        if await owner.fetchval(_SELECT_RETENTION.format(schema=schema)) != retention:
            seconds = int(retention.total_seconds())
            await owner.execute(_REPLACE_RETENTION.format(schema=schema, seconds=seconds))


async def purge_audit_log(connection: Connection, cutoff: datetime, limit: int) -> int:
    """Delete up to so many entries from before a time, in the connection's transaction; return how many."""
    await connection.execute(_ALLOW_PURGE)
    return len(await connection.fetch(_PURGE, cutoff, limit))


def _row(record: AuditRecord) -> tuple[Any, ...]:
    """Return the values of _COLUMNS; PostgreSQL's texts have no NUL."""
    return tuple(
        value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value
        for value in astuple(record)
    )


def _record_of(row: Record) -> AuditRecord:
    return AuditRecord(**{**row, "outcome": AuditOutcome(row["outcome"])})
