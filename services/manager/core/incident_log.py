"""What the watchers of incidents are sent: one log of changed incidents for all of them, and a cursor for each.

Each change of incidents has a revision, and revisions are committed in their order. So the log is the newest version of
each incident in the order of the revisions that wrote them, and a watcher is no more than the revision up to which it
was sent: a slow one costs nothing, and misses versions in between, never the last one. Resolved incidents are kept up
to a limit; a watcher that was not sent one which had to go has fallen behind.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from services.domain.severity import Severity
from services.manager.core.alert_log import FellBehindError
from services.manager.core.incident import IncidentSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedIncidents:
    """Which incidents somebody watches; an empty field is no condition."""

    severities: tuple[Severity, ...] = ()
    service: str = ""

    def selects(self, summary: IncidentSummary) -> bool:
        """Return whether all conditions hold."""
        return (not self.severities or summary.severity in self.severities) and (
            not self.service or self.service in summary.services
        )


@dataclass(slots=True, eq=False)
class LoggedIncident:
    """An incident as a revision left it, and its bytes for watchers: encoded once for all, when it is first sent."""

    revision: int
    summary: IncidentSummary
    encoded: bytes = b""

    @property
    def is_open(self) -> bool:
        """Return whether it is not resolved."""
        return self.summary.incident.is_open


@dataclass(slots=True)
class IncidentLog:
    """The newest version of each incident. Changed in place."""

    encode: Callable[[IncidentSummary], bytes]
    max_resolved: int
    # The newest revision, and that of the newest resolved incident that was dropped.
    revision: int = 0
    dropped: int = 0
    # In the order of revisions.
    _newest: dict[str, LoggedIncident] = field(default_factory=dict)

    def put(self, changes: Iterable[tuple[int, IncidentSummary]], *, revision: int) -> None:
        """Append what was written after the log's revision, in order; all up to this revision is there then."""
        for written, summary in changes:
            revision = max(revision, written)
            incident = summary.incident
            logged = self._newest.get(incident.id)
            # A row that was written because somebody was notified is no change that watchers see.
            if logged is None or logged.summary.incident.version < incident.version:
                self._newest.pop(incident.id, None)
                self._newest[incident.id] = LoggedIncident(written, summary)
        self.revision = revision
        resolved = [entry for entry in self._newest.values() if not entry.is_open]
        for entry in resolved[: max(len(resolved) - self.max_resolved, 0)]:
            self.dropped = entry.revision
            del self._newest[entry.summary.incident.id]

    def after(self, revision: int) -> list[LoggedIncident]:
        """Return what was written after a revision, in order."""
        newer = list(takewhile(lambda entry: entry.revision > revision, reversed(self._newest.values())))
        return newer[::-1]

    def encoded(self, entry: LoggedIncident) -> bytes:
        """Return the bytes of an entry: the same object for all watchers."""
        entry.encoded = entry.encoded or self.encode(entry.summary)
        return entry.encoded


@dataclass(slots=True)
class IncidentCursor:
    """How far a watcher was sent what it watches. It is sent no incident that was resolved up to `start`."""

    wanted: WatchedIncidents
    start: int
    revision: int = 0

    def take(self, log: IncidentLog) -> Sequence[LoggedIncident]:
        """Return the entries to send next. Raises FellBehindError."""
        if max(self.revision, self.start) < log.dropped:
            raise FellBehindError
        entries = log.after(self.revision)
        self.revision = log.revision
        return [
            entry
            for entry in entries
            if (entry.is_open or entry.revision > self.start) and self.wanted.selects(entry.summary)
        ]
