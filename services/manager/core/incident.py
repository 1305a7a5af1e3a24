"""An incident as the manager stores it: alerts that belong together, who has taken it, and entries of its history."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid5

from services.domain.fingerprint import digest
from services.domain.severity import Severity

_MAX_SERVICES = 100
_IDS = UUID("b0a4a7d2-6a5c-5d0e-8a43-7f1c2f0e9d36")


class IncidentState(StrEnum):
    """Where an incident stands; the names are those of the contract."""

    OPEN = "OPEN"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    RESOLVED = "RESOLVED"


class CorrelationReason(StrEnum):
    """Why an alert belongs to an incident; the names are those of the contract, the strongest first."""

    SAME_RESOURCE = "SAME_RESOURCE"
    # A service of one depends on a service of the other.
    DEPENDENCY = "DEPENDENCY"
    # The labels that correlate are equal.
    LABELS = "LABELS"
    # It has begun the incident.
    NONE_RELATED = "NONE_RELATED"


class IncidentHistoryKind(StrEnum):
    """What happened to an incident; the names are those of the contract."""

    OPENED = "OPENED"
    JOINED = "JOINED"
    ALERT_RESOLVED = "ALERT_RESOLVED"
    CAUSE_CHANGED = "CAUSE_CHANGED"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    UNACKNOWLEDGED = "UNACKNOWLEDGED"
    ACKNOWLEDGEMENT_EXPIRED = "ACKNOWLEDGEMENT_EXPIRED"
    ASSIGNED = "ASSIGNED"
    COMMENTED = "COMMENTED"
    RESOLVED = "RESOLVED"
    REOPENED = "REOPENED"
    MERGED = "MERGED"
    SPLIT = "SPLIT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """Where an alert belongs and why; `incident_id` is empty where nothing is related."""

    incident_id: str = ""
    reason: CorrelationReason = CorrelationReason.NONE_RELATED
    # Of a dependency: the services from the one that depends to the one that it depends on.
    path: tuple[str, ...] = ()
    # Of equal labels: these.
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentAlert:
    """What correlation reads of an alert, and how it came into its incident. `service` is empty where unknown."""

    id: str
    rule_name: str
    service: str
    resource: str
    severity: Severity
    labels: Mapping[str, str]
    fire_time: datetime
    is_open: bool = True
    correlation: Correlation = Correlation()


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One incident; `version` rises with each change."""

    id: str
    state: IncidentState
    # By their ids, in the order in which they joined.
    alerts: Mapping[str, IncidentAlert]
    create_time: datetime
    update_time: datetime
    # The id of the alert that probably caused the others.
    cause: str
    # When it is resolved, unless another alert joins; None while an alert is open.
    settle_time: datetime | None = None
    resolve_time: datetime | None = None
    resolved_by: str = ""
    acknowledge_time: datetime | None = None
    acknowledged_by: str = ""
    # When the acknowledgement ends; None where it does not.
    acknowledged_until: datetime | None = None
    assignee: str = ""
    # The incident that has taken over its alerts.
    merged_into: str = ""
    version: int = 1

    @property
    def is_open(self) -> bool:
        """Return whether it is not resolved."""
        return self.state is not IncidentState.RESOLVED

    @property
    def open_alerts(self) -> list[IncidentAlert]:
        """Return the alerts that have not ended, in the order in which they joined."""
        return [alert for alert in self.alerts.values() if alert.is_open]

    @property
    def severity(self) -> Severity:
        """Return the highest severity of its open alerts; of all, once none is open."""
        return max(alert.severity for alert in self.open_alerts or self.alerts.values())

    @property
    def etag(self) -> str:
        """Return a text that differs between versions."""
        return digest("incident", self.id, str(self.version))[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentHistoryEntry:
    """One entry of an incident's history; an id is stored once."""

    id: str
    incident_id: str
    kind: IncidentHistoryKind
    create_time: datetime
    alert_id: str = ""
    actor: str = ""
    comment: str = ""
    correlation: Correlation = Correlation()


def incident_id_of(alert_id: str, occasion: str = "") -> str:
    """Return the id of the incident that an alert begins: always the same; `occasion` tells splits apart."""
    return str(uuid5(_IDS, digest("incident", alert_id, occasion)))


def incident_history_id_of(incident_id: str, kind: IncidentHistoryKind, *occasion: str) -> str:
    """Return the id of a history entry; `occasion` distinguishes what may happen to one incident more than once."""
    return str(uuid5(_IDS, digest("entry", incident_id, kind.value, *occasion)))


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentSummary:
    """What a list shows of an incident; its alerts may be left out of `incident`."""

    incident: Incident
    title: str
    severity: Severity
    alert_count: int
    open_alert_count: int
    # In the order of their names, the first hundred.
    services: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentFilter:
    """What must hold of an incident; an empty field holds of every one."""

    states: tuple[IncidentState, ...] = ()
    severities: tuple[Severity, ...] = ()
    service: str = ""
    id_prefix: str = ""
    alert_id: str = ""


def summary_of(incident: Incident) -> IncidentSummary:
    """Return what a list shows of an incident, computed from its alerts."""
    services = sorted({alert.service for alert in incident.alerts.values() if alert.service})
    return IncidentSummary(
        incident=incident,
        title=title_of(incident),
        severity=incident.severity,
        alert_count=len(incident.alerts),
        open_alert_count=len(incident.open_alerts),
        services=tuple(services[:_MAX_SERVICES]),
    )


def title_of(incident: Incident) -> str:
    """Return what an incident is about in a line: its probable cause, and how many other alerts there are."""
    cause = incident.alerts[incident.cause]
    others = len(incident.alerts) - 1
    more = "" if not others else f" and {others} more alert{'s' if others > 1 else ''}"
    return f"{cause.rule_name}: {cause.resource}{more}"
