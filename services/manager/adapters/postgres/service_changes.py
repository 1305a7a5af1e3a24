"""Read changes of services, and write them in a transaction."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from asyncpg import Record

from services.chassis.postgres import Connection, Database
from services.chassis.tenants import current_tenant
from services.contract.paging import key_time
from services.manager.core.service_changes import ChangeFilter, ServiceChange, ServiceChangeKind
from services.manager.ports.readers import Page

_COLUMNS = "id, service, kind, version, actor, link, change_time, create_time"
_INSERT = f"INSERT INTO service_changes (tenant, {_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"  # noqa: S608
# A statement of its own before the count, which sees what the transaction before committed.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('service_changes ' || $1, 0))"
_COUNT = "SELECT count(*) FROM (SELECT FROM service_changes WHERE tenant = $1 LIMIT $2) AS first"
# The newest of very many: nobody is shown as much.
_SELECT_RELATED = f"""
SELECT {_COLUMNS} FROM service_changes
WHERE tenant = $1 AND service = ANY($2) AND change_time BETWEEN $3 AND $4
ORDER BY change_time DESC, id DESC LIMIT 10000
"""  # noqa: S608  (made of our own column names)


class PostgresChanges:
    """Table service_changes, in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def insert(self, change: ServiceChange) -> None:
        await self._connection.execute(
            _INSERT,
            current_tenant(),
            change.id,
            change.service,
            change.kind.value,
            change.version,
            change.actor,
            change.link,
            change.time,
            change.create_time,
        )

    async def count(self, limit: int) -> int:
        await self._connection.execute(_LOCK, current_tenant())
        return int(await self._connection.fetchval(_COUNT, current_tenant(), limit))

    async def list_between(
        self, services: Collection[str], after: datetime, until: datetime
    ) -> Sequence[ServiceChange]:
        rows = await self._connection.fetch(_SELECT_RELATED, current_tenant(), list(services), after, until)
        return [_change_of(row) for row in rows]


class PostgresChangeReader:
    """The same table, outside of transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_page(self, wanted: ChangeFilter, page: Page) -> Sequence[ServiceChange]:
        conditions, values = _conditions(wanted)
        if page.after:
            values += [key_time(page.after[0]), page.after[1]]
            conditions.append(f"(change_time, id) < (${len(values) - 1}, ${len(values)})")
        values.append(page.size + 1)
        query = f"""
            SELECT {_COLUMNS} FROM service_changes WHERE {" AND ".join(conditions)}
            ORDER BY change_time DESC, id DESC LIMIT ${len(values)}
        """  # noqa: S608  (made of our own column names)
        return [_change_of(row) for row in await self._database.fetch(query, *values)]

    async def list_between(
        self, services: Collection[str], after: datetime, until: datetime
    ) -> Sequence[ServiceChange]:
        rows = await self._database.fetch(_SELECT_RELATED, current_tenant(), list(services), after, until)
        return [_change_of(row) for row in rows]


def _conditions(wanted: ChangeFilter) -> tuple[list[str], list[Any]]:
    filters: list[tuple[str, Any]] = [
        ("tenant = {}", current_tenant()),
        ("service = {}", wanted.service),
        ("kind = ANY({})", [kind.value for kind in wanted.kinds]),
        ("change_time >= {}", wanted.after),
        ("change_time < {}", wanted.before),
    ]
    used = [(text, value) for text, value in filters if value]
    return [text.format(f"${n}") for n, (text, _) in enumerate(used, 1)], [value for _, value in used]


def _change_of(row: Record) -> ServiceChange:
    return ServiceChange(
        id=row["id"],
        service=row["service"],
        kind=ServiceChangeKind(row["kind"]),
        version=row["version"],
        actor=row["actor"],
        link=row["link"],
        time=row["change_time"],
        create_time=row["create_time"],
    )
