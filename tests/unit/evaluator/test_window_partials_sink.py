"""What the match stage writes to `window-partials`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from services.chassis.kafka.producing import MAX_IN_FLIGHT_BYTES
from services.evaluator.adapters import window_partials_sink
from services.evaluator.adapters.window_partials_sink import MAX_RECORD_BYTES, KafkaPartialSink, encode_bounded
from services.evaluator.adapters.window_partials_wire import decode_batch, encode_batch
from services.evaluator.core.partial_rows import PartialBatch, of_rows
from services.evaluator.core.records import Aggregate, BlockProgress, Row, RowKey
from tests.fakes.kafka_producer import SlowProducer

PROGRESS = BlockProgress(source_partition=0, source_partitions=1, block=0, up_to=1, previous_up_to=0, idle_ns=7)


def batch_of_groups(groups: Sequence[str]) -> PartialBatch:
    rows = [Row(RowKey(f"r{n}", 1, (group,), 0), Aggregate(counted=n)) for n, group in enumerate(groups)]
    return PartialBatch.of_block(progress=PROGRESS, rows=of_rows(rows))


async def test_a_flush_is_encoded_and_written_part_by_part() -> None:
    producer: Any = SlowProducer()
    rows = tuple(Row(RowKey("r", 1, (f"{n}" * 200,), 0), Aggregate(counted=n)) for n in range(11_000))
    await KafkaPartialSink(producer, 1).send([(0, PartialBatch.of_block(progress=PROGRESS, rows=of_rows(rows)))] * 3)
    assert sum(len(value or b"") for value in producer.records) > 2 * MAX_IN_FLIGHT_BYTES
    assert producer.most_in_flight < 2 * MAX_IN_FLIGHT_BYTES


def test_a_large_batch_is_split_before_it_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[PartialBatch] = []

    def counted(batch: PartialBatch) -> bytes:
        encoded.append(batch)
        return encode_batch(batch)

    monkeypatch.setattr(window_partials_sink, "encode_batch", counted)
    batch = batch_of_groups([f"{n}" * 50 for n in range(10_000, 18_000)])
    values = list(encode_bounded(batch))
    assert len(values) == len(encoded) == 8
    assert max(map(len, values)) <= MAX_RECORD_BYTES
    decoded = [decode_batch(value) for value in values]
    assert sorted(n for each in decoded for n in each.rows.counted.tolist()) == list(range(8_000))
    assert [each.continues for each in decoded] == [True] * 7 + [False]


def test_a_batch_of_many_small_rows_is_one_record() -> None:
    assert len(list(encode_bounded(batch_of_groups([f"{n}" for n in range(2_000)])))) == 1


def test_a_record_becomes_no_more_rows_than_a_reader_takes_at_once() -> None:
    batch = batch_of_groups([f"{n}" for n in range(2_000)])
    sharers = tuple((f"rule {n}", 1) for n in range(100))
    shared = replace(batch, rows=replace(batch.rows, selections=[sharers] * 2_000), outputs=4)
    values = list(encode_bounded(shared))
    assert [len(decode_batch(value).rows) for value in values] == [500] * 4
