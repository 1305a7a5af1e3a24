"""Writing to Kafka: however much there is, a bounded part of it is under way."""

import asyncio
from typing import Any

import pytest

from services.chassis.failures import StreamUnavailable
from services.evaluator.adapters.kafka import MAX_IN_FLIGHT_BYTES, KafkaPartialSink, OutgoingRecord, produce_all
from services.evaluator.core.records import Aggregate, BlockProgress, PartialBatch, Row, RowKey


class SlowProducer:
    """Confirms what is under way when the caller waits for it; counts how much that was."""

    def __init__(self, fails_at: int = -1) -> None:
        self.records: list[bytes | None] = []
        self.under_way = self.most_under_way = 0
        self._fails_at = fails_at

    def enqueue(self, _topic: str, value: bytes | None, *_: object, **__: object) -> "asyncio.Future[None]":
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        number, size = len(self.records), len(value or b"")
        self.records.append(value)
        self.under_way += size
        self.most_under_way = max(self.most_under_way, self.under_way)

        def confirm() -> None:
            self.under_way -= size
            if number == self._fails_at:
                future.set_exception(StreamUnavailable("no"))
            else:
                future.set_result(None)

        asyncio.get_running_loop().call_soon(confirm)
        return future


async def test_more_than_a_producer_holds_goes_in_parts() -> None:
    producer: Any = SlowProducer()
    record = bytes(1024 * 1024)
    await produce_all(producer, (OutgoingRecord("alerts", record) for _ in range(300)))
    assert len(producer.records) == 300
    assert producer.most_under_way <= MAX_IN_FLIGHT_BYTES + len(record)


async def test_deletes_are_bounded_though_they_have_no_bytes() -> None:
    producer: Any = SlowProducer()
    await produce_all(producer, (OutgoingRecord("window-state", None) for _ in range(50_000)))
    assert len(producer.records) == 50_000


async def test_after_a_failure_nothing_is_under_way_and_nothing_more_is_handed_over() -> None:
    producer: Any = SlowProducer(fails_at=2)
    with pytest.raises(StreamUnavailable):
        await produce_all(producer, (OutgoingRecord("alerts", bytes(1024 * 1024)) for _ in range(300)))
    assert producer.under_way == 0
    assert len(producer.records) <= 5


async def test_a_flush_is_encoded_and_written_part_by_part() -> None:
    producer: Any = SlowProducer()
    progress = BlockProgress(source_partition=0, source_partitions=1, block=0, up_to=1, previous_up_to=0, idle_ns=7)
    rows = tuple(Row(RowKey("r", 1, (f"{n}" * 200,), 0), Aggregate(counted=n)) for n in range(11_000))
    await KafkaPartialSink(producer, 1).send([(0, PartialBatch(progress=progress, rows=rows))] * 3)
    assert sum(len(value or b"") for value in producer.records) > 2 * MAX_IN_FLIGHT_BYTES
    assert producer.most_under_way < 2 * MAX_IN_FLIGHT_BYTES
