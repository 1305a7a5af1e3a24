"""`window-partials`, for writing: rows in records of bounded size."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.kafka import OutgoingRecord, Producer, encode_and_produce_all
from services.contract.timestamps import timestamp_of_nanoseconds
from services.contract.topics import WINDOW_PARTIALS
from services.evaluator.adapters.messages import sample_message
from services.evaluator.core.records import PartialBatch, Row, split_batch
from tocsin.evaluation.v1 import partial_pb2

# Half of what a broker accepts by default.
MAX_RECORD_BYTES = 512 * 1024
# So many rows never fit in a record: the batch is split without encoding it.
_MAX_ROWS = 5000


class KafkaPartialSink:
    """`window-partials`, for writing."""

    def __init__(self, producer: Producer, outputs: int) -> None:
        self._producer = producer
        self.outputs = outputs

    async def send(self, batches: Sequence[tuple[int, PartialBatch]]) -> None:
        records = (
            OutgoingRecord(WINDOW_PARTIALS, value, partition=output)
            for output, batch in batches
            for value in encode_bounded(batch)
        )
        await encode_and_produce_all(self._producer, records)


def encode_bounded(batch: PartialBatch, max_bytes: int = MAX_RECORD_BYTES) -> Iterator[bytes]:
    """Encode a batch as one record, or as several if it is large; split a group only if it alone is too large."""
    if len(batch.rows) <= _MAX_ROWS:
        value = encode_batch(batch)
        if len(value) <= (MAX_RECORD_BYTES if batch.has_single_bucket else max_bytes) or len(batch.rows) < 2:  # noqa: PLR2004  (one row cannot be split)
            yield value
            return
    for half in split_batch(batch):
        yield from encode_bounded(half, max_bytes)


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


@lru_cache(maxsize=1024)
def _pane_timestamp(pane_ns: int) -> Timestamp:
    return timestamp_of_nanoseconds(pane_ns)
