"""The manager's incidents in memory."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from services.domain.trace_context import TraceHeaders
from services.manager.core.alert import Alert
from services.manager.core.incident import (
    AlertBundle,
    Incident,
    IncidentFilter,
    IncidentHistoryEntry,
    IncidentHistoryKind,
    IncidentNotification,
    IncidentSummary,
    summary_of,
)
from services.manager.core.incident_changes import IncidentChange
from services.manager.core.routing_tree import StoredTree
from services.manager.ports.incidents import ReturnedCanary, TracedAlert
from services.manager.ports.readers import Page


@dataclass
class IncidentRows:
    """All rows: incidents with the revision that wrote them, their history, and the versions of alerts they know."""

    incidents: dict[str, tuple[Incident, int]] = field(default_factory=dict)
    history: dict[str, IncidentHistoryEntry] = field(default_factory=dict)
    seen_versions: dict[str, int] = field(default_factory=dict)
    revision: int = 0
    # Whether another transaction has them to itself.
    is_locked: bool = False
    # The incidents of notifications that have reached nobody.
    exhausted: dict[str, str] = field(default_factory=dict)
    # In the outbox.
    canaries: list[ReturnedCanary] = field(default_factory=list)


class MemoryNotifications:
    """The outbox: notifications, each with the alert that it is about."""

    def __init__(
        self,
        outbox: list[tuple[IncidentNotification, TracedAlert]],
        alerts: Mapping[str, Alert],
        headers: Mapping[str, TraceHeaders],
        rows: IncidentRows,
    ) -> None:
        self._rows = rows
        self._outbox = outbox
        self._alerts = alerts
        self._headers = headers

    async def load_alerts(self, alert_ids: Collection[str]) -> Mapping[str, TracedAlert]:
        return {
            alert_id: TracedAlert(alert=self._alerts[alert_id], headers=self._headers[alert_id])
            for alert_id in alert_ids
            if alert_id in self._alerts
        }

    async def insert(self, notifications: Sequence[tuple[IncidentNotification, TracedAlert]]) -> None:
        self._outbox += notifications

    async def insert_canaries(self, canaries: Sequence[ReturnedCanary]) -> None:
        self._rows.canaries += canaries

    async def load_bundles(self, notification_ids: Collection[str]) -> Mapping[str, AlertBundle]:
        return {
            entry.notification_id: entry.bundle
            for entry in self._rows.history.values()
            if entry.notification_id in notification_ids and entry.bundle != AlertBundle()
        }

    async def insert_exhausted(self, incidents: Mapping[str, str]) -> None:
        self._rows.exhausted |= incidents

    async def take_exhausted(self, limit: int) -> Mapping[str, frozenset[str]]:
        taken: dict[str, frozenset[str]] = {}
        for name in sorted(self._rows.exhausted)[:limit]:
            incident = self._rows.exhausted.pop(name)
            taken[incident] = taken.get(incident, frozenset()) | {name}
        return taken


class MemoryIncidents:
    def __init__(self, rows: IncidentRows, alerts: Mapping[str, Alert], headers: Mapping[str, TraceHeaders]) -> None:
        self._rows = rows
        self._alerts = alerts
        self._headers = headers

    async def has_news(self, revision: int) -> bool:
        return bool(self._changed()) or self._rows.revision > revision or bool(self._rows.exhausted)

    async def lock(self) -> int:
        return self._rows.revision + 1

    async def try_lock(self) -> int | None:
        return None if self._rows.is_locked else await self.lock()

    async def list_seen(self, limit: int) -> Sequence[TracedAlert]:
        known = self._known()
        first = sorted(self._changed(), key=lambda alert: (alert.fire_time, alert.id))[:limit]
        return [
            TracedAlert(alert=alert, headers=self._headers[alert.id], is_stored=alert.id in known) for alert in first
        ]

    async def list_stored(self, alert_ids: Collection[str]) -> frozenset[str]:
        return frozenset(self._known() & set(alert_ids))

    def _known(self) -> set[str]:
        return {alert_id for incident, _ in self._rows.incidents.values() for alert_id in incident.alerts}

    def _changed(self) -> list[Alert]:
        return [alert for alert in self._alerts.values() if self._rows.seen_versions.get(alert.id, 0) < alert.version]

    async def mark_seen(self, alerts: Sequence[Alert]) -> None:
        self._rows.seen_versions |= {alert.id: alert.version for alert in alerts}

    async def revision(self) -> int:
        return self._rows.revision

    async def list_changed(self, revision: int, *, resolved_after: datetime) -> Sequence[Incident]:
        return [
            incident
            for incident, written in self._rows.incidents.values()
            if written > revision and (incident.resolve_time is None or incident.resolve_time >= resolved_after)
        ]

    async def load(self, incident_ids: Collection[str]) -> Mapping[str, Incident]:
        return {name: self._rows.incidents[name][0] for name in incident_ids if name in self._rows.incidents}

    async def count_comments(self, incident_id: str) -> int:
        entries = (entry for entry in self._rows.history.values() if entry.incident_id == incident_id)
        return sum(entry.kind is IncidentHistoryKind.COMMENTED for entry in entries)

    async def save(
        self,
        changes: Sequence[IncidentChange],
        revision: int,
        *,
        before: Mapping[str, Incident],  # noqa: ARG002  (the port's)
    ) -> None:
        for change in changes:
            self._rows.incidents[change.incident.id] = change.incident, revision
            for entry in change.history:
                self._rows.history.setdefault(entry.id, entry)
            self._rows.revision = revision


class FixedRouting:
    """No routing tree, unless a test sets one."""

    def __init__(self) -> None:
        self.current: StoredTree | None = None

    async def refresh(self) -> None:
        """Be as new as it gets."""


class _Tables(Protocol):
    incidents: IncidentRows


class _Store(Protocol):
    @property
    def tables(self) -> _Tables: ...


class MemoryIncidentReader:
    def __init__(self, store: _Store) -> None:
        self._store = store

    @property
    def _rows(self) -> IncidentRows:
        return self._store.tables.incidents

    async def get(self, incident_id: str) -> tuple[Incident, Sequence[IncidentHistoryEntry]] | None:
        if incident_id not in self._rows.incidents:
            return None
        history = [entry for entry in self._rows.history.values() if entry.incident_id == incident_id]
        return self._rows.incidents[incident_id][0], history[-1000:]

    async def list_page(self, wanted: IncidentFilter, page: Page) -> Sequence[IncidentSummary]:
        found = [incident for incident, _ in self._rows.incidents.values() if _is_wanted(wanted, incident)]
        newest = sorted(found, key=lambda incident: (incident.create_time, incident.id), reverse=True)
        after = (datetime.fromisoformat(page.after[0]), page.after[1]) if page.after else None
        rest = [incident for incident in newest if after is None or (incident.create_time, incident.id) < after]
        return [
            replace(summary_of(incident), incident=replace(incident, alerts={})) for incident in rest[: page.size + 1]
        ]

    async def revision(self) -> int:
        return self._rows.revision

    async def list_changed(self, revision: int, *, open_only: bool) -> Sequence[tuple[int, IncidentSummary]]:
        found = [
            (written, replace(summary_of(incident), incident=replace(incident, alerts={})))
            for incident, written in self._rows.incidents.values()
            if written > revision and (incident.is_open or not open_only)
        ]
        return sorted(found, key=lambda each: (each[0], each[1].incident.id))

    async def list_labels(
        self, incident_ids: Sequence[str], equal: Mapping[str, str]
    ) -> Mapping[str, Sequence[Mapping[str, str]]]:
        found: dict[str, list[Mapping[str, str]]] = {}
        for name in incident_ids:
            for alert in self._rows.incidents[name][0].alerts.values():
                labels = dict(alert.labels)
                if equal.items() <= labels.items() and labels not in found.setdefault(name, []):
                    found[name].append(labels)
        return {name: labels for name, labels in found.items() if labels}


def _is_wanted(wanted: IncidentFilter, incident: Incident) -> bool:
    return (
        (not wanted.states or incident.state in wanted.states)
        and (not wanted.severities or incident.severity in wanted.severities)
        and (not wanted.service or any(alert.service == wanted.service for alert in incident.alerts.values()))
        and incident.id.startswith(wanted.id_prefix)
        and (not wanted.alert_id or (wanted.alert_id in incident.alerts and not incident.merged_into))
    )
