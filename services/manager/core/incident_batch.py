"""What changed alerts do to incidents: each alert joins, acknowledges or ends in its incident, in order.

A batch is alerts as they are now, each once. It may hold one that its incident knows already in this state, so that a
batch that comes again changes nothing. An alert that has ended before it was seen joins and ends in one batch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from heapq import heappop, heappush
from itertools import islice

from services.domain.values import replaced
from services.manager.core.alert_lifecycle import AlertState
from services.manager.core.correlation import CorrelationSettings, IncidentIndex, brought_together, correlate
from services.manager.core.dependency_graph import DependencyGraph
from services.manager.core.flapping import FlappingSettings
from services.manager.core.incident import Incident, IncidentAlert, WithheldReason, Withholding
from services.manager.core.incident_changes import (
    IncidentChange,
    acknowledge,
    adopt,
    end_alert,
    expire_acknowledgement,
    join,
    open_incident,
    settle,
    update_alert,
    with_cause,
    withhold,
)
from services.manager.core.incident_merges import merge_incidents
from services.manager.core.incident_notifications import (
    FILE_ROUTE,
    NotificationContext,
    plan_notifications,
)
from services.manager.core.inhibition import Inhibitors, inhibition_among
from services.manager.core.on_call import OnCallDirectory
from services.manager.core.routing_tree import AlertRoute, RoutingTree

# How many incidents change in one batch because of time, and because of others.
_MAX_DUE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentSettings:
    """How alerts become incidents, and how long these live after their last alert."""

    correlation: CorrelationSettings = field(default_factory=CorrelationSettings)
    settle: timedelta = timedelta(minutes=2)
    flapping: FlappingSettings = field(default_factory=FlappingSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenAlert:
    """An alert as it is now."""

    alert: IncidentAlert
    state: AlertState
    # Whether and by whom it was acknowledged, also if it has ended since.
    is_acknowledged: bool = False
    acknowledged_by: str = ""
    silenced_by: tuple[str, ...] = ()
    # Whether an incident is stored that has it.
    is_stored: bool = False
    # Whether receivers were notified of it by itself, before incidents were.
    is_notified: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentContext:
    """What decisions about incidents read of the rest of the manager."""

    graph: DependencyGraph = field(default_factory=DependencyGraph)
    # The dependencies that people have declared or confirmed.
    confirmed_graph: DependencyGraph = field(default_factory=DependencyGraph)
    # None while there is none: the notifier's file decides.
    tree: RoutingTree | None = None
    directory: OnCallDirectory = field(default_factory=OnCallDirectory)
    # By incident: the notifications that have reached nobody, as was learned since the last batch.
    exhausted: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def routes_of(self, labels: Mapping[str, str]) -> tuple[AlertRoute, ...]:
        """Return the routes of an alert with these labels."""
        return (FILE_ROUTE,) if self.tree is None else self.tree.routes_of(labels)


class OpenIncidents:
    """The incidents that alerts may join, in memory. Changed in place."""

    def __init__(self, settings: IncidentSettings) -> None:
        self._settings = settings
        self._incidents: dict[str, Incident] = {}
        self._label_names = frozenset([settings.correlation.labels])
        self._index = IncidentIndex(label_names=self._label_names)
        self._incident_of: dict[str, str] = {}
        # When time changes which incident; one that is due at another time by now has another entry.
        self._due: list[tuple[datetime, str]] = []
        # Those that others have changed: receivers may have to be notified.
        self._unplanned: dict[str, None] = {}
        self._inhibitors = Inhibitors()
        # By which the inhibitors were found.
        self._context = IncidentContext()
        # The alerts that this batch has put into incidents.
        self._new: list[str] = []
        # Those of them that have ended already.
        self._new_ends: list[str] = []

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._incidents)

    def known(self) -> dict[str, Incident]:
        """Return them by their ids."""
        return dict(self._incidents)

    def put(self, incidents: Iterable[Incident]) -> None:
        """Take incidents as others have changed them."""
        for incident in incidents:
            self._put(incident)
            self._unplanned[incident.id] = None

    def drop_old(self, now: datetime) -> None:
        """Drop those that are resolved for longer than the reopening time."""
        since = now - self._settings.correlation.reopen
        for incident in list(self._incidents.values()):
            if incident.resolve_time is not None and incident.resolve_time < since:
                self._forget_alerts(incident.id)
                self._index.remove(incident.id)
                del self._incidents[incident.id]

    def next_due(self) -> datetime | None:
        """Return when time changes the next incident: it settles, say, or receivers are to be notified."""
        while self._due and not self._is_due(*self._due[0]):
            heappop(self._due)
        return self._due[0][0] if self._due else None

    def has_work(self, now: datetime) -> bool:
        """Return whether incidents are due, or were changed by others and not looked at since."""
        due = self.next_due()
        return bool(self._unplanned) or (due is not None and due <= now)

    def advance(self, seen: Sequence[SeenAlert], context: IncidentContext, now: datetime) -> list[IncidentChange]:
        """Let alerts and time change incidents; return one change for each incident that changed."""
        self._follow(context)
        changes: dict[str, list[IncidentChange]] = {}
        for each in seen:
            self._see(each, context, changes, now)
        self._inhibit(context, changes, now)
        if self._new_ends:
            # What had ended before it was seen: until now, so that what inhibited it while it fired does so.
            for alert_id in self._new_ends:
                self._end(alert_id, changes, now)
            self._new_ends.clear()
            self._inhibit(context, changes, now)
        due = self._pop_due(now)
        for incident_id in due:
            self._take(settle(self._incidents[incident_id], now=now), changes)
            self._take(expire_acknowledgement(self._incidents[incident_id], now=now), changes)
        others = (each for each in (*self._pop_unplanned(), *context.exhausted) if each in self._incidents)
        touched = dict.fromkeys((*changes, *due, *others))
        decided = [self._decided(incident_id, changes.get(incident_id, ()), context, now) for incident_id in touched]
        return [change for change in decided if change is not None]

    def _see(
        self, seen: SeenAlert, context: IncidentContext, changes: dict[str, list[IncidentChange]], now: datetime
    ) -> None:
        alert = seen.alert
        is_new = alert.id not in self._incident_of
        if is_new:
            if seen.is_stored:
                # Its incident is over for long.
                return
            self._open(seen, context, changes, now)
            self._new.append(alert.id)
        if not is_new or seen.is_acknowledged:
            self._update(seen, context, changes, now)
        if seen.state is AlertState.RESOLVED and is_new:
            self._new_ends.append(alert.id)
        elif seen.state is AlertState.RESOLVED:
            self._end(alert.id, changes, now)
        self._inhibitors.put(self._incidents[self._incident_of[alert.id]].alerts[alert.id])

    def _end(self, alert_id: str, changes: dict[str, list[IncidentChange]], now: datetime) -> None:
        incident = self._incidents[self._incident_of[alert_id]]
        self._take(end_alert(incident, alert_id, settle=self._settings.settle, now=now), changes)
        self._inhibitors.put(self._incidents[incident.id].alerts[alert_id])

    def _update(
        self, seen: SeenAlert, context: IncidentContext, changes: dict[str, list[IncidentChange]], now: datetime
    ) -> None:
        """Take over what was edited, acknowledged and silenced of an alert that has its incident."""
        alert = seen.alert
        incident_id = self._incident_of[alert.id]
        known = self._incidents[incident_id].alerts[alert.id]
        # Whom the file has notified of an alert, no tree notifies of it again.
        is_kept = known.labels == alert.labels or known.routes == (FILE_ROUTE,)
        routes = known.routes if is_kept else context.routes_of(alert.labels)
        edited = replaced(alert, routes=routes, is_acknowledged=seen.is_acknowledged)
        self._take(update_alert(self._incidents[incident_id], edited, now=now), changes)
        if seen.is_acknowledged and not known.is_acknowledged and self._incidents[incident_id].acknowledge_time is None:
            by = seen.acknowledged_by
            self._take(acknowledge(self._incidents[incident_id], actor=by, comment="", until=None, now=now), changes)
        withheld_by = (*_silences(seen), *(each for each in known.withheld_by if not _is_silence(each)))
        self._take(withhold(self._incidents[incident_id], alert.id, withheld_by, now=now), changes)

    def _inhibit(self, context: IncidentContext, changes: dict[str, list[IncidentChange]], now: datetime) -> None:
        """Decide what inhibits alerts that are new, or whose inhibitor has ended; who was notified of one stays so."""
        for alert_id in dict.fromkeys((*self._new, *self._inhibitors.pop_outdated())):
            incident = self._incidents[self._incident_of[alert_id]]
            alert = incident.alerts[alert_id]
            if not alert.is_open or alert.audible_version:
                continue
            found = self._inhibitors.inhibition_of(alert, context.confirmed_graph)
            others = tuple(each for each in alert.withheld_by if each not in inhibition_among(alert.withheld_by))
            withheld_by = others if found is None else (*others, found)
            self._take(withhold(incident, alert_id, withheld_by, now=now), changes)
            self._inhibitors.put(self._incidents[incident.id].alerts[alert_id])
        self._new.clear()

    def _open(
        self, seen: SeenAlert, context: IncidentContext, changes: dict[str, list[IncidentChange]], now: datetime
    ) -> None:
        """Put an alert that is new into an incident."""
        alert = replaced(seen.alert, routes=context.routes_of(seen.alert.labels), withheld_by=_silences(seen))
        if seen.is_notified:
            notified = replace(alert, routes=(FILE_ROUTE,))
            self._take(adopt(notified, is_acknowledged=seen.is_acknowledged, now=now), changes)
            return
        correlation = self._settings.correlation
        if context.tree is not None:
            route = alert.routes[0]
            correlation = replace(correlation, labels=route.correlation_labels, window=route.correlation_window)
        self._place(alert, context.graph, correlation, changes, now)

    def _place(
        self,
        alert: IncidentAlert,
        graph: DependencyGraph,
        settings: CorrelationSettings,
        changes: dict[str, list[IncidentChange]],
        now: datetime,
    ) -> None:
        found = correlate(alert, self._index, graph, settings)
        if not found.incident_id:
            self._take(open_incident(alert, now=now), changes)
            return
        others = brought_together(alert, self._index, graph, settings)
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
                self._put(self._incidents[found.incident_id])

    def _take(self, change: IncidentChange, changes: dict[str, list[IncidentChange]]) -> None:
        former = self._incidents.get(change.incident.id)
        if change.incident is former:
            return
        changes.setdefault(change.incident.id, []).append(change)
        if former is None or former.resolve_time != change.incident.resolve_time:
            self._put(change.incident)
        self._incidents[change.incident.id] = change.incident

    def _decided(
        self, incident_id: str, steps: Sequence[IncidentChange], context: IncidentContext, now: datetime
    ) -> IncidentChange | None:
        """Return what the steps of an incident come to, with its cause, and with whom to notify; None for nothing."""
        history = tuple(entry for step in steps for entry in step.history)
        caused = None
        if steps:
            last = steps[0] if len(steps) == 1 else replaced(steps[-1], history=history)
            caused = with_cause(last, context.graph, self._settings.correlation, now=now)
        incident = self._incidents[incident_id] if caused is None else caused.incident
        notifying = NotificationContext(
            flapping=self._settings.flapping,
            directory=context.directory,
            exhausted=context.exhausted.get(incident_id, frozenset()),
        )
        plan = plan_notifications(incident, notifying, now=now)
        self._incidents[incident_id] = plan.incident
        self._remember_due(plan.incident)
        if caused is None:
            return plan if plan.history or plan.incident is not incident else None
        return replaced(
            caused, incident=plan.incident, history=caused.history + plan.history, notifications=plan.notifications
        )

    def _put(self, incident: Incident) -> None:
        self._forget_alerts(incident.id)
        self._incidents[incident.id] = incident
        self._index.remove(incident.id)
        self._remember_due(incident)
        if not incident.merged_into:
            self._index.put(incident)
            self._incident_of.update(dict.fromkeys(incident.alerts, incident.id))
            for alert in incident.alerts.values():
                self._inhibitors.put(alert)

    def _forget_alerts(self, incident_id: str) -> None:
        former = self._incidents.get(incident_id)
        for alert_id in former.alerts if former else ():
            if self._incident_of.get(alert_id) == incident_id:
                del self._incident_of[alert_id]

    def _follow(self, context: IncidentContext) -> None:
        """Index incidents and alerts by what the routes say now."""
        before, self._context = self._context, context
        if before.tree is context.tree and before.confirmed_graph is context.confirmed_graph:
            return
        rules = () if context.tree is None else context.tree.inhibition_rules
        known = [self._incidents[incident_id].alerts[alert_id] for alert_id, incident_id in self._incident_of.items()]
        self._inhibitors = Inhibitors(rules, known)
        self._new += self._inhibitors.inhibited()
        names = frozenset([self._settings.correlation.labels])
        if context.tree is not None:
            names |= context.tree.correlation_label_sets()
        if names != self._label_names:
            self._label_names = names
            self._index = IncidentIndex(label_names=names)
            for incident in self._incidents.values():
                if not incident.merged_into:
                    self._index.put(incident)

    def _remember_due(self, incident: Incident) -> None:
        if incident.due_time is not None:
            heappush(self._due, (incident.due_time, incident.id))

    def _is_due(self, time: datetime, incident_id: str) -> bool:
        incident = self._incidents.get(incident_id)
        return incident is not None and incident.due_time == time

    def _pop_unplanned(self) -> list[str]:
        first = list(islice(self._unplanned, _MAX_DUE))
        for incident_id in first:
            del self._unplanned[incident_id]
        return first

    def _pop_due(self, now: datetime) -> list[str]:
        """Return the incidents that time changes now, those that are due longest first, so many at once."""
        found: dict[str, None] = {}
        while len(found) < _MAX_DUE and (due := self.next_due()) is not None and due <= now:
            found[heappop(self._due)[1]] = None
        return list(found)


def _silences(seen: SeenAlert) -> tuple[Withholding, ...]:
    return tuple(Withholding(reason=WithheldReason.SILENCED, by=each) for each in seen.silenced_by)


def _is_silence(withholding: Withholding) -> bool:
    return withholding.reason is WithheldReason.SILENCED
