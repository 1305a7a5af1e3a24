"""`window-partials`, read as a member of the window group.

A whole fetch is decoded through columns: several times as fast as message by message.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import structlog
from google.protobuf.message import DecodeError
from ptars import HandlerPool

from services.chassis.kafka import CommittedOffset, Consumer, Record
from services.contract.timestamps import nanoseconds_of
from services.domain.level import Level
from services.domain.trace_context import traceparent_of
from services.evaluator.adapters.messages import MalformedError, sample_of
from services.evaluator.adapters.replaced_rows import rows_to_keep
from services.evaluator.core.records import (
    MILLISECOND_NS,
    Aggregate,
    BlockProgress,
    PartialBatch,
    Row,
    RowKey,
    Sample,
)
from services.evaluator.ports import Partial, PartialFetch
from tocsin.evaluation.v1 import partial_pb2

log = structlog.get_logger()

_HEADER = {
    "source_partition": "source_partition",
    "source_partitions": "source_partitions",
    "block": "block",
    "up_to": "up_to",
    "previous_up_to": "previous_up_to",
    "max_event_ns": "max_event_time",
    "max_arrival_ns": "max_arrival_time",
    "idle_ns": "idle_time",
    "rules_revision": "rules_revision",
}
_NUMBERS = ("count", "total", "value_count", "sum", "min", "max", "last_event_time")


class KafkaPartialSource:
    """`window-partials`, as a member of the window group; an unreadable record is logged and skipped."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._decoder = PartialDecoder()

    async def fetch(self, limit: int, timeout_s: float, judged_until: Mapping[int, int]) -> PartialFetch:
        rebalance, records = await self._consumer.fetch(limit, timeout_s)
        partials = await asyncio.to_thread(self._decode, records, judged_until)
        return PartialFetch(rebalance=rebalance, partials=partials)

    async def commit(self, offsets: Sequence[CommittedOffset]) -> bool:
        return await self._consumer.commit(offsets)

    async def rewind(self, partition: int, offset: int) -> None:
        await self._consumer.rewind(partition, offset)

    def _decode(self, records: Sequence[Record], judged_until: Mapping[int, int]) -> tuple[Partial, ...]:
        """Decode all records at once, or one by one if that fails."""
        try:
            batches = self._decoder.decode(
                [record.value for record in records],
                [record.offset < judged_until.get(record.partition, 0) for record in records],
                [record.partition for record in records],
            )
        except ValueError:
            return tuple(partial for record in records for partial in _decode_one(record))
        return tuple(map(_partial_of, records, batches))


def _partial_of(record: Record, batch: PartialBatch) -> Partial:
    return Partial(
        partition=record.partition,
        offset=record.offset,
        batch=_limit_idle_time(batch, record.timestamp_ms * MILLISECOND_NS),
        traceparent=traceparent_of(record.headers),
    )


def _limit_idle_time(batch: PartialBatch, appended_ns: int) -> PartialBatch:
    """Let a source be idle at most until the broker took the record, whatever the writing host's clock says."""
    idle_ns = batch.progress.idle_ns
    if idle_ns is None or idle_ns <= appended_ns:
        return batch
    return replace(batch, progress=replace(batch.progress, idle_ns=appended_ns))


class PartialDecoder:
    """Decodes partial batches with ptars."""

    def __init__(self) -> None:
        pool = HandlerPool([partial_pb2.DESCRIPTOR])
        self._handler = pool.get_for_message(partial_pb2.PartialBatch.DESCRIPTOR)

    def decode(
        self, values: Sequence[bytes], judged: Sequence[bool] = (), partitions: Sequence[int] = ()
    ) -> list[PartialBatch]:
        """Decode batches; raises ValueError if one of them is malformed.

        Leave out rows of a judged batch that another judged batch of the same partition, source and block replaces.
        """
        columns = self._handler.list_to_record_batch(list(values))
        lists = columns.column("rows")
        counts = np.diff(lists.offsets.to_numpy()).astype(np.int64)
        rows = lists.flatten()
        batch_of_row = np.repeat(np.arange(len(values)), counts)
        if any(judged):
            outputs = np.asarray(partitions, dtype=np.int64)
            indices = rows_to_keep(columns, rows, batch_of_row, np.asarray(judged, dtype=bool), outputs)
            rows, batch_of_row = rows.take(pa.array(indices)), batch_of_row[indices]
        borders = np.searchsorted(batch_of_row, np.arange(len(values) + 1)).tolist()
        decoded = _rows(rows)
        return [
            PartialBatch(progress=progress, rows=tuple(decoded[start:end]))
            for progress, (start, end) in zip(_progress(columns), pairwise(borders), strict=True)
        ]


