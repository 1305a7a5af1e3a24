"""What the watchers of alerts are sent: one log of changed alerts for all of them, and a cursor for each.

The log holds the newest version of each alert in the order in which they changed: of the open ones, and of those that
were resolved lately. A watcher is no more than the position up to which it was sent, so a slow one costs nothing: it
misses versions in between, never the last one. Resolved alerts are kept up to a limit; a watcher that was not sent one
which had to go has fallen behind.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice

from services.manager.core.alert import Alert, AlertFilter


class FellBehindError(Exception):
    """The log dropped a resolved alert that this watcher was not sent."""


@dataclass(slots=True, eq=False)
class LoggedAlert:
    """An alert after a change, and its bytes for watchers: encoded once for all, when it is first sent."""

    position: int
    alert: Alert
    encoded: bytes = b""


@dataclass(slots=True)
class AlertLog:
    """The newest version of each alert. Changed in place."""

    encode: Callable[[Alert], bytes]
    max_resolved: int
    # The position of the newest entry, and of the newest resolved alert that was dropped.
    position: int = 0
    dropped: int = 0
    _newest: dict[str, LoggedAlert] = field(default_factory=dict)
    _resolved: deque[LoggedAlert] = field(default_factory=deque)
    # In order of their positions; some are not the newest of their alert any more.
    _entries: list[LoggedAlert] = field(default_factory=list)

    def put(self, alert: Alert) -> None:
        """Append an alert, unless its version is not newer than the logged one."""
        logged = self._newest.get(alert.id)
        if logged is not None and logged.alert.version >= alert.version:
            return
        self.position += 1
        entry = self._newest[alert.id] = LoggedAlert(self.position, alert)
        self._entries.append(entry)
        # A resolved alert changes no more.
        if not alert.is_open:
            self._resolved.append(entry)
            self._drop_resolved()
        if len(self._entries) > 2 * len(self._newest) + self.max_resolved:
            self._entries = [each for each in self._entries if self._is_newest(each)]

    def put_all_open(self, alerts: Iterable[Alert]) -> list[str]:
        """Append all alerts that are open now; return the ids of those that are open in the log alone."""
        current = set()
        for alert in alerts:
            self.put(alert)
            current.add(alert.id)
        return [name for name, entry in self._newest.items() if entry.alert.is_open and name not in current]

    def remove(self, alert_id: str) -> None:
        """Remove an alert that is not stored any more."""
        self._newest.pop(alert_id, None)

    def after(self, position: int) -> Iterable[LoggedAlert]:
        """Return the newest versions after a position, in their order."""
        first = bisect_right(self._entries, position, key=lambda entry: entry.position)
        return (entry for entry in islice(self._entries, first, None) if self._is_newest(entry))

    def encoded(self, entry: LoggedAlert) -> bytes:
        """Return the bytes of an entry: the same object for all watchers."""
        entry.encoded = entry.encoded or self.encode(entry.alert)
        return entry.encoded

    def _is_newest(self, entry: LoggedAlert) -> bool:
        return self._newest.get(entry.alert.id) is entry

    def _drop_resolved(self) -> None:
        while len(self._resolved) > self.max_resolved:
            self.dropped = self._resolved[0].position
            self.remove(self._resolved.popleft().alert.id)


@dataclass(slots=True)
class AlertCursor:
    """How far a watcher was sent what its filter selects. It is sent no alert that was resolved up to `start`."""

    wanted: AlertFilter
    start: int
    position: int = 0

    def next(self, log: AlertLog) -> LoggedAlert | None:
        """Return the entry to send next, None when all were sent. Raises FellBehindError."""
        if max(self.position, self.start) < log.dropped:
            raise FellBehindError
        for entry in log.after(self.position):
            self.position = entry.position
            was_resolved = entry.position <= self.start and not entry.alert.is_open
            if not was_resolved and self.wanted.selects(entry.alert):
                return entry
        return None
