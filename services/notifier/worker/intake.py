"""Takes notifications from Kafka and inserts their deliveries, before their offsets are committed."""

import functools
from collections.abc import Callable, Iterable, Sequence

import structlog

from services.chassis.clock import Clock
from services.chassis.kafka import Record, UnreadableRecordError
from services.chassis.telemetry import in_trace_of
from services.domain.canary import CANARY_SERVICE
from services.domain.severity import Severity
from services.domain.trace_context import traceparent_of
from services.notifier.core.notification import NotificationContent
from services.notifier.core.routing import Routes, RoutingReason
from services.notifier.messages import UnreadableNotificationError, decode_canary, decode_notification
from services.notifier.metrics import Metrics
from services.notifier.ports import DeliveryPlans, PlannedNotification

log = structlog.get_logger()


class NotificationIntake:
    """Handles batches of the topic `notifications`; handling one twice changes nothing."""

    def __init__(
        self,
        *,
        routes: Routes,
        plans: DeliveryPlans,
        clock: Clock,
        metrics: Metrics,
        wake: Callable[[Iterable[str]], None],
    ) -> None:
        self._routes = routes
        self._plans = plans
        self._clock = clock
        self._metrics = metrics
        self._wake = wake
        self._ignores_routes = False
        # A tenant without channels has none of these, and the same answer each time.
        self._routes_of = functools.lru_cache(routes.of_tenant)

    async def handle(self, records: Sequence[Record]) -> None:
        """Insert the deliveries of a batch. Raises StoreUnavailable, and UnreadableRecordError for no notification."""
        planned = [self._plan(record) for record in records if not self._measure(record)]
        channels = await self._plans.insert(planned, now=self._clock.now())
        # The caller commits the offsets after this returns, never before.
        self._wake(channels)

    def _measure(self, record: Record) -> bool:
        """Return whether the record is a canary, of which nobody is notified; then record how long it took."""
        sent = decode_canary(record.value or b"") if record.key == CANARY_SERVICE.encode() else None
        if sent is None:
            return False
        latency = self._clock.now() - sent
        self._metrics.canary_returned(latency)
        with in_trace_of(record.headers):
            log.debug("canary_returned", seconds=latency.total_seconds())
        return True

    def _plan(self, record: Record) -> PlannedNotification:
        try:
            notification = decode_notification(record.value or b"")
        except UnreadableNotificationError:
            raise UnreadableRecordError(record, "UNREADABLE_NOTIFICATION") from None
        channels, reason = self._route(notification)
        with in_trace_of(record.headers):
            log.info(
                "notification_planned",
                notification=str(notification.notification_id),
                alert=notification.alert_id,
                kind=notification.kind.name,
                subject=notification.subject_id,
                sequence=notification.sequence,
                reason=reason.value,
                receivers=notification.receivers,
                channels=channels,
                closes_superseded=notification.closes_superseded,
            )
        if reason is RoutingReason.NO_ROUTE:
            self._metrics.unrouted()
        return PlannedNotification(
            notification_id=notification.notification_id,
            subject_id=notification.subject_id,
            sequence=notification.sequence,
            alert_id=notification.alert_id,
            incident_id=notification.incident.id if notification.incident else "",
            kind=notification.kind,
            record=record.value or b"",
            traceparent=traceparent_of(record.headers),
            channels=channels,
            receivers=notification.receivers,
            only=self._routes.tracking_channels if notification.closes_superseded else None,
            tenant=notification.tenant,
            is_critical=max(notification.severity, notification.alert_severity) is Severity.CRITICAL,
        )

    def _route(self, notification: NotificationContent) -> tuple[tuple[str, ...], RoutingReason]:
        """Return the channels of the notification's receivers; when it names none, those of the file's routes."""
        routes = self._routes_of(notification.tenant)
        if not notification.receivers:
            return routes.route(notification.alert_severity, notification.labels)
        if routes.routes and not self._ignores_routes:
            self._ignores_routes = True
            log.info("file_routes_ignored", why="the manager names receivers: a routing tree decides")
        channels, unknown = routes.resolve(notification.receivers)
        for receiver in unknown:
            self._metrics.unknown_receiver()
            log.warning("receiver_unknown", receiver=receiver, notification=str(notification.notification_id))
        return channels, RoutingReason.RECEIVERS if channels else RoutingReason.UNKNOWN_RECEIVERS
