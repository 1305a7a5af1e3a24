"""Decode records of `log-events` to columns, a whole fetch at once."""

from collections.abc import Sequence

import numpy as np
from ptars import HandlerPool

from services.chassis.kafka import Record as KafkaRecord
from services.domain.trace_context import traceparent_of
from services.evaluator.core.match.events import EventBatch, EventColumns, LogRecord
from services.evaluator.ports import UnreadableRecord
from tocsin.logs.v1 import log_event_pb2

UNDECODABLE = "UNDECODABLE"

MILLISECOND_NS = 1_000_000


class LogDecoder:
    """Decodes log batches with ptars, without a Python object for each event."""

    def __init__(self) -> None:
        pool = HandlerPool([log_event_pb2.DESCRIPTOR])
        self._handler = pool.get_for_message(log_event_pb2.LogBatch.DESCRIPTOR)

    def decode(self, records: Sequence[KafkaRecord]) -> tuple[EventBatch, tuple[UnreadableRecord, ...]]:
        """Decode a fetch. A record that cannot be decoded is returned as unreadable, and has no events in the batch."""
        log_records = tuple(_log_record_of(record) for record in records)
        values = [record.value for record in records]
        try:
            return self._event_batch(log_records, values), ()
        except ValueError:
            readable = [self._is_readable(value) for value in values]
        unreadable = tuple(
            UnreadableRecord(record=record, reason=UNDECODABLE)
            for record, is_readable in zip(records, readable, strict=True)
            if not is_readable
        )
        values = [value if is_readable else b"" for value, is_readable in zip(values, readable, strict=True)]
        return self._event_batch(log_records, values), unreadable

    def _event_batch(self, records: tuple[LogRecord, ...], values: list[bytes]) -> EventBatch:
        batches = self._handler.list_to_record_batch(values).column("events")
        lengths = np.diff(batches.offsets.to_numpy()).astype(np.int64)
        return EventBatch(records=records, lengths=lengths, columns=EventColumns.of(batches.flatten()))

    def _is_readable(self, value: bytes) -> bool:
        try:
            self._handler.list_to_record_batch([value])
        except ValueError:
            return False
        return True


def _log_record_of(record: KafkaRecord) -> LogRecord:
    return LogRecord(
        partition=record.partition,
        offset=record.offset,
        arrival_ns=record.timestamp_ms * MILLISECOND_NS,
        traceparent=traceparent_of(record.headers),
    )
