"""`window-partials`, for writing: rows in records of bounded size."""

from collections.abc import Iterator, Sequence

import numpy as np

from services.chassis.kafka import OutgoingRecord, Producer, encode_and_produce_all
from services.contract.topics import WINDOW_PARTIALS
from services.evaluator.adapters.window_partials_wire import encode_batch, encode_columns
from services.evaluator.core.partial_rows import PartialBatch, PartialRows, split_batch

# Half of what a broker accepts by default.
MAX_RECORD_BYTES = 512 * 1024
# So many rows never fit in a record: the batch is split without encoding it.
_MAX_ROWS = 50_000
# So many rows may a record become where rules share rows: a reader takes whole records.
_MAX_EXPANDED_ROWS = 20_000
# A batch of more rows than this is split where some of its rows say that it is too large: to encode 16,000 rows with
# samples in vain, then their halves and quarters, costs more than to write them.
_FEW_ROWS = 1000
_ASKED_ROWS = 100


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
    yield from _encode_bounded(batch, max_bytes, _row_bytes(batch.rows))


def _encode_bounded(batch: PartialBatch, max_bytes: int, row_bytes: float) -> Iterator[bytes]:
    rows = len(batch.rows)
    may_split = rows > 1
    may_fit = rows <= _MAX_ROWS and rows * row_bytes <= max_bytes and batch.expanded_rows <= _MAX_EXPANDED_ROWS
    if may_fit or not may_split:
        value = encode_batch(batch)
        if len(value) <= max_bytes or not may_split or _stays_whole(batch, value):
            yield value
            return
    for half in split_batch(batch):
        yield from _encode_bounded(half, max_bytes, row_bytes)


def _row_bytes(rows: PartialRows) -> float:
    """Return about how many bytes each row takes; 0.0 for few rows, which are encoded and seen."""
    if len(rows) < _FEW_ROWS:
        return 0.0
    some = rows.take(np.arange(0, len(rows), len(rows) // _ASKED_ROWS))
    return encode_columns(some).ByteSize() / len(some)


def _stays_whole(batch: PartialBatch, value: bytes) -> bool:
    return batch.has_single_bucket and len(value) <= MAX_RECORD_BYTES
