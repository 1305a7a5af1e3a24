"""Changes of services, such as deployments, and which of them an alert or an incident shows.

An alert shows the changes of its own service and of those that it depends on, in the hour before it fired: what changed
last, and nearest, is what people look at first. An incident shows those of all its services, each by its first alert.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Self

from services.domain.found_values import expected
from services.domain.links import EXPECTED_LINK, is_link
from services.manager.core.catalog import length_problems, service_name_problems
from services.manager.core.dependency_graph import DependencyGraph

# Of a tenant.
MAX_CHANGES = 100_000
# Before an alert fired.
_RELATED_SPAN = timedelta(minutes=60)
_MAX_EDGES = 2
_MAX_RELATED = 10
# Of an incident.
_MAX_SHOWN = 20
_MAX_ALERTING = 100
# A service with more dependencies than this shows the changes of its nearest ones.
_MAX_SERVICES = 500
_MAX_TEXT = 256
# How far the clocks of those who deploy may be ahead.
_MAX_AHEAD = timedelta(minutes=5)
_NEVER = datetime(1970, 1, 2, tzinfo=UTC)


class ServiceChangeKind(StrEnum):
    """What was changed; the names are those of the contract."""

    DEPLOYMENT = "DEPLOYMENT"
    CONFIGURATION = "CONFIGURATION"
    FEATURE_FLAG = "FEATURE_FLAG"
    OTHER = "OTHER"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceChange:
    """One change of one service, at a time; recorded then or later."""

    id: str
    service: str
    kind: ServiceChangeKind
    version: str = ""
    actor: str = ""
    link: str = ""
    time: datetime
    create_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeFilter:
    """What must hold of a change; an empty field holds of every change."""

    service: str = ""
    kinds: tuple[ServiceChangeKind, ...] = ()
    after: datetime | None = None
    before: datetime | None = None

    def selects(self, change: ServiceChange) -> bool:
        """Return whether all fields hold."""
        return (
            self.service in {"", change.service}
            and (not self.kinds or change.kind in self.kinds)
            and (self.after is None or change.time >= self.after)
            and (self.before is None or change.time < self.before)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RelatedChange:
    """A change that an alert shows, and how many edges away from the alert's service it was made."""

    change: ServiceChange
    distance: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSearch:
    """Which changes some alerts show: of these services, made between these times."""

    services: frozenset[str]
    after: datetime
    until: datetime
    # For each alert's service the services whose changes it shows, with their distances.
    _distances: Mapping[str, Mapping[str, int]]

    @classmethod
    def of(cls, alerts: Sequence[tuple[str, datetime]], graph: DependencyGraph) -> Self:
        """Return the search for alerts, given by service and fire time; without services where no alert has one."""
        # Names from logs that no change can have are not looked for.
        names = {name for name, _ in alerts if name and name.isprintable()}
        distances = {service: _nearest(graph, service) for service in names}
        times = [fire_time for _, fire_time in alerts] or [_NEVER]
        return cls(
            services=frozenset(name for found in distances.values() for name in found),
            after=_hour_before(min(times)),
            until=max(times),
            _distances=distances,
        )

    def related(self, service: str, fire_time: datetime, changes: Sequence[ServiceChange]) -> tuple[RelatedChange, ...]:
        """Return up to ten changes that one of the alerts shows: the nearest, then the latest."""
        distances = self._distances.get(service, {})
        found = [
            RelatedChange(change=change, distance=distances[change.service])
            for change in changes
            if change.service in distances and _hour_before(fire_time) <= change.time <= fire_time
        ]
        return tuple(_nearest_first(found)[:_MAX_RELATED])

    def related_to_any(
        self, alerts: Iterable[tuple[str, datetime]], changes: Sequence[ServiceChange]
    ) -> tuple[RelatedChange, ...]:
        """Return up to twenty changes that any of the alerts shows, each once: the nearest, then the latest."""
        found: dict[str, RelatedChange] = {}
        for service, fire_time in alerts:
            for each in self.related(service, fire_time, changes):
                known = found.get(each.change.id)
                if known is None or each.distance < known.distance:
                    found[each.change.id] = each
        return tuple(_nearest_first(found.values())[:_MAX_SHOWN])


def first_alerts(alerts: Iterable[tuple[str, datetime]]) -> list[tuple[str, datetime]]:
    """Return of each service of an incident the first alert, for the hundred services that alerted first."""
    first: dict[str, datetime] = {}
    for service, fire_time in alerts:
        if service:
            first[service] = min(fire_time, first.get(service, fire_time))
    return sorted(first.items(), key=lambda each: (each[1], each[0]))[:_MAX_ALERTING]


def _nearest_first(related: Iterable[RelatedChange]) -> list[RelatedChange]:
    latest = sorted(related, key=lambda each: (each.change.time, each.change.id), reverse=True)
    return sorted(latest, key=lambda each: each.distance)


def _hour_before(time: datetime) -> datetime:
    """Return the time an hour before; an alert may say that it fired at the beginning of time."""
    return max(time, _NEVER) - _RELATED_SPAN


def _nearest(graph: DependencyGraph, service: str) -> dict[str, int]:
    nearest = sorted(graph.depends_on(service, _MAX_EDGES).items(), key=lambda item: (item[1], item[0]))
    return {service: 0, **dict(nearest[:_MAX_SERVICES])}


def change_problems(change: ServiceChange, *, now: datetime) -> list[tuple[str, str]]:
    """Return everything that is not allowed in a change, as fields named as in JSON and descriptions."""
    return list(_problems(change, now))


def _problems(change: ServiceChange, now: datetime) -> Iterator[tuple[str, str]]:
    yield from service_name_problems("service", change.service)
    yield from length_problems("version", change.version, _MAX_TEXT)
    yield from length_problems("actor", change.actor, _MAX_TEXT)
    if change.link and not is_link(change.link):
        yield "link", expected(EXPECTED_LINK, change.link)
    if change.time > now + _MAX_AHEAD:
        yield "time", f"is {change.time.isoformat()}, at most five minutes after now, {now.isoformat()}, are allowed"
