"""The life cycle of a delivery: when it is retried, when it has failed, and what its channel's dispatcher does next.

A delivery is PENDING until its due time, IN_FLIGHT while an instance holds its lease, and then DELIVERED, FAILED or
PENDING again; SUPERSEDED when the channel took something newer about the same subject. `apply_response` decides. One
beyond its tenant's limit is HELD until a bundle that it is part of is delivered (`notification_limit`).

An attempt counts only when the channel was called and did not ask to wait. A round of attempts begins when the
delivery is planned or redriven; REGULAR attempts go on until the round has `max_attempts`. A FAILED delivery goes to a
fallback once, at its first failure, and waits for its channel: a PROBE, or somebody by hand (BY_HAND), makes one more
attempt, and when the channel has recovered all of its FAILED deliveries are redriven in order. What the channel refused
is not: the same text would get the same answer.

A notification is exhausted when all of its deliveries have failed, those to fallbacks among them. The manager is told
once.

On replay nothing changes: a delivery's id is a function of notification and channel, and a lease that another instance
took over makes an outcome void, except that a delivery that the channel accepted is DELIVERED in any case.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from services.domain.tenants import SOLE_TENANT
from services.notifier.core.notification import NotificationKind
from services.notifier.core.response import (
    Accepted,
    AskedToWait,
    ChannelResponse,
    Misconfigured,
    Refused,
    Unavailable,
)


class DeliveryState(StrEnum):
    """Where a delivery is in its life cycle."""

    PENDING = "PENDING"
    IN_FLIGHT = "IN_FLIGHT"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"
    SUPERSEDED = "SUPERSEDED"
    HELD = "HELD"


class AttemptKind(StrEnum):
    """Why an attempt is made: it is due, it shows whether the channel has recovered, or somebody asked for it."""

    REGULAR = "REGULAR"
    PROBE = "PROBE"
    BY_HAND = "BY_HAND"


class DeliveryReason(StrEnum):
    """Why a delivery went to the state that it is in."""

    DELIVERED = "DELIVERED"
    RETRY_LATER = "RETRY_LATER"
    ATTEMPTS_EXHAUSTED = "ATTEMPTS_EXHAUSTED"
    ASKED_TO_WAIT = "ASKED_TO_WAIT"
    REFUSED = "REFUSED"
    MISCONFIGURED = "MISCONFIGURED"
    BREAKER_OPEN = "BREAKER_OPEN"
    STILL_DOWN = "STILL_DOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One notification to one channel, with its attempts.

    `due_time` is also its place in the channel's queue; a delivery in flight has the one that it had before.
    """

    id: UUID
    notification_id: UUID
    subject_id: str
    """What receivers see as one thing: an alert or an incident."""
    sequence: int
    """The place of its notification among those of the subject."""
    alert_id: str
    kind: NotificationKind
    channel: str
    create_time: datetime
    due_time: datetime
    state: DeliveryState = DeliveryState.PENDING
    attempt_kind: AttemptKind = AttemptKind.REGULAR
    fallback_for: str = ""
    attempt_count: int = 0
    round_start: int = 0
    fail_time: datetime | None = None
    reason: DeliveryReason | None = None
    last_error: str = ""
    recipient: str = ""
    incident_id: str = ""
    # Whose it is.
    tenant: str = SOLE_TENANT

    @property
    def attempts_in_round(self) -> int:
        """Return the number of attempts since it was planned or redriven."""
        return self.attempt_count - self.round_start


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a delivery is attempted, and after what delays: exponential backoff with full jitter."""

    max_attempts: int = 5
    first_delay: timedelta = timedelta(milliseconds=500)
    max_delay: timedelta = timedelta(seconds=30)
    max_wait: timedelta = timedelta(minutes=5)
    """How long a delivery waits for a channel that asks to wait, before it goes to a fallback."""
    probe_interval: timedelta = timedelta(seconds=30)
    """After what time a failed delivery is sent again to see whether the channel has recovered."""

    def __post_init__(self) -> None:
        """Refuse a policy that never ends or never waits."""
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts must be at least 1, got {self.max_attempts}")
        if not timedelta(0) < self.first_delay <= self.max_delay:
            raise ValueError(
                f"first_delay must be above 0 and at most max_delay, got {self.first_delay} and {self.max_delay}"
            )

    def delay(self, attempt: int, *, jitter: float) -> timedelta:
        """Return the delay after attempt number `attempt`, counted from 1; `jitter` is in [0, 1)."""
        return min(self.max_delay, self.first_delay * (1 << min(attempt - 1, 32))) * jitter


def apply_response(
    delivery: Delivery, response: ChannelResponse, policy: RetryPolicy, *, now: datetime, jitter: float
) -> tuple[Delivery, DeliveryReason]:
    """Return a delivery in flight as it is after the channel's response, and why. Here a retry is decided."""
    next_probe = now + policy.probe_interval
    match response:
        case Accepted():
            reason = DeliveryReason.DELIVERED
            return replace(delivery, state=DeliveryState.DELIVERED, reason=reason, last_error=response.text), reason
        case Unavailable():
            reason = _retry_reason(delivery, policy)
            if reason is DeliveryReason.RETRY_LATER:
                due_time = now + policy.delay(delivery.attempts_in_round, jitter=jitter)
                return _pending(delivery, reason, response.text, due_time=due_time), reason
        case AskedToWait(wait=wait) if now + wait - delivery.due_time < policy.max_wait:
            reason = DeliveryReason.ASKED_TO_WAIT
            # It keeps its place: the channel's dispatcher waits, and then sends the first one first.
            return _pending(_not_attempted(delivery), reason, response.text, due_time=delivery.due_time), reason
        case AskedToWait():
            reason = DeliveryReason.ASKED_TO_WAIT
            delivery, next_probe = _not_attempted(delivery), now + response.wait
        case Misconfigured():
            reason = DeliveryReason.MISCONFIGURED
            delivery = delivery if response.was_called else _not_attempted(delivery)
        case Refused():
            reason = DeliveryReason.REFUSED
        case _:
            reason = DeliveryReason.BREAKER_OPEN
            delivery = _not_attempted(delivery)
    return _failed(delivery, reason, response.text, now=now, next_probe=next_probe), reason


