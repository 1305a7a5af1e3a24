"""The sequence of flushes: repetitions, gaps, folded blocks, replays."""

from dataclasses import replace

import pytest

from services.evaluator.core.partial_rows import PartialBatch, of_rows
from services.evaluator.core.records import (
    SECOND_NS,
)
from services.evaluator.core.window.checkpoint import Checkpoint
from services.evaluator.core.window.sequence import SourceSequence
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
    first = progress(*flushes[0])
    sequence, found = SourceSequence.starting_with(first), []
    for each in (progress(*flush) for flush in flushes):
        found.append(sequence.order_of(each).value)
        if each.block > sequence.block:
            sequence = sequence.next_block(each)
        if each.block == sequence.block:
            sequence.advance(each.up_to)
    assert found == orders


def test_each_gap_is_reported_once_however_many_records_are_read_at_once() -> None:
    flushes = [(0, 0, 256), (1, 256, 257), (1, 259, 260), (1, 260, 261), (2, 512, 513)]
    batches = [PartialBatch.of_block(progress=progress(*each)) for each in flushes]
    expected = ((2, batches[2].blocks[0].progress), (4, batches[4].blocks[0].progress))
    assert StageDriver.with_rules(COUNT).process_all(batches).gaps == expected
    driver = StageDriver.with_rules(COUNT)
    assert [gap for batch in batches for gap in driver.process(batch).gaps] == list(expected)


def test_a_row_is_replaced_only_by_a_newer_one() -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.process(PartialBatch.of_block(progress=progress(0, 0, 9), rows=of_rows([row(2)])))
    older = driver.process(PartialBatch.of_block(progress=progress(0, 0, 5), rows=of_rows([row(9)])))
    assert older.transitions == ()
    assert driver.process(PartialBatch.of_block(progress=progress(0, 9, 10), rows=of_rows([row(3)]))).gaps == ()


def test_a_block_that_ends_after_its_windows_counts_for_none_of_the_later_ones() -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.process(PartialBatch.of_block(progress=progress(0, 0, 200), rows=of_rows([row(2)])))
    driver.process(PartialBatch.of_block(progress=replace(progress(0, 200, 256), max_event_ns=100 * SECOND_NS)))
    assert driver.stage.count_groups() == (0, 0)
    later = (row(2, pane=100), row(3, pane=100, group=("b",)))
    steps = driver.process(PartialBatch.of_block(progress=progress(1, 256, 257), rows=of_rows(later))).transitions
    assert [(step.group, step.window.count) for step in steps] == [(("b",), 3)]


def test_a_gap_that_was_noticed_before_is_not_reported_during_a_replay() -> None:
    stage = WindowStage.restored(Checkpoint(offset=0, position=3, watermark_ns=None), (), SECOND_NS)
    driver = StageDriver(stage)
    driver.update_rules(COUNT)
    outcomes = [
        driver.process(PartialBatch.of_block(progress=progress(*each)))
        for each in ((0, 0, 256), (1, 256, 257), (2, 512, 513))
    ]
    assert {each.gaps for each in outcomes} == {()}
