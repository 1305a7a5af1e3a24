"""Write alerts and their histories, in a transaction."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from asyncpg import UniqueViolationError

from services.chassis.postgres import Connection
from services.domain.trace_context import TraceHeaders, trace_id_of, traceparent_of
from services.manager.adapters.postgres import ALERTS_CHANGED
from services.manager.adapters.postgres.alert_rows import (
    ALERT_COLUMNS,
    HISTORY_COLUMNS,
    alert_of,
    alert_row,
    columns,
    evaluation_of,
    history_row,
    storable,
    transition_row,
)
from services.manager.core.alert import Alert, AlertHistoryEntry
from services.manager.core.alert_changes import AlertChange
from services.manager.core.alert_lifecycle import EpisodeHistory
from services.manager.core.transitions import EpisodeKey, ReceivedTransition, TransitionContext
from services.manager.ports.tables import OpenAlertExistsError

# One NOTIFY carries at most 8000 bytes.
_IDS_PER_NOTIFY = 200

# In one order everywhere, so that two instances that have the same partition for a moment never deadlock.
_LOCK_GROUPS = """
SELECT pg_advisory_xact_lock(hashtextextended(key, 0))
FROM unnest($1::text[]) WITH ORDINALITY AS locked (key, position)
ORDER BY position
"""

# ruff: noqa: S608  (made of our own column names)
_SELECT_OPEN_FOR_UPDATE = f"""
SELECT {ALERT_COLUMNS} FROM alerts
WHERE tenant = current_tenant() AND open_key = ANY($1) AND state <> 'RESOLVED'
ORDER BY open_key FOR UPDATE
"""
_SELECT_FOR_UPDATE = f"SELECT {ALERT_COLUMNS} FROM alerts WHERE tenant = current_tenant() AND id = $1 FOR UPDATE"
_LOCK_OPEN = f"""
SELECT {ALERT_COLUMNS} FROM alerts
WHERE tenant = current_tenant() AND id = ANY($1) AND state <> 'RESOLVED' ORDER BY open_key FOR UPDATE SKIP LOCKED
"""
_SELECT_OPEN_OF_RULE_FOR_UPDATE = f"""
SELECT {ALERT_COLUMNS} FROM alerts
WHERE tenant = current_tenant() AND rule_id = $1 AND state <> 'RESOLVED' AND last_revision < $2
ORDER BY open_key LIMIT $3 FOR UPDATE
"""

# The values of ALERT_COLUMNS, as arrays.
_ALERT_VALUES = """
unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bytea[],
    $10::timestamptz[], $11::timestamptz[], $12::text[], $13::timestamptz[], $14::text[], $15::text[], $16::integer[],
    $17::timestamptz[], $18::bigint[], $19::bigint[], $20::timestamptz[], $21::bigint[], $22::timestamptz[],
    $23::text[], $24::jsonb[], $25::text[], $26::boolean[], $27::text[]
)
"""
_SILENCED_BY = "changed.silenced_by::text[]"
_INSERT_ALERTS = f"""
INSERT INTO alerts ({ALERT_COLUMNS}, traceparent, correlated_version)
SELECT {ALERT_COLUMNS.replace("silenced_by", _SILENCED_BY)}, traceparent, CASE WHEN $28::boolean THEN version ELSE 0 END
FROM {_ALERT_VALUES} AS changed ({ALERT_COLUMNS}, traceparent)
"""
# Rule, resource and fire time of an alert never change.
_UPDATE_ALERTS = f"""
UPDATE alerts SET
    fingerprint = changed.fingerprint,
    state = changed.state,
    severity = changed.severity,
    rule_name = changed.rule_name,
    description = changed.description,
    evidence = changed.evidence,
    labels = changed.labels,
    silenced_by = {_SILENCED_BY},
    is_notified = changed.is_notified,
    acknowledge_time = changed.acknowledge_time,
    acknowledged_by = changed.acknowledged_by,
    resolve_time = changed.resolve_time,
    resolved_by = changed.resolved_by,
    superseded_by = changed.superseded_by,
    repeat_count = changed.repeat_count,
    last_episode = changed.last_episode,
    last_selection = changed.last_selection,
    last_revision = changed.last_revision,
    last_firing_time = changed.last_firing_time,
    version = changed.version,
    update_time = changed.update_time,
    traceparent = changed.traceparent,
    correlated_version = CASE WHEN $28::boolean THEN changed.version ELSE correlated_version END
FROM {_ALERT_VALUES} AS changed ({ALERT_COLUMNS}, traceparent)
WHERE alerts.tenant = current_tenant() AND alerts.id = changed.id
"""

_ENTRIES = f"""
unnest(
    $1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
    $10::text[], $11::text[]
) WITH ORDINALITY AS entry ({HISTORY_COLUMNS}, position)
"""
# Until the transaction ends nobody deletes these alerts, so no entry is left behind without its own.
_EXISTING = """
JOIN (
    SELECT id FROM alerts WHERE tenant = current_tenant() AND id = ANY($2) ORDER BY open_key FOR KEY SHARE
) AS existing (existing_id) ON existing_id = entry.alert_id
"""
_INSERT_HISTORY, _INSERT_HISTORY_OF_EXISTING = (
    f"""
