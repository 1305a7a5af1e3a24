"""One attempt: call the channel through its breaker, decide, record. All state is in the rows."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial

import structlog
from opentelemetry.trace import Span, SpanKind

from services.chassis.backoff import Backoff, failure_reason, retrying
from services.chassis.breaker import Breaker, BreakerState, CircuitOpenError
from services.chassis.clock import Clock
from services.chassis.telemetry import context_of, tracer
from services.domain.trace_context import headers_of
from services.notifier.core.delivery import (
    AttemptKind,
    CircuitState,
    Delivery,
    DeliveryReason,
    DeliveryState,
    RetryPolicy,
    apply_response,
    is_first_failure,
    shows_recovery,
)
from services.notifier.core.notification import NotificationContent
from services.notifier.core.redaction import redact_content
from services.notifier.core.response import ChannelResponse, Misconfigured, Refused, Unavailable, circuit_open
from services.notifier.messages import UnreadableNotificationError, decode_notification
from services.notifier.metrics import Metrics
from services.notifier.ports import Channel, DeliveryOutcome, DeliveryOutcomes, LeasedDelivery
from services.redaction.named_texts import RedactTexts

log = structlog.get_logger()

_CIRCUIT_STATES: Mapping[BreakerState, CircuitState] = {
    BreakerState.CLOSED: CircuitState.CLOSED,
    BreakerState.OPEN: CircuitState.OPEN,
    BreakerState.HALF_OPEN: CircuitState.HALF_OPEN,
}


class ChannelFailedError(Exception):
    """What the breaker counts: a failure of the channel itself."""

    def __init__(self, response: ChannelResponse) -> None:
        super().__init__(response.text)
        self.response = response


def _is_failure_of_channel(response: ChannelResponse) -> bool:
    return isinstance(response, Unavailable) or (isinstance(response, Misconfigured) and response.was_called)


def circuit_of(breaker: Breaker) -> CircuitState:
    """Return the breaker's state as the core knows it."""
    return _CIRCUIT_STATES[breaker.state]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Sends one channel's deliveries. Its methods raise nothing but cancellation."""

    channel: Channel
    recipient: str
    breaker: Breaker
    outcomes: DeliveryOutcomes
    policy: RetryPolicy
    clock: Clock
    random: Callable[[], float]
    metrics: Metrics
    wake: Callable[[frozenset[str]], None]
    backoff: Backoff
    redact: RedactTexts | None = None
    """Masks secrets in what is sent; None: nothing is masked."""

    async def send(
        self, leased: LeasedDelivery, answered: Callable[[ChannelResponse], None] = lambda _: None
    ) -> ChannelResponse:
        """Make one attempt, call `answered` with the response, record the outcome, and return the response."""
        delivery = leased.delivery
        with _span("deliver", leased) as span:
            circuit = circuit_of(self.breaker)
            with self.outcomes.attempt():
                notification, response = await self._call(leased)
            answered(response)
            recovered = shows_recovery(delivery.attempt_kind, response, before=circuit, after=circuit_of(self.breaker))
            reason = await self._record(delivery, response, notification=notification, channel_recovered=recovered)
            span.set_attribute("tocsin.outcome", reason.value)
            return response

    async def fall_back(self, leased: LeasedDelivery, response: ChannelResponse) -> None:
        """Record a failure without an attempt, so that the delivery goes to a fallback."""
        with _span("fall back", leased):
            await self._record(leased.delivery, response, notification=None, channel_recovered=False)

    async def _call(self, leased: LeasedDelivery) -> tuple[NotificationContent | None, ChannelResponse]:
        try:
            notification = decode_notification(leased.record)
        except UnreadableNotificationError:
            return None, Refused("the notification cannot be read")

        async def attempt() -> ChannelResponse:
            response = await self._send(notification, leased.delivery)
            if _is_failure_of_channel(response):
                raise ChannelFailedError(response)
            return response

        try:
            if leased.delivery.attempt_kind is AttemptKind.BY_HAND:
                return notification, await attempt()
            return notification, await self.breaker.call(attempt)
        except CircuitOpenError:
            return notification, circuit_open(self.breaker.last_failure)
        except ChannelFailedError as failed:
            return notification, failed.response
        except TimeoutError:
            return notification, Unavailable("no answer in time")

    async def _send(self, notification: NotificationContent, delivery: Delivery) -> ChannelResponse:
        try:
            return await self.channel.send(self._redacted(notification), delivery.id)
        except Exception as error:  # noqa: BLE001 - one notification that a channel fails on must not stop the others
            # The text of an unforeseen error may hold an address or a key: only its name is logged.
            log.error("channel_crashed", channel=delivery.channel, error=type(error).__name__)  # noqa: TRY400 - as above
            return Refused("the notification cannot be put into the channel's form")

    def _redacted(self, notification: NotificationContent) -> NotificationContent:
        if self.redact is None:
            return notification
        redacted, value_counts = redact_content(notification, self.redact)
        self.metrics.redacted(value_counts)
        return redacted

    async def _record(
        self,
        delivery: Delivery,
        response: ChannelResponse,
        *,
        notification: NotificationContent | None,
        channel_recovered: bool,
    ) -> DeliveryReason:
        """Decide and record; wait for a database that is away, because only this process knows the response."""
        now = self.clock.now()
        delivery = replace(delivery, recipient=self.recipient)
        after, reason = apply_response(delivery, response, self.policy, now=now, jitter=self.random())
        outcome = DeliveryOutcome(before=delivery, after=after, channel_recovered=channel_recovered)
        channels = await retrying(
            partial(self.outcomes.record, outcome, now=now),
            log_event="outcome_delayed",
            backoff=self.backoff,
            retry_reason=failure_reason,
            delivery=str(delivery.id),
        )
        self._observe(outcome, reason, notification)
        self.wake(channels)
        return reason

    def _observe(
        self, outcome: DeliveryOutcome, reason: DeliveryReason, notification: NotificationContent | None
    ) -> None:
        before, after = outcome.before, outcome.after
        self.metrics.attempted(after.channel, reason, is_retry=before.attempt_count > 1)
        if after.state is DeliveryState.DELIVERED and notification is not None:
            self.metrics.delivered(after.channel, after.kind, self.clock.now() - notification.change_time)
        elif is_first_failure(before, after):
            self.metrics.failed(after.channel, reason)
        write = log.info if after.state is DeliveryState.DELIVERED else log.warning
        write(
            "delivery_ended" if after.state is not DeliveryState.PENDING else "delivery_postponed",
            delivery=str(after.id),
            alert=after.alert_id,
            channel=after.channel,
            kind=after.kind.name,
            reason=reason.value,
            attempts=after.attempt_count,
            recipient=after.recipient,
            error=after.last_error,
            fallback_for=after.fallback_for,
            channel_recovered=outcome.channel_recovered,
        )


def _span(name: str, leased: LeasedDelivery) -> AbstractContextManager[Span]:
    """Begin a span in the trace of the event that caused the alert."""
    delivery = leased.delivery
    return tracer(__name__).start_as_current_span(
        f"{name} {delivery.channel}",
        context=context_of(headers_of(leased.traceparent)),
        kind=SpanKind.CLIENT,
        attributes={
            "tocsin.alert.id": delivery.alert_id,
            "tocsin.notification.kind": delivery.kind.name,
            "tocsin.channel": delivery.channel,
            "tocsin.attempt": delivery.attempt_count,
        },
    )
