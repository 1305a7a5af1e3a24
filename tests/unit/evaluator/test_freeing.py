"""What no rule uses any more is freed with the next checkpoint, and stays away after a restart."""

from dataclasses import replace

import pytest

from services.evaluator.core.partial_rows import PartialBatch, of_rows
from services.evaluator.core.window.checkpoint import Checkpoint
from services.rule_language.rule import Rule
from tests.unit.evaluator.pipeline import rule
from tests.unit.evaluator.stage_driver import COUNT, StageDriver, progress, row, scope_row

RATE = rule("rate", "rate > 2.0")
OTHER = rule("other", "count > threshold")


def panes(driver: StageDriver) -> int:
    """Return how many panes a checkpoint leaves."""
    driver.stage.checkpoint(0)
    table = driver.stage.windows.table
    rows = len(table._growing.all_rows())
    assert rows <= len(table._index)
    return len(table._index) - 1


def filled(*rules: Rule) -> StageDriver:
    """Return a stage with panes of 20 groups of each rule, in a folded block and in one that grows."""
    driver = StageDriver.with_rules(*rules)
    rows = [row(1, group=(f"g{number}",), rule_id=each.id) for number in range(20) for each in rules]
    totals = [scope_row(1, RATE, group=(f"g{number}",)) for number in range(20)] if RATE in rules else []
    driver.flush(*rows, *totals)
    driver.process(PartialBatch.of_block(progress=progress(1, 256, 257), rows=of_rows([*rows, *totals])))
    return driver


@pytest.mark.parametrize(
    "after",
    [
        pytest.param((), id="deleted or disabled"),
        pytest.param((replace(COUNT, filter="level >= FATAL", revision=2, selection_revision=2),), id="selects other"),
    ],
)
def test_a_rule_that_is_gone_frees_its_panes(after: tuple[Rule, ...]) -> None:
    driver = filled(COUNT)
    assert panes(driver) == 20
    driver.update_rules(*after, revision=2)
    assert panes(driver) == 0
    table = driver.stage.windows.table
    assert (len(table.groups), table._samples._size, len(table._scratch)) == (0, 0, 1)
    assert driver.stage.checkpoint(0).offset == driver.offset


def test_rows_of_a_rule_that_is_gone_are_dropped_and_those_of_an_unknown_one_kept() -> None:
    driver = filled(COUNT)
    driver.update_rules(OTHER, revision=2)
    assert driver.flush(row(9), row(3, rule_id="other"), row(3, rule_id="new", selection_revision=3)) == []
    assert (
        driver.process(PartialBatch.of_block(progress=progress(1, 257, 258), rows=of_rows([row(9)]))).transitions == ()
    )
    new = PartialBatch.of_block(progress=progress(1, 258, 259), rows=of_rows([row(9), row(3, rule_id="other")]))
    assert [step.rule_id for step in driver.process(new).transitions] == ["other"]
    mark = PartialBatch.of_block(progress=progress(1, 259, 260), missed={("count", 1): (0,)})
    driver.process(mark)
    assert panes(driver) == 1


def test_a_restart_does_not_bring_back_what_is_gone() -> None:
    driver = filled(COUNT, OTHER)
    checkpoint = driver.stage.checkpoint(0)
    again = StageDriver.restored(Checkpoint(offset=0, position=2, watermark_ns=None), offset=checkpoint.offset)
    again.update_rules(OTHER, revision=2)
    rows = of_rows([row(1, group=("a",), rule_id=rule_id) for rule_id in ("count", "other")])
    again.process(PartialBatch.of_block(progress=progress(0, 0, 256), rows=rows))
    again.process(PartialBatch.of_block(progress=progress(1, 256, 257), rows=rows))
    assert panes(again) == 1


def test_the_panes_of_other_rules_stay() -> None:
    driver = filled(COUNT, OTHER)
    driver.update_rules(OTHER, revision=2)
    assert panes(driver) == 20
    block = progress(1, 257, 258)
    assert driver.process(
        PartialBatch.of_block(progress=block, rows=of_rows([row(2, group=("g7",), rule_id="other")]))
    ).transitions[0].group == ("g7",)