def _progress(columns: Any) -> list[BlockProgress]:
    fields = [_list_of(columns.column(name)) for name in _HEADER.values()]
    return [BlockProgress(**dict(zip(_HEADER, values, strict=True))) for values in zip(*fields, strict=True)]


def _rows(rows: Any) -> list[Row]:
    groups = map(tuple, rows.field("group").to_pylist())
    keys = map(
        RowKey,
        rows.field("rule_id").to_pylist(),
        rows.field("selection_revision").to_pylist(),
        groups,
        _list_of(rows.field("pane_time")),
    )
    numbers = [_list_of(rows.field(name)) for name in _NUMBERS]
    aggregates = map(Aggregate, *numbers, _samples(rows.field("samples")), rows.field("traceparent").to_pylist())
    return list(map(Row, keys, aggregates))


def _samples(lists: Any) -> list[tuple[Sample, ...]]:
    """Return each row's samples; most rows have none."""
    by_row: list[tuple[Sample, ...]] = [()] * len(lists)
    filled = np.flatnonzero(np.diff(lists.offsets.to_numpy()))
    nonempty = lists.take(pa.array(filled))
    samples = _samples_of(nonempty.flatten())
    start = 0
    for index, count in zip(filled.tolist(), np.diff(nonempty.offsets.to_numpy()).tolist(), strict=True):
        by_row[index], start = tuple(samples[start : start + count]), start + count
    return by_row


def _samples_of(samples: Any) -> list[Sample]:
    levels = [Level(level) if level else None for level in samples.field("level").to_pylist()]
    texts = {name: samples.field(name).to_pylist() for name in ("service", "message", "host", "trace_id")}
    return list(
        map(
            Sample,
            _list_of(samples.field("event_time").fill_null(0)),
            texts["service"],
            levels,
            texts["message"],
            samples.field("status_code").to_pylist(),
            samples.field("response_time").to_pylist(),
            texts["host"],
            texts["trace_id"],
            [tuple(sorted(pairs or ())) for pairs in samples.field("attributes").to_pylist()],
        )
    )


def _list_of(column: Any) -> list[Any]:
    """Return a column's values; timestamps as nanoseconds."""
    values: list[Any] = (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()
    return values


def _decode_one(record: Record) -> Iterator[Partial]:
    try:
        batch = decode_batch(record.value)
    except MalformedError:
        log.exception("partial_unreadable", partition=record.partition, offset=record.offset)
    else:
        yield _partial_of(record, batch)


def decode_batch(value: bytes) -> PartialBatch:
    """Decode the value of a record; raises MalformedError."""
    try:
        message = partial_pb2.PartialBatch.FromString(value)
    except DecodeError as error:
        raise MalformedError(str(error)) from None
    progress = BlockProgress(
        source_partition=message.source_partition,
        source_partitions=message.source_partitions,
        block=message.block,
        up_to=message.up_to,
        previous_up_to=message.previous_up_to,
        rules_revision=message.rules_revision,
        max_event_ns=nanoseconds_of(message.max_event_time) if message.HasField("max_event_time") else None,
        max_arrival_ns=nanoseconds_of(message.max_arrival_time) if message.HasField("max_arrival_time") else None,
        idle_ns=nanoseconds_of(message.idle_time) if message.HasField("idle_time") else None,
    )
    return PartialBatch(progress=progress, rows=tuple(_row(row) for row in message.rows))


def _row(message: partial_pb2.PartialRow) -> Row:
    key = RowKey(message.rule_id, message.selection_revision, tuple(message.group), nanoseconds_of(message.pane_time))
    aggregate = Aggregate(
        counted=message.count,
        total=message.total,
        value_count=message.value_count,
        sum=message.sum,
        min=message.min if message.HasField("min") else None,
        max=message.max if message.HasField("max") else None,
        last_event_ns=nanoseconds_of(message.last_event_time) if message.HasField("last_event_time") else None,
        samples=tuple(sample_of(sample) for sample in message.samples),
        traceparent=message.traceparent,
    )
    return Row(key, aggregate)
