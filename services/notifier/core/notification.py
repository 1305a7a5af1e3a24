"""A notification as the channels need it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from enum import IntEnum
from uuid import UUID

from services.domain.severity import Severity
from services.domain.tenants import SOLE_TENANT


class NotificationKind(IntEnum):
    """What happened to the alert or incident, with the numbers of the contract."""

    FIRING = 1
    ACKNOWLEDGED = 2
    RESOLVED = 3
    UPDATED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationSample:
    """One log event as evidence; its trace id is its own, empty when it has none."""

    time: datetime
    service: str
    level: str
    text: str
    host: str = ""
    trace_id: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationWindow:
    """The numbers of the window in which the rule's condition held."""

    start: datetime
    end: datetime
    count: int
    total: int
    condition: str
    threshold: float

    @property
    def length(self) -> timedelta:
        """Return the time from start to end."""
        return self.end - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationService:
    """What the catalog has of the alert's service; an empty field where its entry does not say."""

    name: str
    owner: str = ""
    tier: str = ""
    description: str = ""
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationChange:
    """A change, such as a deployment, of the alert's service or of one that this depends on, before it fired."""

    time: datetime
    service: str
    kind: str
    version: str = ""
    actor: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationIncidentAlert:
    """One alert of an incident, in short."""

    alert_id: str
    rule: str
    resource: str
    service: str
    severity: str
    state: str
    fire_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationIncident:
    """Alerts that belong together. `alerts` are the most important ones, in the order in which they are shown."""

    id: str
    title: str
    state: str
    create_time: datetime
    alert_count: int
    open_alert_count: int
    services: tuple[str, ...] = ()
    assignee: str = ""
    alerts: tuple[NotificationIncidentAlert, ...] = ()
    cause: NotificationIncidentAlert | None = None
    cause_reason: str = ""
    new_alert_count: int = 0
    ended_alert_count: int = 0
    is_flapping: bool = False
    links: Mapping[str, str] = field(default_factory=dict)
    changes: tuple[NotificationChange, ...] = ()
    """Those before the cause fired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationContent:
    """What people are to be told about an alert or an incident. Its texts come from logs and rules: escape them.

    With an incident the alert is its probable cause, or the one that opened it; severity, times and actor are the
    incident's.
    """

    notification_id: UUID
    subject_id: str
    """What receivers see as one thing."""
    sequence: int
    """Its place among the notifications of the subject."""
    alert_id: str
    fingerprint: str
    kind: NotificationKind
    severity: Severity
    alert_severity: Severity
    rule_id: str
    rule: str
    description: str
    resource: str
    fire_time: datetime
    change_time: datetime
    actor: str = ""
    group: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    window: NotificationWindow | None = None
    samples: tuple[NotificationSample, ...] = ()
    service: NotificationService | None = None
    changes: tuple[NotificationChange, ...] = ()
    """Those before the alert fired."""
    incident: NotificationIncident | None = None
    receivers: tuple[str, ...] = ()
    """The receivers to notify; when there are none, the routes of the routes file decide."""
    reason: str = ""
    """Why these receivers are notified, in words."""
    zone: tzinfo = UTC
    """In which messages name times."""
    tenant: str = SOLE_TENANT
    """Whose alert it is, and whose channels are used."""
    closes_superseded: bool = False
    """Whether another alert or incident took its place: only channels that track alerts get it, to close theirs."""
