"""What the match stage writes to `window-partials`."""

from typing import Any

from services.chassis.kafka.producing import MAX_IN_FLIGHT_BYTES
from services.evaluator.adapters.window_partials_sink import KafkaPartialSink
from services.evaluator.core.partial_rows import PartialBatch, of_rows
from services.evaluator.core.records import Aggregate, BlockProgress, Row, RowKey
from tests.fakes.kafka_producer import SlowProducer


async def test_a_flush_is_encoded_and_written_part_by_part() -> None:
    producer: Any = SlowProducer()
    progress = BlockProgress(source_partition=0, source_partitions=1, block=0, up_to=1, previous_up_to=0, idle_ns=7)
    rows = tuple(Row(RowKey("r", 1, (f"{n}" * 200,), 0), Aggregate(counted=n)) for n in range(11_000))
    await KafkaPartialSink(producer, 1).send([(0, PartialBatch.of_block(progress=progress, rows=of_rows(rows)))] * 3)
    assert sum(len(value or b"") for value in producer.records) > 2 * MAX_IN_FLIGHT_BYTES
    assert producer.most_in_flight < 2 * MAX_IN_FLIGHT_BYTES
