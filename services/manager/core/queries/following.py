"""What one follower of alerts has still to be sent."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from services.manager.core.alert import Alert
from services.manager.core.queries.filters import AlertFilter


@dataclass(slots=True)
class Follower:
    """A follower's queue: the newest form of each changed alert, at most `limit` beyond those it began with.

    A follower that is slower than the changes misses forms in between, never the last one. When the queue is full
    it is thrown away and the follower `is_behind`: it is then brought up to date from all open alerts.
    """

    wanted: AlertFilter
    limit: int = 1000
    is_behind: bool = False
    _backlog: int = 0
    _waiting: dict[str, Alert] = field(default_factory=dict)
    _sent: dict[str, int] = field(default_factory=dict)

    def offer(self, alert: Alert) -> None:
        """Queue a changed alert, unless it is unwanted or as old as what was sent."""
        if not self.wanted.selects(alert) or not self._is_news(alert):
            return
        self._waiting[alert.id] = alert
        if len(self._waiting) > self._backlog + self.limit:
            self.fall_behind()

    def fall_behind(self) -> None:
        """Changes may have been missed: the queue is no use any more."""
        self._waiting.clear()
        self.is_behind = True

    def take(self) -> Alert | None:
        """The alert to send next."""
        if not self._waiting:
            return None
        alert = self._waiting.pop(next(iter(self._waiting)))
        if alert.life.is_open:
            self._sent[alert.id] = alert.version
        else:
            self._sent.pop(alert.id, None)
        return alert

    def catch_up(self, open_alerts: Iterable[Alert]) -> list[str]:
        """Bring it up to date: queue what it has not seen, and name what it saw open that is not open any more."""
        current = {alert.id: alert for alert in open_alerts if self.wanted.selects(alert)}
        self._waiting.update({name: alert for name, alert in current.items() if self._is_news(alert)})
        self._backlog = len(self._waiting)
        return [name for name in self._sent if name not in current]

    def _is_news(self, alert: Alert) -> bool:
        waiting = self._waiting.get(alert.id)
        known = waiting.version if waiting else self._sent.get(alert.id, 0)
        return alert.version > known
