"""What the window stage fetches."""

from dataclasses import replace
from typing import cast

import pytest

from services.chassis.kafka import Consumer, Rebalance, Record
from services.evaluator.adapters.window_partials_source import KafkaPartialSource
from services.evaluator.adapters.window_partials_wire import encode_batch
from services.evaluator.core.partial_rows import PartialBatch
from services.evaluator.core.records import SECOND_NS, BlockProgress


class Fetched:
    """A consumer that has fetched some records."""

    def __init__(self, *records: Record) -> None:
        self._records = list(records)

    async def fetch(self, _limit: int, _timeout_s: float) -> tuple[Rebalance, list[Record]]:
        return Rebalance(), self._records


@pytest.mark.parametrize(("written_s", "expected_s"), [(100, 100), (640, 101), (None, None)])
async def test_a_source_is_idle_until_the_broker_took_the_record_at_most(written_s: int, expected_s: int) -> None:
    written_ns, expected_ns = (None if each is None else each * SECOND_NS for each in (written_s, expected_s))
    progress = BlockProgress(
        source_partition=0, source_partitions=1, block=0, up_to=0, previous_up_to=0, idle_ns=written_ns
    )
    value = encode_batch(PartialBatch.of_block(progress=progress))
    record = Record("window-partials", 0, 0, None, value, (), 101_000)
    source = KafkaPartialSource(cast("Consumer", Fetched(record)))
    (partial,) = (await source.fetch(1, 0.0)).partials
    assert partial.batch.blocks[0].progress == replace(progress, idle_ns=expected_ns)


async def test_an_unreadable_record_is_left_out_and_the_others_are_read() -> None:
    progress = BlockProgress(source_partition=0, source_partitions=1, block=0, up_to=0, previous_up_to=0)
    readable = encode_batch(PartialBatch.of_block(progress=progress))
    values = [readable, b"\xff", readable]
    records = [Record("window-partials", 0, offset, None, value, (), 1) for offset, value in enumerate(values)]
    fetched = await KafkaPartialSource(cast("Consumer", Fetched(*records))).fetch(3, 0.0)
    assert [partial.offset for partial in fetched.partials] == [0, 2]
