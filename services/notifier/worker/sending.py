"""One attempt: ask the channel through its breaker, decide, record. And then forget it: the rows know."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import structlog
from opentelemetry.trace import Span, SpanKind

from services.chassis.backoff import Backoff, failure_reason, retrying
from services.chassis.breaker import Breaker, BreakerState, CircuitOpenError
from services.chassis.clock import Clock
from services.chassis.telemetry import context_of, tracer
from services.domain.trace_context import headers_of
from services.notifier.core.answer import Answer, Misconfigured, Refused, TurnedAway, Unavailable
from services.notifier.core.delivery import (
    Delivery,
    Patience,
    Reason,
    State,
    Turn,
    after,
    is_first_failure,
    shows_return,
)
from services.notifier.core.dispatch import Door
from services.notifier.core.message import Message
from services.notifier.messages import UnreadableError, message_of
from services.notifier.metrics import Metrics
from services.notifier.ports import Channel, Ending, Job, Outcomes

log = structlog.get_logger()

_DOORS: Mapping[BreakerState, Door] = {
    BreakerState.CLOSED: Door.CLOSED,
    BreakerState.OPEN: Door.OPEN,
    BreakerState.HALF_OPEN: Door.HALF_OPEN,
}


class ChannelFailedError(Exception):
    """What the breaker counts: the channel itself is in trouble."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.text)
        self.answer = answer


def door_of(breaker: Breaker) -> Door:
    """The breaker's state in the core's word."""
    return _DOORS[breaker.state]


def _span(verb: str, job: Job) -> AbstractContextManager[Span]:
    """A span in the trace of the log line that decided."""
    delivery = job.delivery
    return tracer(__name__).start_as_current_span(
        f"{verb} {delivery.channel}",
        context=context_of(headers_of(job.traceparent)),
        kind=SpanKind.CLIENT,
        attributes={
            "tocsin.alert.id": delivery.alert_id,
            "tocsin.notification.kind": delivery.kind.name,
            "tocsin.channel": delivery.channel,
            "tocsin.attempt": delivery.attempt_count,
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Sends one channel's jobs. Its methods raise nothing but cancellation."""

    channel: Channel
    breaker: Breaker
    outcomes: Outcomes
    patience: Patience
    clock: Clock
    chance: Callable[[], float]
    metrics: Metrics
    wake: Callable[[frozenset[str]], None]
    backoff: Backoff

    async def send(self, job: Job) -> Answer:
        """Make one attempt and record what became of it; gives what the channel said."""
        delivery = job.delivery
        with _span("deliver", job) as span:
            door = door_of(self.breaker)
            message, answer = await self._ask(job)
            returned = shows_return(delivery.turn, answer, before=door, after=door_of(self.breaker))
            reason = await self._settle(delivery, answer, message=message, channel_is_back=returned)
            span.set_attribute("tocsin.outcome", reason.value)
            return answer

    async def turn_away(self, job: Job, answer: Answer) -> None:
        """Make no attempt: the fallbacks tell it, and it stands among the failed ones."""
        with _span("divert", job):
            await self._settle(job.delivery, answer, message=None, channel_is_back=False)

    async def _ask(self, job: Job) -> tuple[Message | None, Answer]:
        try:
            message = message_of(job.record)
        except UnreadableError:
            return None, Refused("the notification cannot be read")

        async def attempt() -> Answer:
            answer = await self._attempt(message, job.delivery)
            if isinstance(answer, Unavailable | Misconfigured):
                raise ChannelFailedError(answer)
            return answer

        try:
            if job.delivery.turn is Turn.BY_HAND:
                return message, await attempt()
            return message, await self.breaker.call(attempt)
        except CircuitOpenError:
            return message, TurnedAway()
        except ChannelFailedError as failed:
            return message, failed.answer
        except TimeoutError:
            return message, Unavailable("no answer in time")

    async def _attempt(self, message: Message, delivery: Delivery) -> Answer:
        try:
            return await self.channel.send(message, delivery.id)
        except Exception as error:  # noqa: BLE001 - a message that a channel chokes on must not stop the others
            # The text of an unforeseen error may hold an address or a key: only its name is told.
            log.error("channel_crashed", channel=delivery.channel, error=type(error).__name__)  # noqa: TRY400 - as above
            return Refused("the message cannot be put into the channel's form")

    async def _settle(
        self, delivery: Delivery, answer: Answer, *, message: Message | None, channel_is_back: bool
    ) -> Reason:
        """Decide and record; a database that is away is waited for, because only this process knows the answer."""
        now = self.clock.now()
        ended, reason = after(delivery, answer, self.patience, now=now, chance=self.chance())
        ending = Ending(before=delivery, after=ended, channel_is_back=channel_is_back)
        woken = await retrying(
            partial(self.outcomes.record, ending, now=now),
            log_event="outcome_delayed",
            backoff=self.backoff,
            retry_reason=failure_reason,
            delivery=str(delivery.id),
        )
        self._observe(ending, reason, message)
        self.wake(woken)
        return reason

    def _observe(self, ending: Ending, reason: Reason, message: Message | None) -> None:
        before, ended = ending.before, ending.after
        self.metrics.attempted(ended.channel, reason, is_retry=before.attempt_count > 1)
        if ended.state is State.DELIVERED and message is not None:
            self.metrics.delivered(ended.channel, ended.kind, self.clock.now() - message.change_time)
        elif is_first_failure(before, ended):
            self.metrics.failed()
        tell = log.info if ended.state is State.DELIVERED else log.warning
        tell(
            "delivery_ended" if ended.state is not State.PENDING else "delivery_postponed",
            delivery=str(ended.id),
            alert=ended.alert_id,
            channel=ended.channel,
            kind=ended.kind.name,
            reason=reason.value,
            attempts=ended.attempt_count,
            error=ended.last_error,
            fallback_for=ended.fallback_for,
            channel_is_back=ending.channel_is_back,
        )
