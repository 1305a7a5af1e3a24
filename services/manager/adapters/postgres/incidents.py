"""Incidents with their alerts and histories: in a transaction, and to read."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from asyncpg import Record

from services.chassis.postgres import Connection, Database
from services.chassis.tenants import current_tenant
from services.contract.paging import key_time
from services.domain.trace_context import headers_of
from services.manager.adapters.postgres import INCIDENTS_CHANGED
from services.manager.adapters.postgres.alert_rows import ALERT_COLUMNS, alert_of, columns, labels_text
from services.manager.adapters.postgres.incident_rows import (
    INCIDENT_COLUMNS,
    INCIDENT_HISTORY_COLUMNS,
    MEMBER_COLUMNS,
    SUMMARY_COLUMNS,
    incident_history_entry_of,
    incident_history_row,
    incident_of,
    incident_row,
    member_of,
    member_rows,
    summary_of_row,
    summary_row,
)
from services.manager.core.alert import Alert
from services.manager.core.incident import (
    Incident,
    IncidentAlert,
    IncidentFilter,
    IncidentHistoryEntry,
    IncidentSummary,
)
from services.manager.core.incident_changes import IncidentChange
from services.manager.ports.incidents import TracedAlert
from services.manager.ports.readers import Page

# ruff: noqa: S608  (made of our own column names)
_MAX_HISTORY = 1000
# Incidents at once.
_MAX_READ = 500

_HAS_NEWS = """
SELECT EXISTS (SELECT FROM alerts WHERE tenant = $1 AND correlated_version < version)
    OR EXISTS (SELECT FROM incident_revision WHERE tenant = $1 AND revision > $2)
    OR EXISTS (SELECT FROM exhausted_notifications WHERE tenant = $1)
"""
_LOCK = "SELECT revision + 1 FROM incident_revision WHERE tenant = $1 FOR UPDATE"
_TRY_LOCK = f"{_LOCK} SKIP LOCKED"
_SET_REVISION = """
WITH written AS (UPDATE incident_revision SET revision = $2 WHERE tenant = $1)
SELECT pg_notify($3, '')
"""
_SELECT_CHANGED = f"""
SELECT {INCIDENT_COLUMNS} FROM incidents
WHERE tenant = $1 AND revision > $2 AND (state <> 'RESOLVED' OR resolve_time >= $3)
"""
_SELECT = f"SELECT {INCIDENT_COLUMNS} FROM incidents WHERE tenant = $1 AND id = ANY($2)"
_SELECT_MEMBERS = f"""
SELECT {MEMBER_COLUMNS} FROM incident_alerts
WHERE tenant = current_tenant() AND incident_id = ANY($1) ORDER BY incident_id, position
"""
_SELECT_REVISION = "SELECT revision FROM incident_revision WHERE tenant = $1"
_SELECT_WATCHED = f"""
SELECT revision, {INCIDENT_COLUMNS}, {SUMMARY_COLUMNS} FROM incidents
WHERE tenant = $1 AND revision > $2 AND (state <> 'RESOLVED' OR NOT $3) ORDER BY revision, id
"""
_SELECT_LABELS = """
SELECT DISTINCT incident_id, labels FROM incident_alerts
WHERE tenant = current_tenant() AND incident_id = ANY($1) AND labels @> $2::text::jsonb
"""
_SELECT_SEEN = f"""
SELECT {ALERT_COLUMNS}, traceparent, EXISTS (SELECT FROM incident_alerts WHERE alert_id = alerts.id) AS is_stored
FROM alerts WHERE tenant = current_tenant() AND correlated_version < version ORDER BY fire_time, id LIMIT $1
"""
_SELECT_STORED = "SELECT DISTINCT alert_id FROM incident_alerts WHERE alert_id = ANY($1)"
# A version that was written meanwhile stays to be seen.
_MARK_SEEN = """
UPDATE alerts SET correlated_version = seen.version
FROM unnest($1::text[], $2::bigint[]) AS seen (id, version)
WHERE tenant = current_tenant() AND alerts.id = seen.id
"""
_UPSERT = f"""
INSERT INTO incidents (tenant, revision, {INCIDENT_COLUMNS}, {SUMMARY_COLUMNS})
SELECT $1, $2, id, state, cause, create_time, update_time, settle_time, resolve_time, resolved_by, acknowledge_time,
    acknowledged_by, acknowledged_until, assignee, merged_into, version, dedup_key, sequence, receivers::json,
    flapping::json, notify_time, escalations::json, title, severity, alert_count, open_alert_count,
    services::text[]
