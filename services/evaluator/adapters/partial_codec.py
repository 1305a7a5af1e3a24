"""Encode and decode partial batches and samples."""

from functools import lru_cache

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from services.contract.timestamps import nanoseconds_of, timestamp_of_nanoseconds
from services.domain.level import Level
from services.evaluator.core.records import Aggregate, BlockProgress, PartialBatch, Row, RowKey, Sample
from tocsin.alerts.v1 import alert_pb2
from tocsin.evaluation.v1 import partial_pb2
from tocsin.logs.v1 import log_event_pb2


class MalformedError(Exception):
    """Bytes cannot be decoded as the expected message."""


def encode_batch(batch: PartialBatch) -> bytes:
    """Encode a batch as the value of a record on `window-partials`."""
    progress = batch.progress
    message = partial_pb2.PartialBatch(
        source_partition=progress.source_partition,
        source_partitions=progress.source_partitions,
        block=progress.block,
        up_to=progress.up_to,
        previous_up_to=progress.previous_up_to,
        rules_revision=progress.rules_revision,
        rows=[_row_message(row) for row in batch.rows],
    )
    if progress.max_event_ns is not None:
        message.max_event_time.CopyFrom(timestamp_of_nanoseconds(progress.max_event_ns))
    if progress.max_arrival_ns is not None:
        message.max_arrival_time.CopyFrom(timestamp_of_nanoseconds(progress.max_arrival_ns))
    if progress.idle_ns is not None:
        message.idle_time.CopyFrom(timestamp_of_nanoseconds(progress.idle_ns))
    return message.SerializeToString()


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


def sample_message(sample: Sample) -> alert_pb2.SampleEvent:
    """Return a sample as a message."""
    return alert_pb2.SampleEvent(
        event_time=timestamp_of_nanoseconds(sample.event_ns),
        service=sample.service,
        level=log_event_pb2.LogEvent.Level.ValueType(sample.level or 0),
        message=sample.message,
        status_code=sample.status_code,
        response_time=sample.response_time,
        host=sample.host,
        trace_id=sample.trace_id,
        attributes=dict(sample.attributes),
    )


def sample_of(message: alert_pb2.SampleEvent) -> Sample:
    """Return a message as a sample."""
    return Sample(
        event_ns=nanoseconds_of(message.event_time),
        service=message.service,
        level=Level(message.level) if message.level else None,
        message=message.message,
        status_code=message.status_code if message.HasField("status_code") else None,
        response_time=message.response_time if message.HasField("response_time") else None,
        host=message.host,
        trace_id=message.trace_id,
        attributes=tuple(sorted(message.attributes.items())),
    )


@lru_cache(maxsize=1024)
def _pane_timestamp(pane_ns: int) -> Timestamp:
    return timestamp_of_nanoseconds(pane_ns)


def _row_message(row: Row) -> partial_pb2.PartialRow:
    key, aggregate = row
    return partial_pb2.PartialRow(
        rule_id=key.rule_id,
        selection_revision=key.selection_revision,
        group=key.group,
        pane_time=_pane_timestamp(key.pane_ns),
        count=aggregate.counted,
        total=aggregate.total,
        value_count=aggregate.value_count,
        sum=aggregate.sum,
        min=aggregate.min,
        max=aggregate.max,
        samples=[sample_message(sample) for sample in aggregate.samples],
        last_event_time=None if aggregate.last_event_ns is None else timestamp_of_nanoseconds(aggregate.last_event_ns),
        traceparent=aggregate.traceparent,
    )


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
