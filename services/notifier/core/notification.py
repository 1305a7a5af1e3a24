"""A notification as the channels need it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum
from uuid import UUID

from services.domain.severity import Severity


class NotificationKind(IntEnum):
    """What happened to the alert; ordered as it happens, with the numbers of the contract."""

    FIRING = 1
    ACKNOWLEDGED = 2
    RESOLVED = 3


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
class NotificationContent:
    """What people are to be told about an alert. Its texts come from logs and rules: escape them."""

    notification_id: UUID
    alert_id: str
    fingerprint: str
    kind: NotificationKind
    severity: Severity
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
    closes_superseded: bool = False
    """Whether another alert took its place: only channels that track alerts get it, to close theirs."""