FROM unnest(
    $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[], $8::timestamptz[], $9::timestamptz[],
    $10::text[], $11::timestamptz[], $12::text[], $13::timestamptz[], $14::text[], $15::text[], $16::bigint[],
    $17::text[], $18::bigint[], $19::text[], $20::text[], $21::timestamptz[], $22::text[], $23::text[], $24::text[],
    $25::integer[], $26::integer[], $27::text[]
) AS written ({INCIDENT_COLUMNS}, {SUMMARY_COLUMNS})
ON CONFLICT (id) DO UPDATE SET
    revision = excluded.revision,
    state = excluded.state,
    cause = excluded.cause,
    update_time = excluded.update_time,
    settle_time = excluded.settle_time,
    resolve_time = excluded.resolve_time,
    resolved_by = excluded.resolved_by,
    acknowledge_time = excluded.acknowledge_time,
    acknowledged_by = excluded.acknowledged_by,
    acknowledged_until = excluded.acknowledged_until,
    assignee = excluded.assignee,
    merged_into = excluded.merged_into,
    version = excluded.version,
    dedup_key = excluded.dedup_key,
    sequence = excluded.sequence,
    receivers = excluded.receivers,
    flapping = excluded.flapping,
    notify_time = excluded.notify_time,
    escalations = excluded.escalations,
    title = excluded.title,
    severity = excluded.severity,
    alert_count = excluded.alert_count,
    open_alert_count = excluded.open_alert_count,
    services = excluded.services
"""
_DELETE_MEMBERS = """
DELETE FROM incident_alerts USING unnest($1::text[], $2::text[]) AS gone (incident_id, alert_id)
WHERE tenant = current_tenant()
    AND incident_alerts.incident_id = gone.incident_id AND incident_alerts.alert_id = gone.alert_id
"""
_UPSERT_MEMBERS = f"""
INSERT INTO incident_alerts ({MEMBER_COLUMNS})
SELECT incident_id, alert_id, position, rule_name, service, resource, severity, labels::jsonb, fire_time, is_open,
    correlation::jsonb, is_acknowledged, routes::json, file_route, withheld_by::json, audible_version, end_version
