"""What there is to tell."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum
from uuid import UUID

from services.domain.severity import Severity


class Kind(IntEnum):
    """What happened to the alert; ordered as it happens, and the numbers are those of the contract."""

    FIRING = 1
    ACKNOWLEDGED = 2
    RESOLVED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One log event as evidence."""

    time: datetime
    service: str
    level: str
    text: str
    host: str = ""
    trace_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What the rule saw in the window that decided."""

    start: datetime
    end: datetime
    count: int
    total: int
    condition: str
    threshold: float

    @property
    def length(self) -> timedelta:
        """From the first moment to the last."""
        return self.end - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One notification, in the words of the core. Its texts come from logs and rules: render them with care."""

    notification_id: UUID
    alert_id: str
    fingerprint: str
    kind: Kind
    severity: Severity
    rule_id: str
    rule: str
    description: str
    resource: str
    fire_time: datetime
    change_time: datetime
    actor: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    window: Window | None = None
    samples: tuple[Sample, ...] = ()
    # An end that people are not told, because another alert took this one's place: it only closes what is kept open.
    is_quiet: bool = False
