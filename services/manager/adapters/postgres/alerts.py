"""The alerts and their histories, for changing them."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from asyncpg import UniqueViolationError

from services.chassis import outbox
from services.chassis.postgres import Connection
from services.contract.topics import NOTIFICATIONS
from services.domain.alert import Fired, Memory, Verdict
from services.domain.severity import Severity
from services.domain.trace_context import trace_id_of, traceparent_of
from services.manager.adapters.postgres import ALERTS_CHANGED
from services.manager.adapters.postgres.rows import (
    ALERT_COLUMNS,
    ENTRY_COLUMNS,
    alert_of,
    alert_row,
    columns,
    entry_row,
)
from services.manager.core.alert import Alert, Entry
from services.manager.core.commands.change import Change
from services.manager.core.commands.transitions import Book, Episode, Transition
from services.manager.ports.commands import Headers, OpenAlertExistsError
from services.manager.wire.alerts import notification

_TYPES = {
    "evidence": "bytea",
    "fire_time": "timestamptz",
    "acknowledge_time": "timestamptz",
    "resolve_time": "timestamptz",
    "repeat_count": "integer",
    "last_episode": "timestamptz",
    "last_selection": "bigint",
    "last_revision": "bigint",
    "last_firing_time": "timestamptz",
    "version": "bigint",
    "update_time": "timestamptz",
    "create_time": "timestamptz",
}
_CHANGING = (
    "fingerprint, state, severity, rule_name, description, evidence, acknowledge_time, acknowledged_by, resolve_time,"
    " resolved_by, superseded_by, repeat_count, last_episode, last_selection, last_revision, last_firing_time, version,"
    " update_time"
)
# One NOTIFY carries at most 8000 bytes.
_IDS_IN_ONE_NOTICE = 200


def _unnest(names: str) -> str:
    listed = [name.strip() for name in names.split(",")]
    arrays = ", ".join(f"${n}::{_TYPES.get(name, 'text')}[]" for n, name in enumerate(listed, 1))
    return f"unnest({arrays}) with ordinality as given ({', '.join(listed)}, place)"


# ruff: noqa: S608  (made of our own column names)
_INSERT = f"insert into alerts ({ALERT_COLUMNS}) select {ALERT_COLUMNS} from {_unnest(ALERT_COLUMNS)}"
_UPDATE = f"""
    update alerts set {", ".join(f"{name.strip()} = given.{name.strip()}" for name in _CHANGING.split(","))}
    from {_unnest(ALERT_COLUMNS)} where alerts.id = given.id
"""
_NOTE = f"""
    insert into alert_history ({ENTRY_COLUMNS})
    select {ENTRY_COLUMNS} from {_unnest(ENTRY_COLUMNS)}
    where exists (select from alerts where alerts.id = given.alert_id)
    order by place
    on conflict (id) do nothing
    returning alert_id
