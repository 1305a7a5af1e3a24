"""Consumes what became of deliveries into the alerts' histories."""

from collections.abc import Sequence

import structlog
from google.protobuf.message import DecodeError

from services.chassis.kafka import Record, UnreadableRecordError
from services.chassis.telemetry import links_of, tracer
from services.domain.trace_context import trace_id_of, traceparent_of
from services.manager.core.alert import Entry
from services.manager.metrics import Metrics
from services.manager.ports.commands import Store
from services.manager.wire.alerts import UnusableRecordError
from services.manager.wire.results import entry
from tocsin.notifications.v1.notification_pb2 import NotificationResult

log = structlog.get_logger()


class ResultWorker:
    """Handles batches of the topic `notification-results`; doing one twice changes nothing."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics

    async def handle(self, records: Sequence[Record]) -> None:
        """Do a batch. Raises UnreadableRecordError for what is no result, and StoreUnavailable."""
        entries = [_decoded(record) for record in records]
        with tracer(__name__).start_as_current_span(
            "notification-results process", links=links_of(record.headers for record in records)
        ):
            async with self._store.writing() as writing:
                new = await writing.alerts.note(entries)
        self._metrics.results(new, len(entries) - new)
        log.info("results_recorded", new=new, known=len(entries) - new)


def _decoded(record: Record) -> Entry:
    try:
        return entry(NotificationResult.FromString(record.value), trace_id=trace_id_of(traceparent_of(record.headers)))
    except DecodeError:
        raise UnreadableRecordError(record, "UNREADABLE_RESULT") from None
    except UnusableRecordError as error:
        log.warning("result_unusable", problem=str(error), partition=record.partition, offset=record.offset)
        raise UnreadableRecordError(record, "UNUSABLE_RESULT") from None
