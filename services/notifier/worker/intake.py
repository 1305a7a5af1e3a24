"""Takes notifications from Kafka and keeps their deliveries, before their offsets are committed."""

from collections.abc import Callable, Iterable, Sequence

import structlog

from services.chassis.clock import Clock
from services.chassis.kafka import Record, UnreadableRecordError
from services.chassis.telemetry import in_trace_of
from services.domain.trace_context import traceparent_of
from services.notifier.core.routing import Reason, Routes
from services.notifier.messages import UnreadableError, message_of
from services.notifier.metrics import Metrics
from services.notifier.ports import Planned, Plans

log = structlog.get_logger()


class Intake:
    """Handles batches of the topic `notifications`; doing one twice changes nothing."""

    def __init__(
        self,
        *,
        routes: Routes,
        plans: Plans,
        clock: Clock,
        metrics: Metrics,
        wake: Callable[[Iterable[str]], None],
    ) -> None:
        self._routes = routes
        self._plans = plans
        self._clock = clock
        self._metrics = metrics
        self._wake = wake

    async def handle(self, records: Sequence[Record]) -> None:
        """Keep the deliveries of a batch. Raises StoreUnavailable, and UnreadableRecordError for no notification."""
        planned = [self._plan(record) for record in records]
        channels = await self._plans.add(planned, now=self._clock.now())
        # The caller commits the offsets after this returns, never before.
        self._wake(channels)

    def _plan(self, record: Record) -> Planned:
        try:
            message = message_of(record.value or b"")
        except UnreadableError:
            raise UnreadableRecordError(record, "UNREADABLE_NOTIFICATION") from None
        channels, reason = self._routes.channels_of(message.severity, message.labels)
        with in_trace_of(record.headers):
            log.info(
                "notification_planned",
                notification=str(message.notification_id),
                alert=message.alert_id,
                kind=message.kind.name,
                reason=reason.value,
                channels=channels,
                is_quiet=message.is_quiet,
            )
        if reason is Reason.NO_ROUTE:
            self._metrics.unrouted()
        return Planned(
            notification_id=message.notification_id,
            alert_id=message.alert_id,
            kind=message.kind,
            record=record.value or b"",
            traceparent=traceparent_of(record.headers),
            channels=channels,
            only=self._routes.keeping if message.is_quiet else None,
        )
