"""Read alerts, outside of transactions."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from asyncpg import Record

from services.chassis.postgres import Connection, Database
from services.contract.paging import key_time
from services.manager.adapters.postgres.alert_rows import (
    ALERT_COLUMNS,
    HISTORY_COLUMNS,
    alert_of,
    history_entry_of,
    labels_of_row,
)
from services.manager.core.alert import Alert, AlertFilter, AlertHistoryEntry
from services.manager.core.silence_index import MatchedAlert
from services.manager.ports.readers import Page

_MAX_HISTORY = 1000

_SELECT_VERSION = """
SELECT (SELECT epoch FROM rule_revision) AS epoch, version,
    (SELECT max(position) FROM alert_history WHERE alert_id = $1) AS position
FROM alerts WHERE tenant = current_tenant() AND id = $1
"""
# ruff: noqa: S608  (made of our own column names)
_SELECT_ONE = f"SELECT {ALERT_COLUMNS} FROM alerts WHERE tenant = current_tenant() AND id = $1"
_SELECT_HISTORY = f"""
SELECT {HISTORY_COLUMNS} FROM alert_history WHERE tenant = current_tenant() AND alert_id = $1
ORDER BY position DESC LIMIT {_MAX_HISTORY}
"""
_SELECT_OPEN = (
    f"SELECT {ALERT_COLUMNS} FROM alerts WHERE tenant = current_tenant() AND state <> 'RESOLVED' ORDER BY fire_time, id"
)
_SELECT_BY_ID = (
    f"SELECT {ALERT_COLUMNS} FROM alerts WHERE tenant = current_tenant() AND id = ANY($1) ORDER BY update_time, id"
)


# The evidence only where the labels have to be derived from it.
_MATCHED = """
id, labels, silenced_by, rule_name, severity,
CASE WHEN labels IS NULL THEN evidence END AS evidence
"""
_SELECT_OPEN_MATCHED = (
    f"SELECT {_MATCHED} FROM alerts WHERE tenant = current_tenant() AND state <> 'RESOLVED' ORDER BY fire_time, id"
)
_SELECT_SILENCED = (
    f"SELECT {_MATCHED} FROM alerts WHERE tenant = current_tenant() AND state <> 'RESOLVED' AND silenced_by <> '{{}}'"
)
_SELECT_RECENT = f"""
SELECT {_MATCHED} FROM alerts WHERE tenant = current_tenant() AND fire_time >= $1
ORDER BY fire_time DESC, id DESC LIMIT $2
"""


class PostgresMatchedAlertReader:
    """Table alerts, as silences look at it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_open(self) -> Sequence[MatchedAlert]:
        return [_matched_alert_of(row) for row in await self._database.fetch(_SELECT_OPEN_MATCHED)]

    async def list_silenced(self) -> Sequence[MatchedAlert]:
        return [_matched_alert_of(row) for row in await self._database.fetch(_SELECT_SILENCED)]

    async def list_recent(self, since: datetime, limit: int) -> Sequence[MatchedAlert]:
        return [_matched_alert_of(row) for row in await self._database.fetch(_SELECT_RECENT, since, limit)]


class PostgresAlertReader:
    """Tables alerts and alert_history."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def version(self, alert_id: str) -> str | None:
        row = await self._database.fetchrow(_SELECT_VERSION, alert_id)
        return f"{row['epoch']}.{row['version']}.{row['position']}" if row else None

    async def get(self, alert_id: str) -> tuple[Alert, Sequence[AlertHistoryEntry]] | None:
        async def read(connection: Connection) -> tuple[Alert, Sequence[AlertHistoryEntry]] | None:
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            row = await connection.fetchrow(_SELECT_ONE, alert_id)
            if row is None:
                return None
            entries = await connection.fetch(_SELECT_HISTORY, alert_id)
            return alert_of(row), [history_entry_of(entry) for entry in reversed(entries)]

        return await self._database.run_idempotent(read)

    async def list_page(self, wanted: AlertFilter, page: Page) -> Sequence[Alert]:
        conditions, values = _conditions(wanted)
        if page.after:
            values += [key_time(page.after[0]), page.after[1]]
            conditions.append(f"(fire_time, id) < (${len(values) - 1}, ${len(values)})")
        values.append(page.size + 1)
        query = f"""
            SELECT {ALERT_COLUMNS} FROM alerts WHERE {" AND ".join(conditions)}
            ORDER BY fire_time DESC, id DESC LIMIT ${len(values)}
        """
        return [alert_of(row) for row in await self._database.fetch(query, *values)]

    async def list_open(self) -> Sequence[Alert]:
        return [alert_of(row) for row in await self._database.fetch(_SELECT_OPEN)]

    async def list_by_id(self, alert_ids: Sequence[str]) -> Sequence[Alert]:
        return [alert_of(row) for row in await self._database.fetch(_SELECT_BY_ID, list(alert_ids))]


def _matched_alert_of(row: Record) -> MatchedAlert:
    return MatchedAlert(id=row["id"], labels=labels_of_row(row), silenced_by=tuple(row["silenced_by"]))


def _conditions(wanted: AlertFilter) -> tuple[list[str], list[Any]]:
    """Return the conditions of the filters that are set, each with its value."""
    filters: list[tuple[str, Any]] = [
        ("state = ANY({})", [state.value for state in wanted.states]),
        ("severity = ANY({})", [severity.name for severity in wanted.severities]),
        ("rule_id = {}", wanted.rule_id),
        ("resource = {}", wanted.resource),
        ("fire_time >= {}", wanted.fired_after),
        ("fire_time < {}", wanted.fired_before),
        ("starts_with(id, {})", wanted.id_prefix),
        ("rule_name = {}", wanted.rule_name),
    ]
    used = [(text, value) for text, value in filters if value]
    conditions = [text.format(f"${n}") for n, (text, _) in enumerate(used, 1)]
    return ["tenant = current_tenant()", *conditions], [value for _, value in used]
