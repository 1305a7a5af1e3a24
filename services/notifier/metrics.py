"""The notifier's instruments, one method for each observation."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta

from opentelemetry.metrics import CallbackOptions, Observation

from services.chassis.telemetry import meter
from services.notifier.core.delivery import CircuitState, DeliveryReason
from services.notifier.core.notification import NotificationKind

_CIRCUIT_NUMBERS = {CircuitState.CLOSED: 0, CircuitState.HALF_OPEN: 1, CircuitState.OPEN: 2}


class Metrics:
    """Counts deliveries; create it inside the telemetry block."""

    def __init__(self, channels: Sequence[str], circuits: Callable[[], Mapping[str, CircuitState]]) -> None:
        instruments = meter(__name__)
        self._circuits = circuits
        self._depths = {(channel, state): 0 for channel in channels for state in ("waiting", "failed")}
        self._sent = instruments.create_counter(
            "notifications_sent",
            description="Deliveries that a channel accepted, or that failed for the first time, by status and reason.",
        )
        self._latency = instruments.create_histogram(
            "tocsin.notifier.notification.latency",
            unit="s",
            description="Time from the change of an alert until a channel accepted the notification.",
        )
        self._canary_latency = instruments.create_histogram(
            "tocsin.notifier.canary.latency",
            unit="s",
            description="Time from the sending of a canary until it was here, where people would be notified.",
        )
        self._attempts = instruments.create_counter(
            "tocsin.notifier.attempts", description="Attempts at deliveries, by channel and reason."
        )
        self._retries = instruments.create_counter(
            "tocsin.notifier.retries", description="Attempts that were not a delivery's first, by channel."
        )
        self._unrouted = instruments.create_counter(
            "tocsin.notifier.unrouted", description="Notifications that match no route."
        )
        self._unknown_receivers = instruments.create_counter(
            "tocsin.notifier.unknown.receivers",
            description="Receivers that notifications named, and that the routes file does not name.",
        )
        self._redacted = instruments.create_counter(
            "tocsin.notifier.values.redacted",
            unit="{value}",
            description="Values of notifications in which secrets were masked at an attempt, by what was masked.",
        )
        self._held = instruments.create_counter(
            "tocsin.notifier.held",
            description="Notifications that the limit of their tenant has held, by tenant.",
        )
        self._held_waiting: Mapping[str, int] = {}
        instruments.create_observable_gauge(
            "tocsin.notifier.held.waiting",
            [lambda _: [Observation(held, {"tenant": tenant}) for tenant, held in self._held_waiting.items()]],
            description="Deliveries that are held and in no bundle yet, by tenant.",
        )
        instruments.create_observable_gauge(
            "tocsin.notifier.queue.depth", [self._observe_depths], description="Deliveries that wait, by channel."
        )
        instruments.create_observable_gauge(
            "tocsin.notifier.breaker.state",
            [self._observe_circuits],
            description="A channel's breaker: 0 closed, 1 half open, 2 open.",
        )
        self._start_at_zero(channels)

    def attempted(self, channel: str, reason: DeliveryReason, *, is_retry: bool) -> None:
        """Count an attempt, or one that was not made because the breaker is open."""
        self._attempts.add(1, {"channel": channel, "reason": reason.value})
        if is_retry and reason is not DeliveryReason.BREAKER_OPEN:
            self._retries.add(1, {"channel": channel})

    def delivered(self, channel: str, kind: NotificationKind, latency: timedelta) -> None:
        """Count a delivery that the channel accepted, so long after the alert changed."""
        self._sent.add(1, _sent_labels(channel, DeliveryReason.DELIVERED))
        self._latency.record(max(latency.total_seconds(), 0.0), {"channel": channel, "kind": kind.name})

    def canary_returned(self, latency: timedelta) -> None:
        """Record how long a canary was on its way."""
        self._canary_latency.record(max(latency.total_seconds(), 0.0))

    def failed(self, channel: str, reason: DeliveryReason) -> None:
        """Count a delivery that has failed."""
        self._sent.add(1, _sent_labels(channel, reason))

    def redacted(self, value_counts: Mapping[str, int]) -> None:
        """Count values in which something with each name was masked."""
        for name, values in value_counts.items():
            self._redacted.add(values, {"name": name})

    def unrouted(self) -> None:
        """Count a notification that matches no route."""
        self._unrouted.add(1)

    def unknown_receiver(self) -> None:
        """Count a receiver that a notification named, and that the routes file does not name."""
        self._unknown_receivers.add(1)

    def held(self, notifications: Mapping[str, int]) -> None:
        """Count notifications that are held now, by tenant."""
        for tenant, held in notifications.items():
            self._held.add(held, {"tenant": tenant})

    def held_waiting(self, deliveries: Mapping[str, int]) -> None:
        """Set how many deliveries are held and in no bundle yet, by tenant."""
        self._held_waiting = {tenant: held for tenant, held in deliveries.items() if held}

    def waiting(self, channel: str, *, waiting: int, failed: int) -> None:
        """Set how many deliveries wait for a channel, and how many failed ones wait for it to recover."""
        self._depths[channel, "waiting"] = waiting
        self._depths[channel, "failed"] = failed

    def _start_at_zero(self, channels: Sequence[str]) -> None:
        self._unrouted.add(0)
        self._unknown_receivers.add(0)
        for channel in channels:
            self._retries.add(0, {"channel": channel})
            for reason in DeliveryReason:
                self._attempts.add(0, {"channel": channel, "reason": reason.value})
            for reason in set(DeliveryReason) - {DeliveryReason.RETRY_LATER}:
                self._sent.add(0, _sent_labels(channel, reason))

    def _observe_depths(self, _: CallbackOptions) -> Iterable[Observation]:
        for (channel, state), depth in self._depths.items():
            yield Observation(depth, {"channel": channel, "state": state})

    def _observe_circuits(self, _: CallbackOptions) -> Iterable[Observation]:
        for channel, circuit in self._circuits().items():
            yield Observation(_CIRCUIT_NUMBERS[circuit], {"channel": channel})


def _sent_labels(channel: str, reason: DeliveryReason) -> dict[str, str]:
    status = "success" if reason is DeliveryReason.DELIVERED else "failure"
    return {"channel": channel, "reason": reason.value, "status": status}
