"""What the stages read from Kafka and write to it: of much data a bounded part is in flight."""

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest

from services.chassis.failures import StreamUnavailable
from services.chassis.kafka import Consumer, Rebalance, Record
from services.evaluator.adapters.kafka import (
    MAX_IN_FLIGHT_BYTES,
    KafkaPartialSink,
    KafkaPartialSource,
    OutgoingRecord,
    produce_all,
)
from services.evaluator.adapters.partial_codec import encode_batch
from services.evaluator.core.records import SECOND_NS, Aggregate, BlockProgress, PartialBatch, Row, RowKey


class SlowProducer:
    """Confirms what is in flight when the caller waits for it; counts how much that was."""

    def __init__(self, fails_at: int = -1) -> None:
        self.records: list[bytes | None] = []
        self.in_flight = self.most_in_flight = 0
        self._fails_at = fails_at

    def enqueue(self, _topic: str, value: bytes | None, *_: object, **__: object) -> "asyncio.Future[None]":
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        number, size = len(self.records), len(value or b"")
        self.records.append(value)
        self.in_flight += size
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

        def confirm() -> None:
            self.in_flight -= size
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
    assert producer.most_in_flight <= MAX_IN_FLIGHT_BYTES + len(record)


async def test_deletes_are_bounded_though_they_have_no_bytes() -> None:
    producer: Any = SlowProducer()
    await produce_all(producer, (OutgoingRecord("window-state", None) for _ in range(50_000)))
    assert len(producer.records) == 50_000


async def test_after_a_failure_nothing_is_in_flight_and_nothing_more_is_handed_over() -> None:
    producer: Any = SlowProducer(fails_at=2)
    with pytest.raises(StreamUnavailable):
        await produce_all(producer, (OutgoingRecord("alerts", bytes(1024 * 1024)) for _ in range(300)))
    assert producer.in_flight == 0
    assert len(producer.records) <= 5


async def test_a_flush_is_encoded_and_written_part_by_part() -> None:
    producer: Any = SlowProducer()
    progress = BlockProgress(source_partition=0, source_partitions=1, block=0, up_to=1, previous_up_to=0, idle_ns=7)
    rows = tuple(Row(RowKey("r", 1, (f"{n}" * 200,), 0), Aggregate(counted=n)) for n in range(11_000))
    await KafkaPartialSink(producer, 1).send([(0, PartialBatch(progress=progress, rows=rows))] * 3)
    assert sum(len(value or b"") for value in producer.records) > 2 * MAX_IN_FLIGHT_BYTES
    assert producer.most_in_flight < 2 * MAX_IN_FLIGHT_BYTES


class Fetched:
    """A consumer that has fetched one record."""

    def __init__(self, record: Record) -> None:
        self._record = record

    async def fetch(self, _limit: int, _timeout_s: float) -> tuple[Rebalance, list[Record]]:
        return Rebalance(), [self._record]


@pytest.mark.parametrize(("written_s", "expected_s"), [(100, 100), (640, 101), (None, None)])
async def test_a_source_is_idle_until_the_broker_took_the_record_at_most(written_s: int, expected_s: int) -> None:
    written_ns, expected_ns = (None if each is None else each * SECOND_NS for each in (written_s, expected_s))
    progress = BlockProgress(
        source_partition=0, source_partitions=1, block=0, up_to=0, previous_up_to=0, idle_ns=written_ns
    )
    value = encode_batch(PartialBatch(progress=progress))
    record = Record("window-partials", 0, 0, None, value, (), 101_000)
    source = KafkaPartialSource(cast("Consumer", Fetched(record)))
    (partial,) = (await source.fetch(1, 0.0, {})).partials
    assert partial.batch.progress == replace(progress, idle_ns=expected_ns)
