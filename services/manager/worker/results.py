"""Consume the results of deliveries into the alerts' histories, and say which notifications have reached nobody."""

from collections.abc import Sequence

import structlog
from google.protobuf.message import DecodeError

from services.chassis.kafka import Record, UnreadableRecordError
from services.chassis.telemetry import links_of, tracer
from services.chassis.tenants import as_tenant, is_tenant_name
from services.contract.timestamps import datetime_of
from services.domain.tenants import read_tenant
from services.domain.trace_context import trace_id_of, traceparent_of
from services.manager.core.alert import AlertHistoryEntry, AlertHistoryKind, NotifiedState, history_id_of
from services.manager.core.incident import AlertBundle
from services.manager.core.notification_entries import entries_of_delivery
from services.manager.messages.alerts import UnusableRecordError
from services.manager.metrics import Metrics
from services.manager.ports.tables import Store
from tocsin.notifications.v1.notification_pb2 import Notification, NotificationResult

log = structlog.get_logger()

_KINDS = {
    NotificationResult.DELIVERED: AlertHistoryKind.NOTIFIED,
    NotificationResult.FAILED: AlertHistoryKind.NOTIFICATION_FAILED,
    NotificationResult.HELD: AlertHistoryKind.NOTIFICATION_HELD,
}

_NOTIFIED_STATES = {
    Notification.FIRING: NotifiedState.FIRING,
    Notification.ACKNOWLEDGED: NotifiedState.ACKNOWLEDGED,
    Notification.RESOLVED: NotifiedState.RESOLVED,
}


class ResultWorker:
    """Processes batches of the topic `notification-results`; a batch that comes again changes nothing."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics

    async def handle(self, records: Sequence[Record]) -> None:
        """Process a batch. Raises UnreadableRecordError for a record that is no result, and StoreUnavailable."""
        results = [_decode(record) for record in records]
        with tracer(__name__).start_as_current_span(
            "notification-results process", links=links_of(record.headers for record in records)
        ):
            for tenant in dict.fromkeys(read_tenant(message.tenant) for _, message in results):
                with as_tenant(tenant):
                    await self._insert([each for each in results if read_tenant(each[1].tenant) == tenant])

    async def _insert(self, results: Sequence[tuple[AlertHistoryEntry, NotificationResult]]) -> None:
        """Insert the results of one tenant."""
        exhausted = {
            message.notification_id: message.incident_id
            for _, message in results
            if message.is_exhausted and message.incident_id
        }
        delivered = {
            entry.notification_id for entry, message in results if message.outcome == NotificationResult.DELIVERED
        }
        async with self._store.transaction() as transaction:
            bundles = await transaction.notifications.load_bundles(delivered)
            entries = [
                each
                for entry, _ in results
                for each in entries_of_delivery(entry, bundles.get(entry.notification_id, AlertBundle()))
            ]
            new = await transaction.alerts.insert_history(entries)
            await transaction.notifications.insert_exhausted(exhausted)
        duplicates = len(entries) - new
        self._metrics.results(new, duplicates)
        log.info("results_recorded", new=new, duplicates=duplicates)


def result_entry(message: NotificationResult, *, trace_id: str = "") -> AlertHistoryEntry:
    """Return a result as an entry of its alert's history, in the trace of the delivery.

    A delivery that failed may succeed later: two entries, each once however often it is reported. Raises
    UnusableRecordError, which names the first field that is missing.
    """
    for field in ("delivery_id", "alert_id", "channel"):
        if not getattr(message, field):
            raise UnusableRecordError(f"{field} is missing")
    if not is_tenant_name(read_tenant(message.tenant)):
        raise UnusableRecordError("tenant is not the name of one")
    kind = _KINDS.get(message.outcome)
    if kind is None:
        raise UnusableRecordError("outcome is missing")
    try:
        create_time = datetime_of(message.create_time)
    except ValueError as error:
        raise UnusableRecordError("create_time is out of range") from error
    return AlertHistoryEntry(
        id=history_id_of(message.alert_id, kind, message.delivery_id),
        alert_id=message.alert_id,
        kind=kind,
        create_time=create_time,
        comment=_comment(message),
        channel=message.channel,
        trace_id=trace_id,
        recipient=message.recipient,
        notified_state=_NOTIFIED_STATES.get(message.kind),
        notification_id=message.notification_id,
    )


def _comment(message: NotificationResult) -> str:
    kind = Notification.Kind.Name(message.kind) if message.kind in Notification.Kind.values() else ""
    fallback = f"in place of {message.fallback_for}" if message.fallback_for else ""
    return "; ".join(part for part in (kind, fallback, message.reason) if part)


def _decode(record: Record) -> tuple[AlertHistoryEntry, NotificationResult]:
    try:
        message = NotificationResult.FromString(record.value)
        return result_entry(message, trace_id=trace_id_of(traceparent_of(record.headers))), message
    except DecodeError:
        raise UnreadableRecordError(record, "UNREADABLE_RESULT") from None
    except UnusableRecordError as error:
        log.warning("result_unusable", problem=str(error), partition=record.partition, offset=record.offset)
        raise UnreadableRecordError(record, "UNUSABLE_RESULT") from None
