"""The alerts, for reading them."""

from collections.abc import Sequence
from typing import Any

from services.chassis.postgres import Connection, Database
from services.contract.paging import key_time
from services.manager.adapters.postgres.rows import ALERT_COLUMNS, ENTRY_COLUMNS, alert_of, entry_of
from services.manager.core.alert import Alert, Entry
from services.manager.core.queries.filters import AlertFilter, Page

HISTORY_LIMIT = 1000


# ruff: noqa: S608  (made of our own column names)
class PostgresAlertReader:
    """Tables alerts and alert_history, outside of transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def version(self, alert_id: str) -> str | None:
        """See AlertReader."""
        row = await self._database.fetchrow(
            """select (select epoch from rule_revision) as epoch, version,
                      (select max(position) from alert_history where alert_id = $1) as position
               from alerts where id = $1""",
            alert_id,
        )
        return f"{row['epoch']}.{row['version']}.{row['position']}" if row else None

    async def get(self, alert_id: str) -> tuple[Alert, Sequence[Entry]] | None:
        """See AlertReader."""

        async def read(connection: Connection) -> tuple[Alert, Sequence[Entry]] | None:
            await connection.execute("set transaction isolation level repeatable read, read only")
            row = await connection.fetchrow(f"select {ALERT_COLUMNS} from alerts where id = $1", alert_id)
            if row is None:
                return None
            entries = await connection.fetch(
                f"""select {ENTRY_COLUMNS} from alert_history where alert_id = $1
                    order by position desc limit {HISTORY_LIMIT}""",
                alert_id,
            )
            return alert_of(row), [entry_of(entry) for entry in reversed(entries)]

        return await self._database.run_idempotent(read)

    async def page(self, wanted: AlertFilter, page: Page) -> Sequence[Alert]:
        """See AlertReader."""
        conditions, values = _conditions(wanted)
        if page.after:
            values += [key_time(page.after[0]), page.after[1]]
            conditions.append(f"(fire_time, id) < (${len(values) - 1}, ${len(values)})")
        return await self._select(conditions, values, f"order by fire_time desc, id desc limit {page.size + 1}")

    async def open(self, wanted: AlertFilter) -> Sequence[Alert]:
        """See AlertReader."""
        conditions, values = _conditions(wanted)
        return await self._select([*conditions, "state <> 'RESOLVED'"], values, "order by fire_time, id")

    async def named(self, alert_ids: Sequence[str]) -> Sequence[Alert]:
        """See AlertReader."""
        return await self._select(["id = any($1)"], [list(alert_ids)], "order by update_time, id")

    async def _select(self, conditions: Sequence[str], values: Sequence[Any], rest: str) -> Sequence[Alert]:
        where = f"where {' and '.join(conditions)}" if conditions else ""
        rows = await self._database.fetch(f"select {ALERT_COLUMNS} from alerts {where} {rest}", *values)
        return [alert_of(row) for row in rows]


def _conditions(wanted: AlertFilter) -> tuple[list[str], list[Any]]:
    asked: list[tuple[str, Any]] = [
        ("state = any({})", [state.value for state in wanted.states]),
        ("severity = any({})", [severity.name for severity in wanted.severities]),
        ("rule_id = {}", wanted.rule_id),
        ("md5(resource) = md5({0}) and resource = {0}", wanted.resource),
        ("fire_time >= {}", wanted.fired_after),
        ("fire_time < {}", wanted.fired_before),
    ]
    given = [(text, value) for text, value in asked if value]
    return [text.format(f"${n}") for n, (text, _) in enumerate(given, 1)], [value for _, value in given]