INSERT INTO alert_history ({HISTORY_COLUMNS}) SELECT {HISTORY_COLUMNS} FROM {_ENTRIES} {existing} ORDER BY position
ON CONFLICT (id) DO NOTHING
RETURNING alert_id
"""
    for existing in ("", _EXISTING)
)

# The newest firing and the newest end of each episode. LATERAL, since a join of as many episodes reads the whole table.
_SELECT_EPISODES = """
SELECT open_key, episode, newest.*
FROM unnest($1::text[], $2::timestamptz[]) AS wanted (open_key, episode), LATERAL (
    SELECT DISTINCT ON (state) state, selection, revision, decide_time, severity
    FROM alert_transitions AS known
    WHERE tenant = current_tenant() AND known.open_key = wanted.open_key AND known.episode = wanted.episode
    ORDER BY state, selection DESC, revision DESC, decide_time DESC
) AS newest
"""
_INSERT_TRANSITIONS = """
INSERT INTO alert_transitions (id, fingerprint, state, episode, selection, revision, decide_time, severity, open_key)
SELECT * FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::bigint[], $6::bigint[], $7::timestamptz[], $8::text[],
    $9::text[]
)
ON CONFLICT DO NOTHING
RETURNING id, fingerprint
"""
_NOTIFY = "SELECT pg_notify($1, ids) FROM unnest($2::text[]) AS ids"


class PostgresTransitions:
    """Table alert_transitions, in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def insert(self, transitions: Sequence[ReceivedTransition]) -> set[tuple[str, str]]:
        rows = {transition.key: transition_row(transition) for transition in transitions}
        new = await self._connection.fetch(_INSERT_TRANSITIONS, *columns(list(rows.values())))
        return set(rows) - {(row["id"], row["fingerprint"]) for row in new}


class PostgresAlerts:
    """Tables alerts and alert_history, in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._loaded: set[str] = set()

    async def load_for_update(
        self, transitions: Sequence[ReceivedTransition], *, expected_new: Collection[str]
    ) -> TransitionContext:
        keys = sorted({transition.open_key for transition in transitions})
        await self._connection.execute(_LOCK_GROUPS, keys)
        histories = await self._list_histories(transitions)
        known = [key for key in keys if key not in set(expected_new)]
        alerts = self._load(await self._connection.fetch(_SELECT_OPEN_FOR_UPDATE, known))
        return TransitionContext(open_alerts={alert.subject.open_key: alert for alert in alerts}, histories=histories)

    async def save(self, changes: Sequence[tuple[AlertChange, TraceHeaders]], *, is_correlated: bool = False) -> None:
        if not changes:
            return
        final = {
            change.alert.id: (*alert_row(change.alert), storable(traceparent_of(headers)))
            for change, headers in changes
        }
        # Updates first: an alert that ends makes room for one of the same group that begins.
        if loaded := [row for alert_id, row in final.items() if alert_id in self._loaded]:
            await self._connection.execute(_UPDATE_ALERTS, *columns(loaded), is_correlated)
        if new := [row for alert_id, row in final.items() if alert_id not in self._loaded]:
            await self._insert_alerts(new, is_correlated=is_correlated)
        await self._insert_entries(
            [
                replace(entry, trace_id=trace_id_of(traceparent_of(headers)))
                for change, headers in changes
                for entry in change.history
            ]
        )
        await self._notify_watchers(list(final))

    async def get_for_update(self, alert_id: str) -> Alert | None:
        alerts = self._load(await self._connection.fetch(_SELECT_FOR_UPDATE, alert_id))
        return alerts[0] if alerts else None

    async def lock_open(self, alert_ids: Sequence[str]) -> Sequence[Alert]:
        return self._load(await self._connection.fetch(_LOCK_OPEN, list(alert_ids)))

    async def list_open_for_update(self, rule_id: str, *, before: int, limit: int) -> Sequence[Alert]:
        return self._load(await self._connection.fetch(_SELECT_OPEN_OF_RULE_FOR_UPDATE, rule_id, before, limit))

    async def insert_history(self, entries: Sequence[AlertHistoryEntry]) -> int:
        return await self._insert_entries(entries, _INSERT_HISTORY_OF_EXISTING)

    async def _insert_entries(self, entries: Sequence[AlertHistoryEntry], statement: str = _INSERT_HISTORY) -> int:
        if not entries:
            return 0
        return len(await self._connection.fetch(statement, *columns([history_row(entry) for entry in entries])))

    async def _list_histories(self, transitions: Sequence[ReceivedTransition]) -> dict[EpisodeKey, EpisodeHistory]:
        episodes = sorted({transition.episode_key for transition in transitions})
        histories: dict[EpisodeKey, EpisodeHistory] = {}
        for row in await self._connection.fetch(_SELECT_EPISODES, *columns(episodes)):
            key = (row["open_key"], row["episode"])
            column = "fired" if row["state"] == "FIRING" else "ended"
            histories[key] = replace(histories.get(key, EpisodeHistory()), **{column: evaluation_of(row)})
        return histories

    def _load(self, rows: Sequence[Any]) -> list[Alert]:
        alerts = [alert_of(row) for row in rows]
        self._loaded.update(alert.id for alert in alerts)
        return alerts

    async def _insert_alerts(self, rows: Sequence[tuple[Any, ...]], *, is_correlated: bool) -> None:
        try:
            await self._connection.execute(_INSERT_ALERTS, *columns(rows), is_correlated)
        except UniqueViolationError as error:
            raise OpenAlertExistsError from error

    async def _notify_watchers(self, alert_ids: Sequence[str]) -> None:
        payloads = [
            ",".join(alert_ids[first : first + _IDS_PER_NOTIFY]) for first in range(0, len(alert_ids), _IDS_PER_NOTIFY)
        ]
        await self._connection.execute(_NOTIFY, ALERTS_CHANGED, payloads)
