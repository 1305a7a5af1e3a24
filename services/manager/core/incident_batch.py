"""What changed alerts do to incidents: each alert joins, acknowledges or ends in its incident, in order.

A batch is alerts as they are now, each once. It may hold one that its incident knows already in this state, so that a
batch that comes again changes nothing. An alert that has ended before it was seen joins and ends in one batch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from services.manager.core.alert_lifecycle import AlertState
from services.manager.core.correlation import CorrelationSettings, IncidentIndex, brought_together, correlate
from services.manager.core.dependency_graph import DependencyGraph
from services.manager.core.incident import Incident, IncidentAlert
from services.manager.core.incident_changes import (
    IncidentChange,
    acknowledge,
    end_alert,
    expire_acknowledgement,
    join,
    merge_incidents,
    open_incident,
    settle,
    update_alert,
    with_cause,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentSettings:
    """How alerts become incidents, and how long these live after their last alert."""

    correlation: CorrelationSettings = field(default_factory=CorrelationSettings)
    settle: timedelta = timedelta(minutes=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenAlert:
    """An alert as it is now, by whom it was acknowledged, and whether an incident is stored that has it."""

    alert: IncidentAlert
    state: AlertState
    acknowledged_by: str = ""
    is_stored: bool = False


class OpenIncidents:
    """The incidents that alerts may join, in memory. Changed in place."""

    def __init__(self, settings: IncidentSettings) -> None:
        self._settings = settings
        self._incidents: dict[str, Incident] = {}
        self._index = IncidentIndex(label_names=[settings.correlation.labels])
        self._incident_of: dict[str, str] = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._incidents)

    def known(self) -> dict[str, Incident]:
        """Return them by their ids."""
        return dict(self._incidents)

    def put(self, incidents: Iterable[Incident]) -> None:
        """Take incidents as they are now."""
        for incident in incidents:
            self._forget_alerts(incident.id)
            self._incidents[incident.id] = incident
            self._index.remove(incident.id)
            if not incident.merged_into:
                self._index.put(incident)
                self._incident_of.update(dict.fromkeys(incident.alerts, incident.id))

    def drop_old(self, now: datetime) -> None:
        """Drop those that are resolved for longer than the reopening time."""
        since = now - self._settings.correlation.reopen
        for incident in list(self._incidents.values()):
            if incident.resolve_time is not None and incident.resolve_time < since:
                self._forget_alerts(incident.id)
                self._index.remove(incident.id)
                del self._incidents[incident.id]

    def next_due(self) -> datetime | None:
        """Return when the next incident settles, or the next acknowledgement ends."""
        times = [
            time
            for incident in self._incidents.values()
            if incident.is_open
            for time in (incident.settle_time, incident.acknowledged_until)
            if time is not None
        ]
        return min(times, default=None)

    def advance(self, seen: Sequence[SeenAlert], graph: DependencyGraph, now: datetime) -> list[IncidentChange]:
        """Let alerts change incidents, and run what is due; return one change for each incident that changed."""
        changes: dict[str, list[IncidentChange]] = {}
        for each in seen:
            self._see(each, graph, changes, now)
        due = self.next_due()
        if due is not None and due <= now:
            for incident_id in list(self._incidents):
                self._take(settle(self._incidents[incident_id], now=now), changes)
                self._take(expire_acknowledgement(self._incidents[incident_id], now=now), changes)
        return [self._decided(steps, graph, now) for steps in changes.values()]

    def _see(
        self, seen: SeenAlert, graph: DependencyGraph, changes: dict[str, list[IncidentChange]], now: datetime
    ) -> None:
        alert = seen.alert
        if alert.id not in self._incident_of:
            if seen.is_stored:
                # Its incident is over for long.
                return
            self._place(alert, graph, changes, now)
        incident_id = self._incident_of[alert.id]
        self._take(update_alert(self._incidents[incident_id], alert, now=now), changes)
        if seen.state is AlertState.ACKNOWLEDGED and self._incidents[incident_id].acknowledge_time is None:
            by = seen.acknowledged_by
            self._take(acknowledge(self._incidents[incident_id], actor=by, comment="", until=None, now=now), changes)
        elif seen.state is AlertState.RESOLVED:
            ended = end_alert(self._incidents[incident_id], alert.id, settle=self._settings.settle, now=now)
            self._take(ended, changes)

    def _place(
        self, alert: IncidentAlert, graph: DependencyGraph, changes: dict[str, list[IncidentChange]], now: datetime
    ) -> None:
        found = correlate(alert, self._index, graph, self._settings.correlation)
        if not found.incident_id:
            self._take(open_incident(alert, now=now), changes)
            return
        others = brought_together(alert, self._index, graph, self._settings.correlation)
        change = join(self._incidents[found.incident_id], alert, found, now=now)
        self._take(change, changes)
        self._incident_of[alert.id] = change.incident.id
        self._index.add(change.incident.id, alert)
        for other in others:
            if other != found.incident_id:
                one, merged = self._incidents[found.incident_id], self._incidents[other]
                comment = f"both depend on {alert.service}"
                for step in merge_incidents(one, merged, actor="", comment=comment, now=now):
                    self._take(step, changes)
                self.put([self._incidents[found.incident_id]])

    def _take(self, change: IncidentChange, changes: dict[str, list[IncidentChange]]) -> None:
        former = self._incidents.get(change.incident.id)
        if change.incident is former:
            return
        changes.setdefault(change.incident.id, []).append(change)
        if former is None or former.resolve_time != change.incident.resolve_time:
            self.put([change.incident])
        self._incidents[change.incident.id] = change.incident

    def _decided(self, steps: Sequence[IncidentChange], graph: DependencyGraph, now: datetime) -> IncidentChange:
        history = tuple(entry for step in steps for entry in step.history)
        decided = with_cause(replace(steps[-1], history=history), graph, self._settings.correlation, now=now)
        self._incidents[decided.incident.id] = decided.incident
        return decided

    def _forget_alerts(self, incident_id: str) -> None:
        former = self._incidents.get(incident_id)
        for alert_id in former.alerts if former else ():
            if self._incident_of.get(alert_id) == incident_id:
                del self._incident_of[alert_id]
