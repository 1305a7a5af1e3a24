"""The sequence of flushes: repetitions, gaps, folded blocks, replays."""

from dataclasses import replace

import pytest

from services.evaluator.core.partial_rows import PartialBatch, of_rows
from services.evaluator.core.records import (
    SECOND_NS,
)
from services.evaluator.core.window.checkpoint import Checkpoint
from services.evaluator.core.window.sequence import FlushOrder
from services.evaluator.core.window.stage import WindowStage
from tests.unit.evaluator.stage_driver import COUNT, StageDriver, progress, row


@pytest.mark.parametrize(
    ("flushes", "orders"),
    [
        pytest.param([(0, 0, 5), (0, 5, 9)], ["same_block", "same_block"], id="one after the other"),
        pytest.param([(0, 0, 5), (0, 0, 3)], ["same_block", "same_block"], id="a repetition"),
        pytest.param([(0, 0, 256), (1, 256, 260)], ["same_block", "next_block"], id="the next block"),
        pytest.param(
            [(0, 0, 256), (1, 256, 257), (0, 0, 9)], ["same_block", "next_block", "stale"], id="a folded block"
        ),
        pytest.param([(0, 0, 256), (1, 256, 257), (1, 259, 260)], ["same_block", "next_block", "gap"], id="a gap"),
        pytest.param([(0, 0, 256), (1, 257, 260)], ["same_block", "next_block"], id="unsure at first"),
        pytest.param(
            [(0, 0, 256), (1, 256, 300), (2, 512, 513)], ["same_block", "next_block", "gap"], id="a block cut short"
        ),
    ],
)
def test_the_order_of_flushes(flushes: list[tuple[int, int, int]], orders: list[str]) -> None:
    driver = StageDriver.with_rules(COUNT)
    assert [driver.process(PartialBatch(progress=progress(*each))).flush_order.value for each in flushes] == orders


def test_a_row_is_replaced_only_by_a_newer_one() -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.process(PartialBatch(progress=progress(0, 0, 9), rows=of_rows([row(2)])))
    older = driver.process(PartialBatch(progress=progress(0, 0, 5), rows=of_rows([row(9)])))
    assert older.transitions == ()
    assert (
        driver.process(PartialBatch(progress=progress(0, 9, 10), rows=of_rows([row(3)]))).flush_order
        is FlushOrder.SAME_BLOCK
    )


def test_a_block_that_ends_after_its_windows_counts_for_none_of_the_later_ones() -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.process(PartialBatch(progress=progress(0, 0, 200), rows=of_rows([row(2)])))
    driver.process(PartialBatch(progress=replace(progress(0, 200, 256), max_event_ns=100 * SECOND_NS)))
    assert driver.stage.count_groups() == (0, 0)
    later = (row(2, pane=100), row(3, pane=100, group=("b",)))
    steps = driver.process(PartialBatch(progress=progress(1, 256, 257), rows=of_rows(later))).transitions
    assert [(step.group, step.window.count) for step in steps] == [(("b",), 3)]


def test_a_gap_that_was_noticed_before_is_not_reported_during_a_replay() -> None:
    stage = WindowStage.restored(Checkpoint(offset=0, position=3, watermark_ns=None), (), SECOND_NS)
    driver = StageDriver(stage)
    driver.update_rules(COUNT)
    outcomes = [
        driver.process(PartialBatch(progress=progress(*each))) for each in ((0, 0, 256), (1, 256, 257), (2, 512, 513))
    ]
    assert FlushOrder.GAP not in {each.flush_order for each in outcomes}
