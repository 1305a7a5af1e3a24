"""The life cycle of one delivery: pending, in flight, delivered or failed, and perhaps tried again after that."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from services.notifier.core.answer import Accepted, Answer, AskedToWait, Misconfigured, Refused, Unavailable
from services.notifier.core.dispatch import Door
from services.notifier.core.message import Kind
from services.notifier.core.retry import RetryPolicy


class State(StrEnum):
    """Where a delivery stands."""

    PENDING = "PENDING"
    IN_FLIGHT = "IN_FLIGHT"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"
    SUPERSEDED = "SUPERSEDED"


class Turn(StrEnum):
    """Why a delivery is being tried: in its turn, to see whether the channel is back, or because somebody said so."""

    REGULAR = "REGULAR"
    PROBE = "PROBE"
    BY_HAND = "BY_HAND"


class Reason(StrEnum):
    """Why a delivery went to the state it is in."""

    DELIVERED = "DELIVERED"
    RETRY_LATER = "RETRY_LATER"
    ATTEMPTS_EXHAUSTED = "ATTEMPTS_EXHAUSTED"
    ASKED_TO_WAIT = "ASKED_TO_WAIT"
    REFUSED = "REFUSED"
    MISCONFIGURED = "MISCONFIGURED"
    BREAKER_OPEN = "BREAKER_OPEN"
    STILL_DOWN = "STILL_DOWN"


# The same words get the same answer: only a person who changed something may send a refused message again.
REDRIVEN = frozenset(Reason) - {Reason.REFUSED, Reason.DELIVERED, Reason.RETRY_LATER}


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One notification on its way through one channel.

    `due_at` is also its place in the channel's queue; a delivery in flight has the one that it had before.
    """

    id: UUID
    notification_id: UUID
    alert_id: str
    kind: Kind
    channel: str
    created_at: datetime
    due_at: datetime
    state: State = State.PENDING
    turn: Turn = Turn.REGULAR
    fallback_for: str = ""
    attempt_count: int = 0
    round_start: int = 0
    failed_at: datetime | None = None
    reason: Reason | None = None
    last_error: str = ""

    @property
    def attempts_in_round(self) -> int:
        """Attempts since it was planned or redriven."""
        return self.attempt_count - self.round_start


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often, and after what time a failed one is tried again to see whether the channel is back."""

    retry: RetryPolicy
    reset_timeout: timedelta


def after(
    delivery: Delivery, answer: Answer, patience: Patience, *, now: datetime, chance: float
) -> tuple[Delivery, Reason]:
    """What becomes of a delivery in flight by the channel's answer, and why."""
    again = now + patience.reset_timeout
    match answer:
        case Accepted():
            ended = replace(delivery, state=State.DELIVERED, reason=Reason.DELIVERED, last_error=answer.text)
            return ended, Reason.DELIVERED
        case Unavailable():
            reason = _given_up(delivery, patience.retry)
            if reason is None:
                wait = patience.retry.wait(delivery.attempts_in_round, chance=chance)
                return _pending(delivery, Reason.RETRY_LATER, answer.text, due_at=now + wait), Reason.RETRY_LATER
        case AskedToWait():
            reason = Reason.ASKED_TO_WAIT
            delivery, again = _not_attempted(delivery), now + answer.wait
            if again - delivery.due_at < patience.retry.max_wait:
                # It keeps its place: the channel's dispatcher waits, and sends the first one first.
                return _pending(delivery, reason, answer.text, due_at=delivery.due_at), reason
        case Misconfigured():
            reason = Reason.MISCONFIGURED
        case Refused():
            reason = Reason.REFUSED
        case _:
            reason = Reason.BREAKER_OPEN
            delivery = _not_attempted(delivery)
    return _failed(delivery, reason, answer.text, now=now, again=again), reason


def is_first_failure(before: Delivery, now: Delivery) -> bool:
    """Whether this is the moment at which to say that it failed and to find who stands in."""
    return now.state is State.FAILED and before.failed_at is None


def shows_return(turn: Turn, answer: Answer, *, before: Door, after: Door) -> bool:
    """Whether an attempt has shown that the channel is back, so that all that failed there is sent again.

    Either the breaker closed by it, or it was made to see that (the breaker forgets when the process ends; the
    deliveries do not).
    """
    if after is not Door.CLOSED:
        return False
    return before is not Door.CLOSED or (turn is not Turn.REGULAR and isinstance(answer, Accepted))


def _not_attempted(delivery: Delivery) -> Delivery:
    return replace(delivery, attempt_count=max(delivery.attempt_count - 1, 0))


def _given_up(delivery: Delivery, retry: RetryPolicy) -> Reason | None:
    """Why there is no further attempt in this round; None when there is one."""
    if delivery.turn is not Turn.REGULAR:
        return Reason.STILL_DOWN
    if not retry.allows(delivery.attempts_in_round):
        return Reason.ATTEMPTS_EXHAUSTED
    return None


def _pending(delivery: Delivery, reason: Reason, text: str, *, due_at: datetime) -> Delivery:
    return replace(delivery, state=State.PENDING, due_at=due_at, reason=reason, last_error=text)


def _failed(delivery: Delivery, reason: Reason, text: str, *, now: datetime, again: datetime) -> Delivery:
    return replace(
        delivery,
        state=State.FAILED,
        turn=Turn.REGULAR,
        due_at=again,
        failed_at=delivery.failed_at or now,
        reason=reason,
        # Being turned away by the breaker says nothing new about the channel: keep what the channel last said.
        last_error=(delivery.last_error or text) if reason is Reason.BREAKER_OPEN else text,
    )
