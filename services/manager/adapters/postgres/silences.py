"""Read silences, and write them in a transaction."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from asyncpg import Record

from services.chassis.postgres import Connection, Database
from services.chassis.tenants import current_tenant
from services.contract.paging import key_time
from services.domain.matchers import format_matchers, parse_matchers
from services.manager.adapters.postgres import SILENCES_CHANGED
from services.manager.core.recurrence import Recurrence
from services.manager.core.recurrence_text import parse_rule
from services.manager.core.silence import Silence
from services.manager.ports.readers import Page, SilenceChanges
from services.rule_language.label_regex import compile_regex

_COLUMNS = """
id, matchers, alert_ids, start_time, end_time, recurrence, author, comment, create_time, expire_time
"""
# ruff: noqa: S608  (made of our own column names)
_SELECT_ONE = f"SELECT {_COLUMNS} FROM silences WHERE tenant = $1 AND id = $2"
_IS_EXPIRED = "coalesce(least(expire_time, end_time) <= {}, false)"
_SELECT_PAGE = f"""
SELECT {_COLUMNS} FROM silences
WHERE tenant = $1 AND starts_with(id, $2) AND ($3::boolean IS NULL OR {_IS_EXPIRED.format("$4")} = $3)
  AND ($5::timestamptz IS NULL OR (create_time, id) < ($5, $6))
ORDER BY create_time DESC, id DESC LIMIT $7
"""
# In one statement, so that the revision and the silences belong together.
_SELECT_CHANGES = f"""
SELECT newest.revision AS newest_revision, newest.epoch, changed.*
FROM silence_revision AS newest
LEFT JOIN (
    SELECT {_COLUMNS} FROM silences WHERE tenant = $1 AND revision > $2 AND ($2 >= 0 OR NOT {_IS_EXPIRED.format("$3")})
) AS changed ON true
WHERE newest.tenant = $1
"""
_SELECT_VERSION = "SELECT epoch, revision FROM silence_revision WHERE tenant = $1"
_TAKE_REVISION = "UPDATE silence_revision SET revision = revision + 1 WHERE tenant = $1 RETURNING revision"
_COUNT = f"SELECT count(*) FROM silences WHERE tenant = $1 AND NOT {_IS_EXPIRED.format('$2')}"
_UPSERT = f"""
INSERT INTO silences ({_COLUMNS}, tenant, revision) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (tenant, id) DO UPDATE SET expire_time = excluded.expire_time, revision = excluded.revision
"""
_SELECT_RESOLVED = f"""
SELECT id FROM silences
WHERE tenant = $1 AND alert_ids <> '{{}}' AND NOT {_IS_EXPIRED.format("$2")}
  AND NOT EXISTS (SELECT FROM alerts WHERE alerts.tenant = $1 AND alerts.id = ANY(alert_ids) AND state <> 'RESOLVED')
"""
_EXPIRE = """
UPDATE silences SET expire_time = $3, revision = $4 WHERE tenant = $1 AND id = ANY($2) AND expire_time IS NULL
"""
# Rows that were never complete in memory are of no version.
_UNKNOWN = -1


class PostgresSilences:
    """Table silences, in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def take_revision(self) -> int:
        revision: int = await self._connection.fetchval(_TAKE_REVISION, current_tenant())
        await self._connection.execute("SELECT pg_notify($1, $2)", SILENCES_CHANGED, str(revision))
        return revision

    async def count(self, now: datetime) -> int:
        return int(await self._connection.fetchval(_COUNT, current_tenant(), now))

    async def get_for_update(self, silence_id: str) -> Silence | None:
        row = await self._connection.fetchrow(f"{_SELECT_ONE} FOR UPDATE", current_tenant(), silence_id)
        return _silence_of(row) if row else None

    async def upsert(self, silence: Silence, revision: int) -> None:
        await self._connection.execute(_UPSERT, *_row(silence), current_tenant(), revision)

    async def expire_resolved(self, now: datetime) -> int:
        ids = [row["id"] for row in await self._connection.fetch(_SELECT_RESOLVED, current_tenant(), now)]
        if ids:
            await self._connection.execute(_EXPIRE, current_tenant(), ids, now, await self.take_revision())
        return len(ids)


class PostgresSilenceReader:
    """The same table, outside of transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def version(self) -> str:
        row = await self._database.fetchrow(_SELECT_VERSION, current_tenant())
        return f"{row['epoch']}.{row['revision']}" if row else ""

    async def changes_since(self, version: str, now: datetime) -> SilenceChanges:
        epoch, _, number = version.rpartition(".")
        known = int(number) if number else _UNKNOWN
        rows = await self._database.fetch(_SELECT_CHANGES, current_tenant(), known, now)
        newest: int = rows[0]["newest_revision"]
        # Another database, or one restored from a backup, is read as a whole.
        if known != _UNKNOWN and (rows[0]["epoch"] != epoch or newest < known):
            return await self.changes_since("", now)
        silences = tuple(_silence_of(row) for row in rows if row["id"] is not None)
        return SilenceChanges(version=f"{rows[0]['epoch']}.{newest}", is_whole=known == _UNKNOWN, silences=silences)

    async def get(self, silence_id: str) -> Silence | None:
        row = await self._database.fetchrow(_SELECT_ONE, current_tenant(), silence_id)
        return _silence_of(row) if row else None

    async def list_page(self, page: Page, *, id_prefix: str, expired: bool | None, now: datetime) -> Sequence[Silence]:
        after = (key_time(page.after[0]), page.after[1]) if page.after else (None, None)
        rows = await self._database.fetch(
            _SELECT_PAGE, current_tenant(), id_prefix, expired, now, *after, page.size + 1
        )
        return [_silence_of(row) for row in rows]


def _silence_of(row: Record) -> Silence:
    return Silence(
        id=row["id"],
        matchers=parse_matchers(row["matchers"], compile_regex),
        alert_ids=tuple(row["alert_ids"]),
        start_time=row["start_time"],
        end_time=row["end_time"],
        recurrence=_recurrence_of(row) if row["recurrence"] else None,
        author=row["author"],
        comment=row["comment"],
        create_time=row["create_time"],
        expire_time=row["expire_time"],
    )


def _recurrence_of(row: Record) -> Recurrence:
    stored = json.loads(row["recurrence"])
    recurrence = Recurrence(
        rule=parse_rule(stored["rule"]),
        text=stored["rule"],
        start=datetime.fromisoformat(stored["start"]),
        zone=ZoneInfo(stored["zone"]),
        duration=timedelta(seconds=stored["duration"]),
    )
    return recurrence.ended(row["end_time"])


def _row(silence: Silence) -> tuple[Any, ...]:
    """Return the values of _COLUMNS."""
    recurrence = silence.recurrence
    stored = None
    if recurrence is not None:
        stored = json.dumps(
            {
                "rule": recurrence.text,
                "start": recurrence.start.isoformat(),
                "zone": recurrence.zone.key,
                "duration": recurrence.duration.total_seconds(),
            }
        )
    return (
        silence.id,
        format_matchers(silence.matchers),
        list(silence.alert_ids),
        silence.start_time,
        silence.end_time,
        stored,
        silence.author,
        silence.comment,
        silence.create_time,
        silence.expire_time,
    )
