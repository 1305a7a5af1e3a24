"""An alert as the manager keeps it, and the lines of its history."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid5

from services.domain.alert import Life
from services.domain.fingerprint import digest
from services.domain.severity import Severity

_IDS = UUID("6f0c8a52-9e0b-5d3c-9a53-0d5e8f1b7c41")


class Kind(StrEnum):
    """What happened to an alert; the names are those of the contract."""

    FIRED = "FIRED"
    REPEATED = "REPEATED"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    RESOLVED = "RESOLVED"
    NOTIFIED = "NOTIFIED"
    NOTIFICATION_FAILED = "NOTIFICATION_FAILED"
    SUPERSEDED = "SUPERSEDED"
    UPDATED = "UPDATED"


class Notice(StrEnum):
    """What people are told about an alert; the names are those of the contract."""

    FIRING = "FIRING"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    RESOLVED = "RESOLVED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What an alert is about, as its rule last said it. Nothing decides by the evidence, so it stays encoded."""

    # At most one alert that is open has it.
    open_key: str
    fingerprint: str
    severity: Severity
    rule_id: str
    rule_name: str
    description: str
    resource: str
    evidence: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One trouble from its beginning to its end; `version` rises with each change."""

    id: str
    subject: Subject
    life: Life
    fire_time: datetime
    update_time: datetime
    version: int = 1
    acknowledge_time: datetime | None = None
    acknowledged_by: str = ""
    resolve_time: datetime | None = None
    resolved_by: str = ""
    superseded_by: str = ""

    @property
    def etag(self) -> str:
        """Another one for each version."""
        return digest("alert", self.id, str(self.version))[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of an alert's history; writing the same id twice keeps one."""

    id: str
    alert_id: str
    kind: Kind
    create_time: datetime
    actor: str = ""
    comment: str = ""
    channel: str = ""
    trace_id: str = ""


def alert_id(*, fingerprint: str, transition_id: str) -> str:
    """The id of the alert that a transition begins: doing it again, even with another database, gives the same."""
    return str(uuid5(_IDS, digest("alert", fingerprint, transition_id)))


def entry_id(alert: str, kind: Kind, *occasion: str) -> str:
    """The id of a history line; `occasion` tells apart what may happen to one alert more than once."""
    return str(uuid5(_IDS, digest("entry", alert, kind.value, *occasion)))


def notification_id(alert: str, notice: Notice) -> str:
    """The id of a notification: the same alert is told of the same thing once."""
    return str(uuid5(_IDS, digest("notification", alert, notice.value)))