FROM unnest(
    $1::text[], $2::text[], $3::integer[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::timestamptz[], $10::boolean[], $11::text[], $12::boolean[], $13::text[], $14::text[], $15::text[],
    $16::bigint[], $17::bigint[]
) AS written ({MEMBER_COLUMNS})
ON CONFLICT (incident_id, alert_id) DO UPDATE SET
    rule_name = excluded.rule_name,
    severity = excluded.severity,
    labels = excluded.labels,
    is_open = excluded.is_open,
    correlation = excluded.correlation,
    is_acknowledged = excluded.is_acknowledged,
    routes = excluded.routes,
    file_route = excluded.file_route,
    withheld_by = excluded.withheld_by,
    audible_version = excluded.audible_version,
    end_version = excluded.end_version
"""
_INSERT_HISTORY = f"""
INSERT INTO incident_history ({INCIDENT_HISTORY_COLUMNS})
SELECT id, incident_id, kind, create_time, alert_id, actor, comment, correlation::jsonb,
    notified_kind, receivers::text[], notification_id, decided_by, fired_alerts::text[], ended_alerts::text[]
FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
    $10::text[], $11::text[], $12::text[], $13::text[], $14::text[]
) WITH ORDINALITY AS entry ({INCIDENT_HISTORY_COLUMNS}, place)
ORDER BY place
ON CONFLICT (id) DO NOTHING
"""
_COUNT_COMMENTS = """
SELECT count(*) FROM incident_history WHERE tenant = current_tenant() AND incident_id = $1 AND kind = 'COMMENTED'
"""
_SELECT_HISTORY = f"""
SELECT {INCIDENT_HISTORY_COLUMNS} FROM incident_history
WHERE tenant = current_tenant() AND incident_id = $1
ORDER BY position DESC LIMIT {_MAX_HISTORY}
"""


class PostgresIncidents:
    """Tables incidents, incident_alerts and incident_history, in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def lock(self) -> int:
        return int(await self._connection.fetchval(_LOCK, current_tenant()))

    async def try_lock(self) -> int | None:
        revision: int | None = await self._connection.fetchval(_TRY_LOCK, current_tenant())
        return revision

    async def has_news(self, revision: int) -> bool:
        return bool(await self._connection.fetchval(_HAS_NEWS, current_tenant(), revision))

    async def list_seen(self, limit: int) -> Sequence[TracedAlert]:
        rows = await self._connection.fetch(_SELECT_SEEN, limit)
        return [
            TracedAlert(alert=alert_of(row), headers=headers_of(row["traceparent"]), is_stored=row["is_stored"])
            for row in rows
        ]

    async def count_comments(self, incident_id: str) -> int:
        return int(await self._connection.fetchval(_COUNT_COMMENTS, incident_id))

    async def list_stored(self, alert_ids: Collection[str]) -> frozenset[str]:
        rows = await self._connection.fetch(_SELECT_STORED, list(alert_ids)) if alert_ids else ()
        return frozenset(row["alert_id"] for row in rows)

    async def mark_seen(self, alerts: Sequence[Alert]) -> None:
        if alerts:
            await self._connection.execute(_MARK_SEEN, *columns([(alert.id, alert.version) for alert in alerts]))

    async def list_changed(self, revision: int, *, resolved_after: datetime) -> Sequence[Incident]:
        # In parts: PostgreSQL ends a session that is silent in its transaction for as long as reading all may take.
        cursor = await self._connection.cursor(_SELECT_CHANGED, current_tenant(), revision, resolved_after)
        found: list[Incident] = []
        while rows := await cursor.fetch(_MAX_READ):
            found += await self._load(rows)
        return found

    async def revision(self) -> int:
        return int(await self._connection.fetchval(_SELECT_REVISION, current_tenant()))

    async def load(self, incident_ids: Collection[str]) -> Mapping[str, Incident]:
        found = await self._load(await self._connection.fetch(_SELECT, current_tenant(), list(incident_ids)))
        return {incident.id: incident for incident in found}

    async def save(self, changes: Sequence[IncidentChange], revision: int, *, before: Mapping[str, Incident]) -> None:
        if not changes:
            return
        incidents = [change.incident for change in changes]
        rows = columns([(*incident_row(incident), *summary_row(incident)) for incident in incidents])
        await self._connection.execute(_UPSERT, current_tenant(), revision, *rows)
        await self._save_members(incidents, before)
        entries = [incident_history_row(entry) for change in changes for entry in change.history]
        if entries:
            await self._connection.execute(_INSERT_HISTORY, *columns(entries))
        await self._connection.execute(_SET_REVISION, current_tenant(), revision, INCIDENTS_CHANGED)

    async def _save_members(self, incidents: Sequence[Incident], before: Mapping[str, Incident]) -> None:
        gone: list[tuple[str, str]] = []
        written: list[tuple[Any, ...]] = []
        for incident in incidents:
            former = before[incident.id].alerts if incident.id in before else {}
            gone += [(incident.id, alert_id) for alert_id in former.keys() - incident.alerts.keys()]
            written += member_rows(incident, former)
        if gone:
            await self._connection.execute(_DELETE_MEMBERS, *columns(gone))
        if written:
            await self._connection.execute(_UPSERT_MEMBERS, *columns(written))

    async def _load(self, rows: Sequence[Record]) -> list[Incident]:
        members = await _members(self._connection.fetch, [row["id"] for row in rows])
        return [incident_of(row, members[row["id"]]) for row in rows]


