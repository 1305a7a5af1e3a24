"""An incident as the manager stores it: alerts that belong together, who has taken it, and entries of its history."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from services.domain.fingerprint import digest, stable_id
from services.domain.severity import Severity
from services.manager.core.escalation import Escalation
from services.manager.core.routing_tree import AlertRoute

_MAX_SERVICES = 100
# Of one incident.
MAX_COMMENTS = 1000
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
    NOTIFIED = "NOTIFIED"
    WITHHELD = "WITHHELD"
    FLAPPING = "FLAPPING"
    ESCALATED = "ESCALATED"
    NOTIFICATION_FAILED = "NOTIFICATION_FAILED"


class IncidentNotificationKind(StrEnum):
    """What receivers are notified of; the names are those of the contract."""

    FIRING = "FIRING"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    RESOLVED = "RESOLVED"
    # More happened: alerts joined or ended, or the severity or the probable cause is another one.
    UPDATED = "UPDATED"


class WithheldReason(StrEnum):
    """Why nobody is notified of an alert."""

    SILENCED = "silenced"
    # By a rule, of labels.
    INHIBITED_BY_RULE = "inhibited_by_rule"
    # A service that its own depends on has an alert.
    INHIBITED_BY_DEPENDENCY = "inhibited_by_dependency"
    # It was withheld when somebody acknowledged the incident, of which nobody knew.
    ACKNOWLEDGED = "acknowledged"

    @property
    def words(self) -> str:
        """Return the reason as people read it."""
        return self.value.replace("_", " ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Withholding:
    """Why nobody is notified of an alert: the reason, and the silence or the alert that it is about."""

    reason: WithheldReason
    by: str = ""
    # In words: which rule, or the way to the service.
    comment: str = ""


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
    # Whether somebody has acknowledged it, and the incident has followed.
    is_acknowledged: bool = False
    # By its labels, as they were when these last changed.
    routes: tuple[AlertRoute, ...] = ()
    # What the notifier's file routes by, where there is no routing tree.
    file_route: str = ""
    withheld_by: tuple[Withholding, ...] = ()
    # The incident's version when receivers were first to be notified of it. 0: it was withheld all the time.
    audible_version: int = 0
    # The incident's version when it ended; 0 while it is open.
    end_version: int = 0

    @property
    def is_live(self) -> bool:
        """Return whether it is open, and was not withheld all the time."""
        return self.is_open and self.audible_version != 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifiedReceiver:
    """What a receiver knows of an incident. The empty name stands for the routes of the notifier's file."""

    name: str
    first_time: datetime
    last_time: datetime
    # The incident's version and its probable cause when the receiver was last notified.
    version: int
    cause: str
    # The highest one that it was notified of since it knows that the incident fires.
    severity: Severity
    # The least time between two updates.
    interval: timedelta = timedelta(minutes=1)
    # Whether it knows that the incident fires, and not of its end.
    is_active: bool = True
    is_acknowledged: bool = False
    # Since when there is nothing to tell but that alerts have ended; None where that is not so.
    ended_time: datetime | None = None
    # Of the empty name: what the file was asked about so far.
    file_routes: tuple[str, ...] = ()


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
    # By which receivers know it; empty: the id. Alerts from before there were incidents have another one.
    dedup_key: str = ""
    # Of the last notification.
    sequence: int = 0
    # By their names.
    receivers: Mapping[str, NotifiedReceiver] = field(default_factory=dict)
    # The rules and resources that change state too often, as receivers know.
    flapping: frozenset[tuple[str, str]] = frozenset()
    # By the names of their policies.
    escalations: Mapping[str, Escalation] = field(default_factory=dict)
    # When receivers have to be notified of something that waits.
    notify_time: datetime | None = None

    @property
    def subject_id(self) -> str:
        """Return the id by which receivers know it."""
        return self.dedup_key or self.id

    @property
    def due_time(self) -> datetime | None:
        """Return when time alone changes it: it settles, an acknowledgement ends, or receivers are to be notified."""
        times = (self.settle_time, self.acknowledged_until) if self.is_open else ()
        return min((time for time in (*times, self.notify_time) if time is not None), default=None)

    @property
    def live_alerts(self) -> list[IncidentAlert]:
        """Return the open alerts of which receivers are notified, in the order in which they joined."""
        return [alert for alert in self.alerts.values() if alert.is_live]

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
class AlertBundle:
    """The alerts of which a notification tells something new, by their ids: each once."""

    fired: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()

    def without(self, alert_id: str) -> "AlertBundle":
        """Return the others."""
        if alert_id not in self.fired and alert_id not in self.ended:
            return self
        fired = tuple(each for each in self.fired if each != alert_id)
        return AlertBundle(fired=fired, ended=tuple(each for each in self.ended if each != alert_id))


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
    # Of NOTIFIED: what, and to whom.
    notified_kind: IncidentNotificationKind | None = None
    receivers: tuple[str, ...] = ()
    notification_id: str = ""
    # What decided it: a silence, an alert, a reason, a step of a policy. Of MERGED and SPLIT the other incident.
    decided_by: str = ""
    # Of NOTIFIED: which alerts it tells of besides `alert_id`, that they fire and that they have ended.
    bundle: AlertBundle = AlertBundle()


class NotifyReason(StrEnum):
    """Why receivers are notified."""

    # An alert whose route names them, of an incident of which they do not know.
    ROUTED = "routed"
    # The same, and the notifier's file may route it to channels that do not know of the incident.
    ROUTED_BY_FILE = "routed_by_file"
    SEVERITY_RAISED = "severity_raised"
    BUNDLED = "bundled"
    FLAPPING = "flapping"
    ESCALATED = "escalated"
    ACKNOWLEDGED = "acknowledged"
    # No alert of which they know is open.
    ENDED = "ended"
    # The alerts are in another incident from now on.
    MERGED = "merged"


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentNotification:
    """Something that some receivers are notified of."""

    id: str
    kind: IncidentNotificationKind
    # Empty: the notifier's file decides.
    receivers: tuple[str, ...]
    # The incident as it was then, and the alert that it is about.
    incident: Incident
    alert_id: str
    # Its place among the notifications of the incident.
    sequence: int
    reason: NotifyReason
    comment: str
    create_time: datetime
    # Since these receivers were last notified. What fired and ended since then counts as both.
    new_alerts: int = 0
    ended_alerts: int = 0
    # The same alerts; what fired and ended since then is in it as ended.
    bundle: AlertBundle = AlertBundle()
    is_flapping: bool = False
    # In which messages name times; empty: UTC.
    time_zone: str = ""


def incident_id_of(alert_id: str, occasion: str = "") -> str:
    """Return the id of the incident that an alert begins: always the same; `occasion` tells splits apart."""
    return stable_id(_IDS, "incident", alert_id, occasion)


def incident_history_id_of(incident_id: str, kind: IncidentHistoryKind, *occasion: str) -> str:
    """Return the id of a history entry; `occasion` distinguishes what may happen to one incident more than once."""
    return stable_id(_IDS, "entry", incident_id, kind.value, *occasion)


def incident_notification_id_of(incident_id: str, sequence: int) -> str:
    """Return the id of a notification: the same each time it is decided."""
    return stable_id(_IDS, "notification", incident_id, str(sequence))


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
    """Return what an incident is about in a line: its probable cause, and how many others there are that are open.

    Once none is open, all count.
    """
    cause = incident.alerts[incident.cause]
    others = len(incident.open_alerts or incident.alerts) - 1
    more = "" if not others else f" and {others} more alert{'s' if others > 1 else ''}"
    return f"{cause.rule_name}: {cause.resource}{more}"
