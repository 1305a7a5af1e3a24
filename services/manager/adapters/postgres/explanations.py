"""Read what explanations need besides alerts, incidents and silences."""

import json
from collections.abc import Collection, Mapping, Sequence

from asyncpg import Record

from services.chassis.postgres import Database
from services.manager.adapters.postgres.alert_rows import HISTORY_COLUMNS, columns, history_entry_of
from services.manager.adapters.postgres.incident_rows import INCIDENT_HISTORY_COLUMNS, incident_history_entry_of
from services.manager.core.alert import Alert, AlertHistoryEntry
from services.manager.core.explanation import RuleRevision
from services.manager.core.incident import IncidentHistoryEntry

# An alert fires, and ends by itself, at the time of the transition that opened and ended it.
_SELECT_REVISIONS = """
SELECT wanted.id, state, max(revision) AS revision
FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[])
    AS wanted (id, open_key, fire_time, resolve_time)
JOIN alert_transitions ON alert_transitions.open_key = wanted.open_key
    AND decide_time = CASE state WHEN 'FIRING' THEN wanted.fire_time ELSE wanted.resolve_time END
WHERE tenant = current_tenant()
GROUP BY wanted.id, state
"""
# Python writes "1 day, 0:05:00".
_SELECT_RULES = """
SELECT revision, rule, create_time, replace(rule ->> 'time_window', ',', '')::interval AS time_window
FROM alert_rule_history WHERE tenant = current_tenant() AND revision = ANY($1) AND edit <> 'DELETED'
"""
_SELECT_INCIDENTS = """
SELECT id FROM incidents JOIN incident_alerts ON incident_id = id
WHERE incidents.tenant = current_tenant() AND alert_id = $1 ORDER BY create_time, id LIMIT 10
"""
_SELECT_OWN_HISTORY = f"""
SELECT {INCIDENT_HISTORY_COLUMNS} FROM incident_history
WHERE tenant = current_tenant() AND incident_id = ANY($1) AND alert_id = $2 ORDER BY position DESC LIMIT 1000
"""  # noqa: S608  (made of our own column names)
_SELECT_DELIVERIES = f"""
SELECT {HISTORY_COLUMNS} FROM alert_history
WHERE tenant = current_tenant() AND alert_id = ANY($1) AND kind IN ('NOTIFIED', 'NOTIFICATION_FAILED')
ORDER BY position DESC LIMIT $2
"""  # noqa: S608  (made of our own column names)


class PostgresExplanationReader:
    """Tables alert_transitions, alert_rule_history, incident_alerts and alert_history."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def revisions(self, alerts: Sequence[Alert]) -> Mapping[str, Sequence[int]]:
        if not alerts:
            return {}
        wanted = [(alert.id, alert.subject.open_key, alert.fire_time, alert.resolve_time) for alert in alerts]
        rows = await self._database.fetch(_SELECT_REVISIONS, *columns(wanted))
        found = {(row["id"], row["state"]): row["revision"] for row in rows}
        last = {alert.id: alert.status.last_firing.rule_revision for alert in alerts}
        # Transitions are not stored as long as the alert.
        judged = {
            name: (found.get((name, "FIRING"), revision), revision, found.get((name, "RESOLVED"), revision))
            for name, revision in last.items()
        }
        return {name: tuple(dict.fromkeys(revisions)) for name, revisions in judged.items()}

    async def rules(self, revisions: Collection[int]) -> Mapping[int, RuleRevision]:
        rows = await self._database.fetch(_SELECT_RULES, list(revisions))
        return {row["revision"]: _rule_of(row) for row in rows}

    async def incident_ids(self, alert_id: str) -> Sequence[str]:
        return [row["id"] for row in await self._database.fetch(_SELECT_INCIDENTS, alert_id)]

    async def own_history(self, alert_id: str, incident_ids: Sequence[str]) -> Sequence[IncidentHistoryEntry]:
        rows = await self._database.fetch(_SELECT_OWN_HISTORY, list(incident_ids), alert_id)
        return [incident_history_entry_of(row) for row in reversed(rows)]

    async def deliveries(self, alert_ids: Sequence[str], limit: int) -> Sequence[AlertHistoryEntry]:
        rows = await self._database.fetch(_SELECT_DELIVERIES, list(alert_ids), limit)
        return [history_entry_of(row) for row in reversed(rows)]


def _rule_of(row: Record) -> RuleRevision:
    rule = json.loads(row["rule"])
    return RuleRevision(
        rule_id=rule["id"],
        revision=row["revision"],
        edit_time=row["create_time"],
        name=rule["name"],
        scope=rule["scope"],
        filter=rule["filter"],
        condition=rule["condition"],
        threshold=rule["threshold"],
        window=row["time_window"],
        group_by=tuple(rule["group_by"]),
    )