class PostgresIncidentReader:
    """The same tables, outside of transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, incident_id: str) -> tuple[Incident, Sequence[IncidentHistoryEntry]] | None:
        async def read(connection: Connection) -> tuple[Incident, Sequence[IncidentHistoryEntry]] | None:
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            rows = await connection.fetch(_SELECT, current_tenant(), [incident_id])
            if not rows:
                return None
            members = await _members(connection.fetch, [incident_id])
            entries = await connection.fetch(_SELECT_HISTORY, incident_id)
            history = [incident_history_entry_of(entry) for entry in reversed(entries)]
            return incident_of(rows[0], members[incident_id]), history

        return await self._database.run_idempotent(read)

    async def list_page(self, wanted: IncidentFilter, page: Page) -> Sequence[IncidentSummary]:
        conditions, values = _conditions(wanted)
        if page.after:
            values += [key_time(page.after[0]), page.after[1]]
            conditions.append(f"(create_time, id) < (${len(values) - 1}, ${len(values)})")
        values.append(page.size + 1)
        query = f"""
            SELECT {INCIDENT_COLUMNS}, {SUMMARY_COLUMNS} FROM incidents WHERE {" AND ".join(conditions)}
            ORDER BY create_time DESC, id DESC LIMIT ${len(values)}
        """
        return [summary_of_row(row) for row in await self._database.fetch(query, *values)]

    async def revision(self) -> int:
        row = await self._database.fetchrow(_SELECT_REVISION, current_tenant())
        return row["revision"] if row else 0

    async def list_changed(self, revision: int, *, open_only: bool) -> Sequence[tuple[int, IncidentSummary]]:
        rows = await self._database.fetch(_SELECT_WATCHED, current_tenant(), revision, open_only)
        return [(row["revision"], summary_of_row(row)) for row in rows]

    async def list_labels(
        self, incident_ids: Sequence[str], equal: Mapping[str, str]
    ) -> Mapping[str, Sequence[Mapping[str, str]]]:
        labels: dict[str, list[Mapping[str, str]]] = {}
        for row in await self._database.fetch(_SELECT_LABELS, list(incident_ids), labels_text(equal)):
            labels.setdefault(row["incident_id"], []).append(json.loads(row["labels"]))
        return labels


def _conditions(wanted: IncidentFilter) -> tuple[list[str], list[Any]]:
    """Return the conditions of the filters that are set, each with its value."""
    filters: list[tuple[str, Any]] = [
        ("tenant = {}", current_tenant()),
        ("state = ANY({})", [state.value for state in wanted.states]),
        ("severity = ANY({})", [severity.name for severity in wanted.severities]),
        ("starts_with(id, {})", wanted.id_prefix),
        ("EXISTS (SELECT FROM incident_alerts WHERE incident_id = incidents.id AND service = {})", wanted.service),
        ("merged_into = '' AND id IN (SELECT incident_id FROM incident_alerts WHERE alert_id = {})", wanted.alert_id),
    ]
    used = [(text, value) for text, value in filters if value]
    return [text.format(f"${n}") for n, (text, _) in enumerate(used, 1)], [value for _, value in used]


async def _members(fetch: Any, incident_ids: Sequence[str]) -> Mapping[str, dict[str, IncidentAlert]]:
    members: dict[str, dict[str, IncidentAlert]] = {incident_id: {} for incident_id in incident_ids}
    for row in await fetch(_SELECT_MEMBERS, incident_ids) if incident_ids else ():
        members[row["incident_id"]][row["alert_id"]] = member_of(row)
    return members