"""


class PostgresAlerts:
    """Tables alerts, alert_history, alert_transitions and outbox, in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._known: set[str] = set()

    async def book(self, transitions: Sequence[Transition], *, expected_new: Collection[str]) -> Book:
        """See AlertTable."""
        keys = sorted({transition.open_key for transition in transitions})
        await self._lock(keys)
        past = await self._past(transitions)
        done = await self._mark_done(transitions)
        known = [key for key in keys if key not in set(expected_new)]
        rows = await self._connection.fetch(
            f"""select {ALERT_COLUMNS} from alerts where open_key = any($1) and state <> 'RESOLVED'
                order by open_key for update""",
            known,
        )
        found = self._found(rows)
        return Book(open={alert.subject.open_key: alert for alert in found}, past=past, done=done)

    async def save(self, changes: Sequence[tuple[Change, Headers]]) -> None:
        """See AlertTable."""
        if not changes:
            return
        final = {change.alert.id: change.alert for change, _ in changes}
        # First what ends, so that what begins finds its place free.
        if old := [alert_row(alert) for alert in final.values() if alert.id in self._known]:
            await self._connection.execute(_UPDATE, *columns(old))
        if new := [alert_row(alert) for alert in final.values() if alert.id not in self._known]:
            await self._insert(new)
        await self._write(
            [
                replace(entry, trace_id=trace_id_of(traceparent_of(headers)))
                for change, headers in changes
                for entry in change.entries
            ]
        )
        await self._enqueue(changes)
        await self._tell(list(final))

    async def find(self, alert_id: str) -> Alert | None:
        """See AlertTable."""
        rows = await self._connection.fetch(f"select {ALERT_COLUMNS} from alerts where id = $1 for update", alert_id)
        return next(iter(self._found(rows)), None)

    async def open_of(self, rule_id: str, *, before: int, limit: int) -> Sequence[Alert]:
        """See AlertTable."""
        rows = await self._connection.fetch(
            f"""select {ALERT_COLUMNS} from alerts
                where rule_id = $1 and state <> 'RESOLVED' and last_revision < $2
                order by open_key limit $3 for update""",
            rule_id,
            before,
            limit,
        )
        return self._found(rows)

    async def note(self, entries: Sequence[Entry]) -> int:
        """See AlertTable."""
        return await self._write(entries)

    async def _lock(self, keys: Sequence[str]) -> None:
        # In one order everywhere, so that two instances that have the same partition for a moment never wait
        # for each other in a circle.
        await self._connection.execute(
            """select pg_advisory_xact_lock(hashtextextended(key, 0))
               from unnest($1::text[]) with ordinality as given (key, position) order by position""",
            keys,
        )

    async def _past(self, transitions: Sequence[Transition]) -> dict[Episode, Memory]:
        episodes = sorted({transition.episode for transition in transitions})
        rows = await self._connection.fetch(
            """select distinct on (open_key, episode, state)
                      open_key, episode, state, selection, revision, decide_time, severity
               from alert_transitions
               join unnest($1::text[], $2::timestamptz[]) as given (open_key, episode) using (open_key, episode)
               order by open_key, episode, state, selection desc, revision desc, decide_time desc""",
            *columns(episodes),
        )
        past: dict[Episode, Memory] = {}
        for row in rows:
            episode = (row["open_key"], row["episode"])
            verdict = Verdict(
                episode=row["episode"],
                selection=row["selection"],
                revision=row["revision"],
                time=row["decide_time"],
                severity=Severity[row["severity"]],
            )
            before = past.get(episode, Memory())
            is_firing = row["state"] == "FIRING"
            past[episode] = Memory(
                fired=verdict if is_firing else before.fired, ended=before.ended if is_firing else verdict
            )
        return past

    async def _mark_done(self, transitions: Sequence[Transition]) -> set[tuple[str, str]]:
        rows = {transition.key: _transition_row(transition) for transition in transitions}
        fresh = await self._connection.fetch(
            """insert into alert_transitions
                   (id, fingerprint, state, episode, selection, revision, decide_time, severity, open_key)
               select * from unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::bigint[], $6::bigint[],
                                    $7::timestamptz[], $8::text[], $9::text[])
               on conflict do nothing returning id, fingerprint""",
            *columns(list(rows.values())),
        )
        return set(rows) - {(row["id"], row["fingerprint"]) for row in fresh}

    def _found(self, rows: Sequence[Any]) -> list[Alert]:
        found = [alert_of(row) for row in rows]
        self._known.update(alert.id for alert in found)
        return found

    async def _insert(self, rows: Sequence[tuple[Any, ...]]) -> None:
        try:
            await self._connection.execute(_INSERT, *columns(rows))
        except UniqueViolationError as error:
            raise OpenAlertExistsError from error

    async def _write(self, entries: Sequence[Entry]) -> int:
        if not entries:
            return 0
        return len(await self._connection.fetch(_NOTE, *columns([entry_row(entry) for entry in entries])))

    async def _enqueue(self, changes: Sequence[tuple[Change, Headers]]) -> None:
        records = [
            outbox.OutboxRecord(
                key=change.alert.id.encode(),
                value=notification(change.alert, notice).SerializeToString(),
                headers=headers,
            )
            for change, headers in changes
            for notice in change.notices
        ]
        await outbox.put_all(self._connection, NOTIFICATIONS, records)

    async def _tell(self, alert_ids: Sequence[str]) -> None:
        listed = [
            ",".join(alert_ids[first : first + _IDS_IN_ONE_NOTICE])
            for first in range(0, len(alert_ids), _IDS_IN_ONE_NOTICE)
        ]
        await self._connection.execute(
            "select pg_notify($1, listed) from unnest($2::text[]) as listed", ALERTS_CHANGED, listed
        )


def _transition_row(transition: Transition) -> tuple[Any, ...]:
    verdict = transition.verdict
    state = "FIRING" if isinstance(transition.word, Fired) else "RESOLVED"
    return (
        *transition.key,
        state,
        verdict.episode,
        verdict.selection,
        verdict.revision,
        verdict.time,
        verdict.severity.name,
        transition.open_key,
    )