def is_first_failure(before: Delivery, after: Delivery) -> bool:
    """Return whether this failure is reported to the manager and goes to a fallback; later ones do neither."""
    return after.state is DeliveryState.FAILED and before.fail_time is None


def _retry_reason(delivery: Delivery, policy: RetryPolicy) -> DeliveryReason:
    """Return RETRY_LATER when there is another attempt in this round, else why there is none."""
    if delivery.attempt_kind is not AttemptKind.REGULAR:
        return DeliveryReason.STILL_DOWN
    if delivery.attempts_in_round >= policy.max_attempts:
        return DeliveryReason.ATTEMPTS_EXHAUSTED
    return DeliveryReason.RETRY_LATER


def _not_attempted(delivery: Delivery) -> Delivery:
    return replace(delivery, attempt_count=max(delivery.attempt_count - 1, 0))


def _pending(delivery: Delivery, reason: DeliveryReason, text: str, *, due_time: datetime) -> Delivery:
    return replace(delivery, state=DeliveryState.PENDING, due_time=due_time, reason=reason, last_error=text)


def _failed(delivery: Delivery, reason: DeliveryReason, text: str, *, now: datetime, next_probe: datetime) -> Delivery:
    return replace(
        delivery,
        state=DeliveryState.FAILED,
        attempt_kind=AttemptKind.REGULAR,
        due_time=next_probe,
        fail_time=delivery.fail_time or now,
        reason=reason,
        # An open circuit is no news of the channel: keep its last error.
        last_error=(delivery.last_error or text) if reason is DeliveryReason.BREAKER_OPEN else text,
    )


class CircuitState(StrEnum):
    """What a channel's breaker lets through."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


class DispatchStep(StrEnum):
    """What a dispatcher does: send what is due, wait, send one probe, or send to the fallbacks."""

    SEND = "SEND"
    WAIT = "WAIT"
    PROBE = "PROBE"
    FALL_BACK = "FALL_BACK"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelStatus:
    """What is known of a channel: its breaker, and until when it asked to wait."""

    circuit: CircuitState
    probe_time: datetime | None = None
    is_probing: bool = False
    wait_until: datetime | None = None


def next_step(status: ChannelStatus, *, now: datetime) -> DispatchStep:
    """Return what the dispatcher does next: one probe shows whether the channel has recovered, the rest falls back."""
    is_waiting = status.wait_until is not None and now < status.wait_until
    if status.circuit is CircuitState.CLOSED:
        return DispatchStep.WAIT if is_waiting else DispatchStep.SEND
    if status.is_probing or is_waiting:
        return DispatchStep.FALL_BACK
    if status.circuit is CircuitState.HALF_OPEN or (status.probe_time is not None and now >= status.probe_time):
        return DispatchStep.PROBE
    return DispatchStep.FALL_BACK


def shows_recovery(
    attempt_kind: AttemptKind, response: ChannelResponse, *, before: CircuitState, after: CircuitState
) -> bool:
    """Return whether an attempt has shown that the channel has recovered, so that its failed deliveries are redriven.

    Either it closed the breaker, or it was made for that: a breaker forgets when the process ends, deliveries do not.
    """
    if after is not CircuitState.CLOSED:
        return False
    return before is not CircuitState.CLOSED or (
        attempt_kind is not AttemptKind.REGULAR and isinstance(response, Accepted)
    )
