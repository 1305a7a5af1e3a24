"""A rule that was not evaluated for some events: no alert ends, and none begins, because of what it has missed."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from services.evaluator.core.match.blocks import Block, SourcePartition, flush_sources
from services.evaluator.core.match.missed import add_missed
from services.evaluator.core.partial_rows import PartialBatch, of_rows, split_batch
from services.evaluator.core.records import SECOND_NS, Row, TransitionReason
from services.evaluator.core.rules import CompiledRule, SelectionKey
from services.evaluator.core.window.condition import only_grows
from services.rule_language.checking import check_condition
from services.rule_language.rule import Rule
from tests.unit.evaluator.pipeline import rule
from tests.unit.evaluator.stage_driver import COUNT, StageDriver, progress, row, scope_row

FEW = rule("few", "count < 2")
AVERAGE = rule("count", "avg >= 0.0 && count > threshold")
COUNTED: SelectionKey = ("count", 1)


def flush(driver: StageDriver, *rows: Row, missed: Mapping[SelectionKey, tuple[int, ...]], event: float) -> list[str]:
    """Flush rows together with the panes (in seconds) that rules have missed."""
    before, driver.up_to = driver.up_to, driver.up_to + 1
    batch = PartialBatch.of_block(
        progress=replace(progress(0, before, driver.up_to), max_event_ns=int(event * SECOND_NS), rules_revision=1),
        rows=of_rows(rows),
        missed={key: tuple(pane * SECOND_NS for pane in panes) for key, panes in missed.items()},
    )
    return [f"{each.state.name} {each.window.start_ns // SECOND_NS}" for each in driver.process(batch).transitions]


def test_an_alert_stays_open_while_its_rule_misses_events_and_ends_with_the_first_whole_window() -> None:
    driver = StageDriver.with_rules(COUNT)
    assert flush(driver, row(3), missed={}, event=1) == ["FIRING 0"]
    assert flush(driver, missed={COUNTED: (10,)}, event=12) == []
    assert flush(driver, row(1, pane=20), missed={COUNTED: (20,)}, event=22) == []
    assert flush(driver, missed={}, event=35) == []
    assert driver.flush(event=46) == ["RESOLVED a 30"]
    assert driver.transitions[-1].reason is TransitionReason.SILENT


def test_an_alert_stays_open_in_the_window_that_its_rule_began_to_miss() -> None:
    driver = StageDriver.with_rules(AVERAGE)
    assert flush(driver, row(3), missed={}, event=1) == []
    fired = Row(row(3).key, row(3).aggregate._replace(value_count=1, sum=1.0))
    assert flush(driver, fired, missed={}, event=2) == ["FIRING 0"]
    assert flush(driver, missed={COUNTED: (0,)}, event=16) == []


def test_an_alert_fires_in_spite_of_missed_events_only_where_they_could_not_prevent_it() -> None:
    for condition, expected in ((COUNT, ["FIRING 0"]), (AVERAGE, [])):
        driver = StageDriver.with_rules(condition)
        assert flush(driver, missed={COUNTED: (0,)}, event=1) == []
        fired = Row(row(3).key, row(3).aggregate._replace(value_count=1, sum=1.0))
        assert flush(driver, fired, missed={}, event=2) == expected


def test_what_a_rule_missed_is_not_too_little() -> None:
    driver = StageDriver.with_rules(FEW)
    assert flush(driver, scope_row(5, FEW), missed={("few", 1): (0,)}, event=1) == []
    assert flush(driver, scope_row(1, FEW, pane=10), missed={}, event=11) == ["FIRING 10"]


def test_what_a_rule_missed_is_known_after_a_restart() -> None:
    driver = StageDriver.with_rules(COUNT)
    flush(driver, row(3), missed={}, event=1)
    flush(driver, missed={COUNTED: (10,)}, event=16)
    checkpoint = driver.stage.checkpoint(0)
    assert checkpoint.offset == 1
    fired = driver.stage.windows.by_selection[COUNTED].episodes["a",].last
    again = StageDriver.restored(checkpoint, [fired], offset=1, up_to=1)
    again.update_rules(COUNT)
    assert flush(again, missed={COUNTED: (10,)}, event=16) == []
    assert flush(again, missed={}, event=26) == []
    assert flush(again, missed={}, event=36) == ["RESOLVED 20"]


def test_a_mark_for_a_closed_window_or_an_unknown_rule_changes_nothing() -> None:
    driver = StageDriver.with_rules(COUNT)
    flush(driver, row(3), missed={}, event=40)
    assert flush(driver, missed={COUNTED: (0,), ("other", 2): (0,)}, event=41) == []
    assert driver.stage.checkpoint(0).offset == 1


def missed_of(block: Block) -> Mapping[SelectionKey, list[int]]:
    missed = block.flush(progress(0, 0, 1), 2).missed
    return {key: [pane // SECOND_NS for pane in panes] for key, panes in missed.items()}


def compiled(one: Rule) -> CompiledRule:
    return CompiledRule.of(one)


def test_a_flush_tells_once_what_was_missed_in_which_block() -> None:
    source = SourcePartition.at(0, 255)
    blocks = [source.add_record(255, 0), source.add_record(256, 0)]
    rules = [compiled(COUNT), compiled(FEW)]
    times = np.array([1, 2, 11, 25], dtype=np.int64) * SECOND_NS
    for _ in range(2):
        add_missed(rules, blocks, np.array([0, 0, 0, 1]), times)
    first = {COUNTED: [0, 10], ("few", 1): [0, 10]}
    assert missed_of(blocks[0]) == first
    assert missed_of(blocks[1]) == {COUNTED: [20], ("few", 1): [20]}
    add_missed(rules[:1], blocks[:1], np.array([0, 0]), np.array([0, 33 * SECOND_NS]))
    assert missed_of(blocks[0]) == {COUNTED: [30]}
    assert missed_of(blocks[0]) == {}


def test_each_output_is_told_what_was_missed() -> None:
    source = SourcePartition.at(0, 255)
    blocks = [source.add_record(255, 0), source.add_record(256, 0)]
    add_missed([compiled(COUNT)], blocks, np.array([1]), np.array([SECOND_NS]))
    flushed = flush_sources([source], outputs=2, source_partitions=1, idle_ns={}, rules_revision=1)
    assert [(output, part.progress.block, part.missed) for output, batch in flushed for part in batch.blocks] == [
        (0, 0, {}),
        (1, 0, {}),
        (0, 1, {COUNTED: [0]}),
        (1, 1, {COUNTED: [0]}),
    ]


def test_a_large_batch_says_with_its_first_half_what_was_missed() -> None:
    rows = of_rows([row(1), row(2, group=("b",))])
    first, second = split_batch(PartialBatch.of_block(progress=progress(0, 0, 1), rows=rows, missed={COUNTED: (0,)}))
    assert (first.blocks[0].missed, second.blocks[0].missed) == ({COUNTED: (0,)}, {})


@pytest.mark.parametrize(
    ("text", "grows"),
    [
        ("count > threshold", True),
        ("threshold <= count && (3 < total || max >= 2.5)", True),
        ("count > total", False),
        ("count < threshold", False),
        ("threshold > count", False),
        ("sum > 3.0", False),
        ("avg > threshold && count > 3", False),
        ("!(count > threshold)", False),
    ],
)
def test_whether_further_events_can_make_a_condition_false(text: str, *, grows: bool) -> None:
    assert only_grows(check_condition(text)) is grows
