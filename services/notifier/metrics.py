"""The notifier's instruments, one method per observation."""

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from opentelemetry.metrics import CallbackOptions, Observation

from services.chassis.telemetry import meter
from services.notifier.core.delivery import Reason
from services.notifier.core.dispatch import Door
from services.notifier.core.message import Kind

_DOORS = {Door.CLOSED: 0, Door.HALF_OPEN: 1, Door.OPEN: 2}


class Metrics:
    """Counts deliveries; make it inside the telemetry block."""

    def __init__(self, channels: Sequence[str], doors: Callable[[], Iterable[tuple[str, Door]]]) -> None:
        made = meter(__name__)
        self._doors = doors
        self._depths = {(channel, state): 0 for channel in channels for state in ("waiting", "failed")}
        self._sent = made.create_counter(
            "notifications_sent", description="Deliveries that ended, by whether the channel took them."
        )
        self._latency = made.create_histogram(
            "tocsin.notifier.notification.latency",
            unit="s",
            description="Time from the change of an alert to the moment at which a channel took the notification.",
        )
        self._attempts = made.create_counter(
            "tocsin.notifier.attempts", description="Attempts at deliveries, by channel and what became of them."
        )
        self._retries = made.create_counter(
            "tocsin.notifier.retries", description="Attempts that were not a delivery's first, by channel."
        )
        self._unrouted = made.create_counter(
            "tocsin.notifier.unrouted", description="Notifications that no route takes."
        )
        made.create_observable_gauge(
            "tocsin.notifier.queue.depth", [self._observe_depths], description="Deliveries that wait, by channel."
        )
        made.create_observable_gauge(
            "tocsin.notifier.breaker.state",
            [self._observe_doors],
            description="A channel's breaker: 0 closed, 1 half open, 2 open.",
        )
        self._begin(channels)

    def attempted(self, channel: str, reason: Reason, *, is_retry: bool) -> None:
        """One attempt ended, or was not made because the breaker is open."""
        self._attempts.add(1, {"channel": channel, "reason": reason.value})
        if is_retry and reason is not Reason.BREAKER_OPEN:
            self._retries.add(1, {"channel": channel})

    def delivered(self, channel: str, kind: Kind, latency: timedelta) -> None:
        """A channel took one, so long after the alert changed."""
        self._sent.add(1, {"status": "success"})
        self._latency.record(max(latency.total_seconds(), 0.0), {"channel": channel, "kind": kind.name})

    def failed(self) -> None:
        """A delivery failed in the end."""
        self._sent.add(1, {"status": "failure"})

    def unrouted(self) -> None:
        """No route takes a notification."""
        self._unrouted.add(1)

    def waiting(self, channel: str, *, waiting: int, failed: int) -> None:
        """So many deliveries wait for a channel, and so many failed ones for it to come back."""
        self._depths[channel, "waiting"] = waiting
        self._depths[channel, "failed"] = failed

    def _begin(self, channels: Sequence[str]) -> None:
        for status in ("success", "failure"):
            self._sent.add(0, {"status": status})
        self._unrouted.add(0)
        for channel in channels:
            self._retries.add(0, {"channel": channel})
            for reason in Reason:
                self._attempts.add(0, {"channel": channel, "reason": reason.value})

    def _observe_depths(self, _: CallbackOptions) -> Iterable[Observation]:
        for (channel, state), depth in self._depths.items():
            yield Observation(depth, {"channel": channel, "state": state})

    def _observe_doors(self, _: CallbackOptions) -> Iterable[Observation]:
        for channel, door in self._doors():
            yield Observation(_DOORS[door], {"channel": channel})
