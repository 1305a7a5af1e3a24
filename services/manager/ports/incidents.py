"""What is stored of incidents, and what receivers are notified of, in a transaction."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.domain.trace_context import TraceHeaders
from services.manager.core.alert import Alert
from services.manager.core.incident import AlertBundle, Incident, IncidentNotification
from services.manager.core.incident_changes import IncidentChange


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedAlert:
    """An alert, the trace of its last change, and whether an incident is stored that has it."""

    alert: Alert
    headers: TraceHeaders = ()
    is_stored: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnedCanary:
    """A canary that has come back from the evaluator: when it was sent, and its trace."""

    time: datetime
    headers: TraceHeaders = ()


class IncidentTable(Protocol):
    """The incidents, with their alerts and histories."""

    async def has_news(self, revision: int) -> bool:
        """Return whether there is anything to do; cheap.

        Alerts have changed since `mark_seen`, incidents after this revision, or notifications have reached nobody.
        """

    async def lock(self) -> int:
        """Return the revision of the change to be made, alone with the incidents until this transaction ends."""

    async def try_lock(self) -> int | None:
        """Do the same, but return None at once where another transaction has the incidents to itself."""

    async def list_seen(self, limit: int) -> Sequence[TracedAlert]:
        """Return the first alerts that have changed since `mark_seen`."""

    async def list_stored(self, alert_ids: Collection[str]) -> frozenset[str]:
        """Return of which of these alerts an incident is stored that has it."""

    async def mark_seen(self, alerts: Sequence[Alert]) -> None:
        """Leave these versions of alerts out of `list_seen` from now on."""

    async def revision(self) -> int:
        """Return the revision of the last change."""

    async def list_changed(self, revision: int, *, resolved_after: datetime) -> Sequence[Incident]:
        """Return the incidents that were written after a revision, without those that were resolved before a time."""

    async def load(self, incident_ids: Collection[str]) -> Mapping[str, Incident]:
        """Return those of these incidents that exist."""

    async def count_comments(self, incident_id: str) -> int:
        """Return the number of comments in an incident's history."""

    async def save(self, changes: Sequence[IncidentChange], revision: int, *, before: Mapping[str, Incident]) -> None:
        """Write changes; `before` has what is stored of their incidents. Notifications are not written here.

        Instances are woken at the commit: what a command has changed may have to be notified.
        """


class NotificationTable(Protocol):
    """What receivers are notified of."""

    async def load_alerts(self, alert_ids: Collection[str]) -> Mapping[str, TracedAlert]:
        """Return those of these alerts that exist."""

    async def insert(self, notifications: Sequence[tuple[IncidentNotification, TracedAlert]]) -> None:
        """Insert notifications in their order, each with the alert that it is about; they are sent after the commit."""

    async def insert_canaries(self, canaries: Sequence[ReturnedCanary]) -> None:
        """Insert what the notifier measures and nobody is notified of; it is sent after the commit."""

    async def load_bundles(self, notification_ids: Collection[str]) -> Mapping[str, AlertBundle]:
        """Return of which alerts notifications tell besides the one that they are about, of those that tell of any."""

    async def insert_exhausted(self, incidents: Mapping[str, str]) -> None:
        """Insert which notifications have reached nobody, with their incidents; instances are woken at the commit."""

    async def take_exhausted(self, limit: int) -> Mapping[str, frozenset[str]]:
        """Delete and return notifications that have reached nobody, by their incidents."""
