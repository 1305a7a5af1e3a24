"""An alert as the manager stores it, the entries of its history, and which alerts a reader asks for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from services.domain.fingerprint import digest, stable_id
from services.domain.matchers import SERVICE
from services.domain.severity import Severity
from services.manager.core.alert_lifecycle import AlertState, AlertStatus

_IDS = UUID("6f0c8a52-9e0b-5d3c-9a53-0d5e8f1b7c41")


class AlertHistoryKind(StrEnum):
    """What happened to an alert; the names are those of the contract."""

    FIRED = "FIRED"
    REPEATED = "REPEATED"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    RESOLVED = "RESOLVED"
    NOTIFIED = "NOTIFIED"
    NOTIFICATION_FAILED = "NOTIFICATION_FAILED"
    SUPERSEDED = "SUPERSEDED"
    UPDATED = "UPDATED"
    SILENCED = "SILENCED"
    NOTIFICATION_HELD = "NOTIFICATION_HELD"


class NotifiedState(StrEnum):
    """The states of an alert of which its receivers are notified; the names are those of the contract."""

    FIRING = "FIRING"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    RESOLVED = "RESOLVED"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertSubject:
    """What an alert is about, by the newest revision of its rule. No decision reads the evidence: it stays encoded."""

    # Of rule and resource: at most one open alert has it.
    open_key: str
    fingerprint: str
    severity: Severity
    rule_id: str
    rule_name: str
    description: str
    resource: str
    evidence: bytes
    # By which it is matched; see core/labels.py.
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert from its beginning to its end; `version` rises with each change."""

    id: str
    subject: AlertSubject
    status: AlertStatus
    fire_time: datetime
    update_time: datetime
    version: int = 1
    acknowledge_time: datetime | None = None
    acknowledged_by: str = ""
    resolve_time: datetime | None = None
    resolved_by: str = ""
    superseded_by: str = ""
    # The silences that hold of it, as of its last change.
    silenced_by: tuple[str, ...] = ()
    # Whether receivers were notified of it by itself, by a release from before they were notified of incidents.
    is_notified: bool = False

    @property
    def is_open(self) -> bool:
        """Return whether the alert is not resolved."""
        return self.status.is_open

    @property
    def service(self) -> str:
        """Return the name of the service that the alert is about, empty where it is not known."""
        return self.subject.labels.get(SERVICE, "")

    @property
    def etag(self) -> str:
        """Return a text that differs between versions."""
        return digest("alert", self.id, str(self.version))[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertHistoryEntry:
    """One entry of an alert's history; an id is stored once."""

    id: str
    alert_id: str
    kind: AlertHistoryKind
    create_time: datetime
    actor: str = ""
    comment: str = ""
    channel: str = ""
    trace_id: str = ""
    recipient: str = ""
    notified_state: NotifiedState | None = None
    # Of a delivery: the notification. It may have told of several alerts, each of which has an entry.
    notification_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertFilter:
    """What must hold of an alert; an empty field holds of every alert."""

    states: tuple[AlertState, ...] = ()
    severities: tuple[Severity, ...] = ()
    rule_id: str = ""
    resource: str = ""
    fired_after: datetime | None = None
    fired_before: datetime | None = None
    id_prefix: str = ""
    rule_name: str = ""

    def selects(self, alert: Alert) -> bool:
        """Return whether all fields hold."""
        subject = alert.subject
        return (
            (not self.states or alert.status.state in self.states)
            and (not self.severities or subject.severity in self.severities)
            and self.rule_id in {"", subject.rule_id}
            and self.resource in {"", subject.resource}
            and (self.fired_after is None or alert.fire_time >= self.fired_after)
            and (self.fired_before is None or alert.fire_time < self.fired_before)
            and alert.id.startswith(self.id_prefix)
            and self.rule_name in {"", subject.rule_name}
        )


def alert_id_of(*, fingerprint: str, transition_id: str) -> str:
    """Return the id of the alert that a transition opens: always the same, also in another database."""
    return stable_id(_IDS, "alert", fingerprint, transition_id)


def history_id_of(alert_id: str, kind: AlertHistoryKind, *occasion: str) -> str:
    """Return the id of a history entry; `occasion` distinguishes what may happen to one alert more than once."""
    return stable_id(_IDS, "entry", alert_id, kind.value, *occasion)


def notification_id_of(alert_id: str, notification: NotifiedState) -> str:
    """Return the id of a notification as releases made it that notified of alerts."""
    return stable_id(_IDS, "notification", alert_id, notification.value)
