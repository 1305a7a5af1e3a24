"""`log-events`: read as a member of the match group, and decoded to columns.

Records of columns are opened one by one; those of the former form, protobuf's, all of a fetch at once.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from google.protobuf.message import DecodeError

from services.chassis.kafka import CommittedOffset, Consumer, Record
from services.contract.event_columns import UnreadableColumnsError, concat_events, decode_event_columns
from services.contract.protobuf_columns import ProtobufColumns
from services.domain.tenants import SOLE_TENANT, read_tenant
from services.domain.trace_context import traceparent_of
from services.evaluator.core.match.events import EventBatch, EventColumns, LogRecord
from services.evaluator.core.records import MILLISECOND_NS
from services.evaluator.ports import LogFetch, UnreadableRecord
from tocsin.logs.v1.log_event_pb2 import LogBatch

UNDECODABLE = "UNDECODABLE"
# How a record of columns begins: the tag of the field, then its length.
_COLUMNS: Final = bytes([LogBatch.DESCRIPTOR.fields_by_name["columns"].number << 3 | 2])


class KafkaLogSource:
    """`log-events`, as a member of the match group."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._decoder = LogDecoder()

    async def fetch(self, limit: int, timeout_s: float, *, fill: bool) -> LogFetch:
        rebalance, records = await self._consumer.fetch(limit, timeout_s, fill=fill)
        records.sort(key=lambda record: (record.partition, record.offset))
        events, unreadable = await asyncio.to_thread(self._decoder.decode, records)
        return LogFetch(rebalance=rebalance, records=tuple(records), events=events, unreadable=unreadable)

    async def decode(self, records: Sequence[Record]) -> EventBatch:
        events, _ = await asyncio.to_thread(self._decoder.decode, records)
        return events

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
    """Decodes records, of columns and of the former form, without a Python object for each event."""

    def __init__(self) -> None:
        self._former = ProtobufColumns(LogBatch.DESCRIPTOR)

    def decode(self, records: Sequence[Record]) -> tuple[EventBatch, tuple[UnreadableRecord, ...]]:
        """Decode a fetch. A record that cannot be decoded is returned as unreadable, and has no events in the batch."""
        decoded = self._decode([record.value for record in records])
        unreadable = tuple(
            UnreadableRecord(record=record, reason=UNDECODABLE)
            for record, found in zip(records, decoded, strict=True)
            if found is None
        )
        readable = [found.events for found in decoded if found is not None]
        batch = EventBatch(
            records=tuple(_log_record_of(record, found) for record, found in zip(records, decoded, strict=True)),
            lengths=np.fromiter((0 if found is None else found.events.num_rows for found in decoded), np.int64),
            columns=EventColumns.of(concat_events(readable)),
        )
        return batch, unreadable

    def _decode(self, values: Sequence[bytes]) -> "list[_Decoded | None]":
        """Return what each record has, None where it cannot be decoded."""
        decoded = [_decode_columns(value) if value.startswith(_COLUMNS) else None for value in values]
        former = [index for index, value in enumerate(values) if not value.startswith(_COLUMNS)]
        if former:
            for index, found in zip(former, self._decode_former([values[index] for index in former]), strict=True):
                decoded[index] = found
        return decoded

    def _decode_former(self, values: list[bytes]) -> "list[_Decoded | None]":
        """Decode all at once, or one by one where not all can be decoded."""
        try:
            batch = self._former.read(values)
        except UnreadableColumnsError:
            return [None] if len(values) == 1 else [self._decode_former([value])[0] for value in values]
        rows: Any = batch.column("events")
        events, offsets = pa.RecordBatch.from_struct_array(rows.flatten()), rows.offsets.to_pylist()
        tenants: Any = batch.column("tenant").to_pylist()
        # A record that also has columns is in no form that was ever written.
        is_former = batch.column("columns").is_null().to_pylist()
        return [
            _Decoded(events.slice(begin, end - begin), read_tenant(tenant)) if has_former_form else None
            for begin, end, tenant, has_former_form in zip(offsets, offsets[1:], tenants, is_former, strict=False)
        ]


class _Decoded(NamedTuple):
    """The events of a record, and whose they are."""

    events: pa.RecordBatch
    tenant: str


def _decode_columns(value: bytes) -> _Decoded | None:
    try:
        batch = LogBatch.FromString(value)
        return None if batch.events else _Decoded(decode_event_columns(batch.columns), read_tenant(batch.tenant))
    except (DecodeError, UnreadableColumnsError):
        return None


def _log_record_of(record: Record, found: _Decoded | None) -> LogRecord:
    return LogRecord(
        partition=record.partition,
        offset=record.offset,
        arrival_ns=record.timestamp_ms * MILLISECOND_NS,
        traceparent=traceparent_of(record.headers),
        tenant=SOLE_TENANT if found is None else found.tenant,
    )
