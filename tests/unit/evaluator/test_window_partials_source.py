"""What the window stage fetches, without rows that others replace."""

from dataclasses import replace
from typing import cast

import pytest

from services.chassis.kafka import Consumer, Rebalance, Record
from services.evaluator.adapters.window_partials_source import KafkaPartialSource, PartialDecoder
from services.evaluator.adapters.window_partials_wire import encode_batch
from services.evaluator.core.partial_rows import PartialBatch, of_rows, to_rows
from services.evaluator.core.records import SECOND_NS, Aggregate, BlockProgress, Row, RowKey, Sample

PARTIALS = PartialDecoder()


def test_judged_rows_that_are_replaced_later_are_left_out() -> None:
    def batch(up_to: int, *rows: Row, block: int = 0) -> PartialBatch:
        progress = BlockProgress(source_partition=0, source_partitions=1, block=block, up_to=up_to, previous_up_to=0)
        return PartialBatch(progress=progress, rows=of_rows(rows))

    sample = Sample(1, "a", None, "m", None, None, "", "")
    one, two, longer = (RowKey("r", 1, group, 0) for group in (("a",), ("b",), ("a", "")))
    given = [
        batch(1, Row(one, Aggregate(1, samples=(sample,))), Row(two, Aggregate(1)), Row(longer, Aggregate(1))),
        batch(2, Row(one, Aggregate(2)), Row(two, Aggregate(2))),
        batch(3, Row(one, Aggregate(3)), block=1),
        batch(4, Row(two, Aggregate(4))),
        batch(5, Row(two, Aggregate(5))),
    ]
    kept = PARTIALS.decode([encode_batch(each) for each in given], [True, True, True, False, False], [0] * 5)
    # The second row of "b" stays: what replaces it is judged only after it.
    assert [[row.aggregate.counted for row in to_rows(each.rows)] for each in kept] == [[1, 1], [2, 2], [3], [4], [5]]
    assert PARTIALS.decode([]) == []


@pytest.mark.parametrize(
    ("heard", "kept"),
    [
        pytest.param([(0, 1), (0, 2)], [[], [2]], id="a later one that has come further"),
        pytest.param([(0, 2), (0, 1)], [[2], []], id="a repeat that has not come as far"),
        pytest.param([(0, 2), (1, 3), (0, 3)], [[2], [3], []], id="a repeat after the next block has begun"),
    ],
)
def test_of_judged_rows_the_one_that_counts_is_kept(heard: list[tuple[int, int]], kept: list[list[int]]) -> None:
    given = [
        PartialBatch(
            progress=BlockProgress(source_partition=0, source_partitions=1, block=block, up_to=up_to, previous_up_to=0),
            rows=of_rows([Row(RowKey("r", 1, ("a",), 0), Aggregate(up_to))]),
        )
        for block, up_to in heard
    ]
    decoded = PARTIALS.decode([encode_batch(each) for each in given], [True] * len(given), [0] * len(given))
    assert [[row.aggregate.counted for row in to_rows(each.rows)] for each in decoded] == kept


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
