"""`window-partials`, for writing: rows in records of bounded size."""

from collections.abc import Iterator, Sequence

from services.chassis.kafka import OutgoingRecord, Producer, encode_and_produce_all
from services.contract.topics import WINDOW_PARTIALS
from services.evaluator.adapters.window_partials_wire import encode_batch
from services.evaluator.core.partial_rows import PartialBatch, split_batch

# Half of what a broker accepts by default.
MAX_RECORD_BYTES = 512 * 1024
# So many rows never fit in a record: the batch is split without encoding it.
_MAX_ROWS = 50_000


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
        if len(value) <= max_bytes or len(batch.rows) < 2 or _stays_whole(batch, value):  # noqa: PLR2004  (one row cannot be split)
            yield value
            return
    for half in split_batch(batch):
        yield from encode_bounded(half, max_bytes)


def _stays_whole(batch: PartialBatch, value: bytes) -> bool:
    return batch.has_single_bucket and len(value) <= MAX_RECORD_BYTES