def test_totals_that_no_rule_reads_are_freed_and_dropped() -> None:
    driver = filled(RATE)
    driver.update_rules(revision=2)
    assert panes(driver) == 0
    driver.process(PartialBatch.of_block(progress=progress(1, 257, 258), rows=of_rows([scope_row(2, RATE)])))
    assert panes(driver) == 0


def test_totals_stay_for_a_rule_that_is_not_known_yet_or_cannot_be_compiled() -> None:
    driver = filled(RATE)
    block = replace(progress(1, 257, 258), rules_revision=3)
    driver.process(PartialBatch.of_block(progress=block, rows=of_rows([scope_row(2, RATE)])))
    driver.update_rules(revision=2)
    assert panes(driver) == 41
    driver.update_rules(replace(RATE, condition="rate >", revision=3), revision=3)
    assert panes(driver) == 41
    driver.update_rules(revision=4)
    assert panes(driver) == 0


def test_the_alert_of_a_rule_that_is_gone_ends_with_the_window_that_it_had() -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.flush(row(3), event=1)
    assert driver.update_rules(revision=2) == ["RESOLVED a 0"]
    assert driver.transitions[-1].window.count == 3
    assert panes(driver) == 0


def test_what_is_gone_counts_nothing_before_its_memory_is_freed() -> None:
    driver = filled(COUNT, OTHER)
    driver.update_rules(OTHER, revision=2)
    assert driver.stage.count_groups() == (20, 0)
    assert len(driver.stage.windows.table._index) - 1 == 40
    block = progress(1, 257, 258)
    rows = of_rows([row(9, group=("g7",)), row(2, group=("g7",), rule_id="other")])
    assert [step.rule_id for step in driver.process(PartialBatch.of_block(progress=block, rows=rows)).transitions] == [
        "other"
    ]


@pytest.mark.parametrize("is_freed", [True, False])
def test_a_rule_that_comes_back_counts_anew_whether_its_memory_was_freed_or_not(*, is_freed: bool) -> None:
    driver = filled(COUNT)
    driver.update_rules(revision=2)
    if is_freed:
        driver.stage.checkpoint(0)
    driver.update_rules(replace(COUNT, revision=3), revision=3)
    block = replace(progress(1, 257, 258), rules_revision=3)
    new = PartialBatch.of_block(progress=block, rows=of_rows([row(3, group=("g7",)), row(1, group=("g8",))]))
    (step,) = driver.process(new).transitions
    assert (step.group, step.window.count if step.window else None) == (("g7",), 3)
    assert panes(driver) == 2


def test_memory_is_freed_at_once_by_the_next_checkpoint_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = filled(COUNT, OTHER)
    asked: list[bool] = []
    monkeypatch.setattr(driver.stage.windows.table, "compact", lambda *, is_forced: asked.append(is_forced))
    driver.update_rules(OTHER, revision=2)
    for _ in range(2):
        driver.stage.checkpoint(0)
    assert asked == [True, False]


def test_totals_are_kept_once_rules_that_are_not_known_yet_may_read_them() -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.flush(scope_row(1, RATE), rules=1)
    assert panes(driver) == 0
    driver.flush(scope_row(2, RATE), rules=2)
    assert panes(driver) == 1


def test_a_little_that_a_rule_leaves_is_freed_with_what_others_leave() -> None:
    driver = filled(COUNT)
    driver.flush(row(1, rule_id="other"))
    few = replace(OTHER, revision=2, selection_revision=2)
    driver.update_rules(COUNT, few, revision=2)
    driver.process(
        PartialBatch.of_block(
            progress=replace(progress(1, 257, 258), rules_revision=2),
            rows=of_rows([row(1, rule_id="other", selection_revision=2)]),
        )
    )
    assert panes(driver) == 21
    driver.update_rules(COUNT, revision=3)
    # One of 21 panes.
    assert panes(driver) == 21
    driver.update_rules(revision=4)
    assert panes(driver) == 0
