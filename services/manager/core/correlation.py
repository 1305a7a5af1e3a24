"""Which incident an alert belongs to, and which alert of an incident probably caused the others.

Two alerts are related by, the strongest first:

1. the same resource;
2. the dependency graph: one's service depends on the other's over at most so many edges (two by default);
3. equal correlation labels: of the names that the settings list, each is present on both with the same value.

An alert joins an open incident of which a related alert fired within the temporal window before or after it, or a
resolved one within the reopening time. Of several, it joins the one that is related most strongly, then over the fewest
edges, then the one that was created first. So the decision is a function of the alert, the incidents, the graph and the
settings, and not of the order in which they are looked through.

Alerts of services that depend on a failed one often come before the alert of that one, and are not related to each
other then. So when an alert comes on whose service alerts of several open incidents depend, these incidents are merged
into the one that it joins.

The probable cause is an alert whose service no other alerting service of the incident stands behind; where several
stand behind each other in a circle, it is one of them. Of several such alerts it is the one that fired first.

Cost: an index finds the incidents of a resource, service or set of labels, so an alert costs the services around its
own, not the number of incidents.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from services.manager.core.dependency_graph import DependencyEdge, DependencyGraph
from services.manager.core.incident import Correlation, CorrelationReason, Incident, IncidentAlert


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrelationSettings:
    """When alerts belong together."""

    window: timedelta = timedelta(minutes=10)
    reopen: timedelta = timedelta(minutes=30)
    max_edges: int = 2
    # Names of labels; with none, labels relate nothing.
    labels: tuple[str, ...] = ()


class CauseReason(StrEnum):
    """Why an alert is the probable cause; the names are those of the contract."""

    # The incident has no other open alert.
    ONLY_ALERT = "ONLY_ALERT"
    # Services of other alerts depend on its service, and its service on none of theirs.
    DEPENDENCY = "DEPENDENCY"
    # No dependency tells; it fired first.
    EARLIEST = "EARLIEST"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbableCause:
    """The alert that probably caused the others, and why."""

    alert_id: str
    reason: CauseReason


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What correlation reads of an incident."""

    create_time: datetime
    resolve_time: datetime | None


_Key = tuple[str, ...]


class IncidentIndex:
    """Incidents that alerts may join, found by what relates alerts. Changed in place.

    `label_names` are the sets of names that settings correlate by.
    """

    def __init__(self, incidents: Iterable[Incident] = (), label_names: Iterable[tuple[str, ...]] = ()) -> None:
        self._label_names = tuple(names for names in label_names if names)
        self._facts: dict[str, _Facts] = {}
        # By what relates alerts, and by incident, when alerts fired, the earliest first.
        self._by_key: dict[_Key, dict[str, list[datetime]]] = {}
        self._keys: dict[str, set[_Key]] = {}
        for incident in incidents:
            self.put(incident)

    def put(self, incident: Incident) -> None:
        """Take an incident as it is now, in place of what was known of it."""
        self.remove(incident.id)
        self._facts[incident.id] = _Facts(create_time=incident.create_time, resolve_time=incident.resolve_time)
        self._keys[incident.id] = set()
        for alert in incident.alerts.values():
            self.add(incident.id, alert)

    def add(self, incident_id: str, alert: IncidentAlert) -> None:
        """Add an alert to an incident that is known here."""
        for key in self._keys_of(alert):
            self._keys[incident_id].add(key)
            insort(self._by_key.setdefault(key, {}).setdefault(incident_id, []), alert.fire_time)

    def remove(self, incident_id: str) -> None:
        """Remove an incident, if it is known."""
        self._facts.pop(incident_id, None)
        for key in self._keys.pop(incident_id, ()):
            incidents = self._by_key[key]
            del incidents[incident_id]
            if not incidents:
                del self._by_key[key]

    def near(self, key: _Key, moment: datetime, settings: CorrelationSettings) -> list[str]:
        """Return the incidents that an alert of this moment may join because of a key, the first created first."""
        found = [
            incident_id
            for incident_id, fired in self._by_key.get(key, {}).items()
            if _may_join(self._facts[incident_id], fired, moment, settings)
        ]
        return sorted(found, key=self.age_key)

    def open_near(self, keys: Iterable[_Key], moment: datetime, settings: CorrelationSettings) -> list[str]:
        """Return the open ones that an alert of this moment may join because of any key, the first created first."""
        found: set[str] = set()
        for key in keys:
            for incident_id, fired in self._by_key.get(key, {}).items():
                facts = self._facts[incident_id]
                is_new = incident_id not in found and facts.resolve_time is None
                if is_new and _may_join(facts, fired, moment, settings):
                    found.add(incident_id)
        return sorted(found, key=self.age_key)

    def age_key(self, incident_id: str) -> tuple[datetime, str]:
        """Return what orders incidents by when they were created."""
        return self._facts[incident_id].create_time, incident_id

    def _keys_of(self, alert: IncidentAlert) -> Iterator[_Key]:
        yield resource_key(alert.resource)
        if alert.service:
            yield service_key(alert.service)
        for names in self._label_names:
            if (key := labels_key(alert.labels, names)) is not None:
                yield key


