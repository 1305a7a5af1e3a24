"""`log-events`: read as a member of the match group, decoded to columns a whole fetch at once."""

import asyncio
from collections.abc import Mapping, Sequence

import numpy as np
from ptars import HandlerPool

from services.chassis.kafka import CommittedOffset, Consumer, Record
from services.domain.trace_context import traceparent_of
from services.evaluator.core.match.events import EventBatch, EventColumns, LogRecord
from services.evaluator.core.records import MILLISECOND_NS
from services.evaluator.ports import LogFetch, UnreadableRecord
from tocsin.logs.v1 import log_event_pb2

UNDECODABLE = "UNDECODABLE"


class KafkaLogSource:
    """`log-events`, as a member of the match group."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._decoder = LogDecoder()

    async def fetch(self, limit: int, timeout_s: float) -> LogFetch:
        rebalance, records = await self._consumer.fetch(limit, timeout_s, fill=True)
        records.sort(key=lambda record: (record.partition, record.offset))
        events, unreadable = await asyncio.to_thread(self._decoder.decode, records)
        return LogFetch(rebalance=rebalance, events=events, unreadable=unreadable)

    async def commit(self, offsets: Sequence[CommittedOffset]) -> bool:
        return await self._consumer.commit(offsets)

    async def rewind(self, partition: int, offset: int) -> None:
        await self._consumer.rewind(partition, offset)

    async def end_offsets(self, partitions: Sequence[int]) -> Mapping[int, int]:
        return await self._consumer.end_offsets(partitions)

    @property
    def partition_count(self) -> int:
        return self._consumer.partition_count


class LogDecoder:
    """Decodes log batches with ptars, without a Python object for each event."""

    def __init__(self) -> None:
        pool = HandlerPool([log_event_pb2.DESCRIPTOR])
        self._handler = pool.get_for_message(log_event_pb2.LogBatch.DESCRIPTOR)

    def decode(self, records: Sequence[Record]) -> tuple[EventBatch, tuple[UnreadableRecord, ...]]:
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


def _log_record_of(record: Record) -> LogRecord:
    return LogRecord(
        partition=record.partition,
        offset=record.offset,
        arrival_ns=record.timestamp_ms * MILLISECOND_NS,
        traceparent=traceparent_of(record.headers),
    )
