"""The window stage with conditions that read the totals of a scope."""

from dataclasses import replace
from datetime import timedelta

from services.evaluator.core.partial_rows import PartialBatch, of_rows
from services.evaluator.core.records import (
    SECOND_NS,
    BlockProgress,
    TransitionReason,
)
from tests.unit.evaluator.pipeline import rule
from tests.unit.evaluator.stage_driver import COUNT, FRESH, StageDriver, progress, row, scope_row

RATE = rule("count", "rate > 0.5 && total > 2")


RATE_OF_OTHERS = rule("others", "rate > 2.0")


FEW = rule("few", "count < 2")


def test_a_count_is_judged_with_the_totals_of_its_bucketing() -> None:
    driver = StageDriver.with_rules(RATE)
    assert driver.flush(row(2), scope_row(2, RATE), event=1) == []
    assert driver.flush(scope_row(3, RATE), event=2) == ["FIRING a 0"]
    assert (driver.transitions[0].window.count, driver.transitions[0].window.total) == (2, 3)
    assert driver.flush(scope_row(40, RATE), event=3) == []
    assert driver.flush(event=15) == ["RESOLVED a 0"]
    assert (driver.transitions[1].reason, driver.transitions[1].window.total) == (TransitionReason.CONDITION_ENDED, 40)


def test_a_window_with_totals_and_nothing_selected_ends_an_alert_by_its_condition() -> None:
    driver = StageDriver.with_rules(RATE)
    driver.flush(row(3), scope_row(3, RATE), event=1)
    assert driver.flush(scope_row(9, RATE, pane=10), event=25) == ["RESOLVED a 10"]
    assert driver.transitions[-1].reason is TransitionReason.CONDITION_ENDED


def test_a_condition_that_holds_where_nothing_is_selected_fires_for_each_group_of_the_scope() -> None:
    driver = StageDriver.with_rules(FEW)
    assert driver.flush(scope_row(1, FEW), event=1) == ["FIRING a 0"]
    assert driver.flush(scope_row(1, FEW, pane=10), row(3, pane=10, rule_id="few"), event=24) == []
    assert driver.flush(scope_row(1, FEW, pane=20), event=25) == ["RESOLVED a 10", "FIRING a 20"]
    assert driver.flush(event=45) == ["RESOLVED a 30"]
    assert driver.transitions[-1].reason is TransitionReason.SILENT


def test_a_rule_that_can_now_fire_where_nothing_is_selected_is_judged_at_once() -> None:
    driver = StageDriver.with_rules(replace(FEW, threshold=0.0, condition="count < threshold"), RATE)
    assert driver.flush(scope_row(1, FEW), event=1) == []
    eager = replace(FEW, threshold=1.0, condition="count < threshold", revision=2)
    assert driver.update_rules(eager, RATE, revision=2) == ["FIRING a 0"]


def test_totals_from_before_a_rule_do_not_count_for_it() -> None:
    driver = StageDriver.with_rules(RATE)
    driver.flush(scope_row(5, RATE), event=1)
    later = rule("few", "count < 2 && total > 4", revision=2, selection_revision=2)
    assert driver.update_rules(RATE, later, revision=2) == []
    assert driver.flush(scope_row(6, RATE), event=2) == []
    assert driver.flush(scope_row(6, RATE), event=2, rules=2) == ["FIRING a 0"]
    assert driver.transitions[0].window.total == 6


def test_totals_of_blocks_add_up() -> None:
    driver = StageDriver.with_rules(rule("count", "total > 5"))
    for block, total in ((0, 3), (1, 2), (2, 1)):
        start = block * 256
        block_progress = BlockProgress(
            source_partition=0,
            source_partitions=1,
            block=block,
            up_to=start + 256,
            previous_up_to=start,
            rules_revision=1 + block % 2,
        )
        outcome = driver.process(PartialBatch.of_block(progress=block_progress, rows=of_rows([scope_row(total, RATE)])))
    (step,) = outcome.transitions
    assert step.window.total == 6


def test_totals_are_dropped_with_the_last_window_that_needs_them() -> None:
    driver = StageDriver.with_rules(RATE, replace(FEW, lateness=timedelta(seconds=30)))
    driver.flush(scope_row(1, RATE), event=1)
    driver.flush(scope_row(1, RATE, pane=10), event=39)
    assert driver.stage.checkpoint(0).offset == 0
    driver.flush(event=40)
    assert driver.stage.checkpoint(0).offset == 1
    assert driver.flush(scope_row(2, RATE), event=40) == []
    assert driver.stage.checkpoint(0).offset == 1


def test_the_clock_closes_windows_of_which_only_totals_are_known() -> None:
    driver = StageDriver.with_rules(RATE)
    driver.flush(scope_row(1, RATE), event=1)
    driver.flush(idle=1000)
    assert driver.stage.checkpoint(0).offset == 2


def test_totals_that_only_an_unknown_rule_may_read_are_kept_for_a_while() -> None:
    driver = StageDriver.with_rules(revision=0)
    driver.flush(scope_row(1, FEW), event=1)
    assert driver.stage.checkpoint(SECOND_NS).offset == 0
    assert driver.update_rules(FEW, revision=2) == ["FIRING a 0"]
    driver = StageDriver.with_rules(revision=0)
    driver.flush(scope_row(1, FEW), event=1)
    assert driver.stage.checkpoint(SECOND_NS).offset == 0
    assert driver.stage.checkpoint(62 * SECOND_NS).offset == 1
    assert driver.process(PartialBatch.of_block(progress=progress(1, 256, 257))).transitions == ()


def test_rows_of_a_former_version_carry_their_totals_themselves() -> None:
    driver = StageDriver.with_rules(RATE, replace(FEW, id="other"))
    assert driver.flush(row(3, total=5), event=1) == ["FIRING a 0"]
    assert driver.flush(row(3, total=50), event=2) == []
    assert driver.flush(event=15) == ["RESOLVED a 0"]


def test_totals_wait_for_rules_too() -> None:
    driver = StageDriver.restored(FRESH)
    assert driver.flush(scope_row(1, FEW), event=1) == []
    assert driver.stage.checkpoint(0).offset == 0
    assert driver.update_rules(FEW) == ["FIRING a 0"]


def test_a_removed_rule_is_not_judged_by_the_totals_of_those_that_stay() -> None:
    gone, stays = rule("gone", "rate > 2.0"), rule("stays", "rate > 2.0")
    driver = StageDriver.with_rules(gone, stays)
    driver.flush(row(1, rule_id="gone"), scope_row(1, RATE), event=1)
    driver.update_rules(stays, revision=2)
    driver.stage.checkpoint(SECOND_NS)
    driver.stage.checkpoint(62 * SECOND_NS)
    assert driver.flush(scope_row(2, RATE), event=2) == []


def test_a_rule_that_begins_to_need_totals_is_judged_by_them_for_what_it_has_selected() -> None:
    driver = StageDriver.with_rules(COUNT, RATE_OF_OTHERS)
    assert driver.flush(row(1), scope_row(2, RATE), event=1) == []
    assert (
        driver.update_rules(replace(COUNT, condition="count > 0 && total > 2", revision=2), RATE_OF_OTHERS, revision=2)
        == []
    )
    assert driver.flush(scope_row(3, RATE), event=2) == ["FIRING a 0"]