def _may_join(facts: _Facts, fired: Sequence[datetime], moment: datetime, settings: CorrelationSettings) -> bool:
    if facts.resolve_time is not None:
        return moment - facts.resolve_time <= settings.reopen
    place = bisect_left(fired, moment)
    if place < len(fired) and fired[place] - moment <= settings.window:
        return True
    return place > 0 and moment - fired[place - 1] <= settings.window


def resource_key(resource: str) -> _Key:
    """Return the key of alerts with the same resource."""
    return "resource", resource


def service_key(service: str) -> _Key:
    """Return the key of alerts with the same service."""
    return "service", service


def labels_key(labels: Mapping[str, str], names: Sequence[str]) -> _Key | None:
    """Return the key of alerts with the same values of some labels; None where one of them is absent."""
    values = [labels.get(name, "") for name in names]
    return ("labels", *names, "=", *values) if names and all(values) else None


def correlate(
    alert: IncidentAlert, incidents: IncidentIndex, graph: DependencyGraph, settings: CorrelationSettings
) -> Correlation:
    """Return the incident that an alert belongs to, and why."""
    if near := incidents.near(resource_key(alert.resource), alert.fire_time, settings):
        return Correlation(incident_id=near[0], reason=CorrelationReason.SAME_RESOURCE)
    if alert.service and (found := _by_dependency(alert, incidents, graph, settings)) is not None:
        return found
    key = labels_key(alert.labels, settings.labels)
    if key is not None and (near := incidents.near(key, alert.fire_time, settings)):
        labels = {name: alert.labels[name] for name in settings.labels}
        return Correlation(incident_id=near[0], reason=CorrelationReason.LABELS, labels=labels)
    return Correlation()


def _by_dependency(
    alert: IncidentAlert, incidents: IncidentIndex, graph: DependencyGraph, settings: CorrelationSettings
) -> Correlation | None:
    behind = graph.depends_on(alert.service, settings.max_edges)
    before = graph.dependents(alert.service, settings.max_edges)
    # The same service, with another resource, is related over no edge.
    distances = {alert.service: 0, **before, **behind}
    for service in before.keys() & behind.keys():
        distances[service] = min(before[service], behind[service])
    best: tuple[int, tuple[datetime, str], str] | None = None
    for service, distance in distances.items():
        if best is not None and distance > best[0]:
            continue
        for incident_id in incidents.near(service_key(service), alert.fire_time, settings)[:1]:
            candidate = distance, incidents.age_key(incident_id), service
            best = candidate if best is None else min(best, candidate)
    if best is None:
        return None
    distance, (_, incident_id), service = best
    path = graph.path(alert.service, service, distance) or graph.path(service, alert.service, distance) or ()
    return Correlation(incident_id=incident_id, reason=CorrelationReason.DEPENDENCY, path=path)


def brought_together(
    alert: IncidentAlert, incidents: IncidentIndex, graph: DependencyGraph, settings: CorrelationSettings
) -> list[str]:
    """Return the open incidents with alerts of services that depend on an alert's service, the first created first."""
    if not alert.service:
        return []
    services = (alert.service, *graph.dependents(alert.service, settings.max_edges))
    return incidents.open_near(map(service_key, services), alert.fire_time, settings)


def probable_cause(alerts: Sequence[IncidentAlert], graph: DependencyGraph, max_edges: int) -> ProbableCause:
    """Return which of some alerts, at least one, probably caused the others."""
    if len(alerts) == 1:
        return ProbableCause(alert_id=alerts[0].id, reason=CauseReason.ONLY_ALERT)
    services = {alert.service for alert in alerts if alert.service}
    between = DependencyGraph(
        DependencyEdge(service=service, depends_on=other)
        for service in services
        for other in graph.depends_on(service, max_edges)
        if other in services
    )
    roots = between.roots()
    of_roots = [alert for alert in alerts if alert.service in roots]
    first = min(of_roots or alerts, key=lambda alert: (alert.fire_time, alert.id))
    return ProbableCause(alert_id=first.id, reason=CauseReason.DEPENDENCY if of_roots else CauseReason.EARLIEST)
