"""The window stage: when alerts fire and resolve, late events, checkpoints."""

from dataclasses import replace
from datetime import timedelta

from services.evaluator.core.partial_rows import PartialBatch, of_rows
from services.evaluator.core.records import (
    SECOND_NS,
    TransitionReason,
)
from services.evaluator.core.window.checkpoint import Checkpoint
from services.rule_language.rule import RuleType
from tests.unit.evaluator.pipeline import rule
from tests.unit.evaluator.stage_driver import COUNT, FRESH, StageDriver, progress, row


def test_an_alert_fires_at_once_and_ends_with_the_first_window_that_does_not_meet_the_condition() -> None:
    driver = StageDriver.with_rules(COUNT)
    assert driver.flush(row(2), event=1) == []
    assert driver.flush(row(3), event=2) == ["FIRING a 0"]
    assert driver.flush(row(9), event=3) == []
    assert driver.flush(row(4, pane=10), event=15) == []
    assert driver.flush(row(1, pane=20), event=25) == []
    assert driver.flush(event=34.9) == []
    assert driver.flush(event=35) == ["RESOLVED a 20"]
    fired, ended = driver.transitions
    assert (ended.reason, ended.first_window_ns, ended.window.count) == (TransitionReason.CONDITION_ENDED, 0, 1)
    assert fired.id != ended.id


def test_the_alert_of_a_silent_group_ends_with_the_first_window_without_events() -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.flush(row(3), event=2)
    assert driver.flush(row(1, pane=50, group=("b",)), event=50) == ["RESOLVED a 10"]
    assert driver.transitions[-1].reason is TransitionReason.SILENT


def test_where_nothing_arrives_the_clock_ends_the_alert_and_the_next_event_is_not_late() -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.flush(row(3), event=2)
    assert driver.flush(idle=25.9) == []
    assert driver.flush(idle=26) == ["RESOLVED a 10"]
    assert driver.flush(idle=10_000) == []
    assert driver.flush(row(3, pane=30), event=31) == ["FIRING a 30"]


def test_a_condition_that_no_longer_holds_ends_with_its_window() -> None:
    driver = StageDriver.with_rules(rule("count", "rate > 0.5 && total > 2"))
    assert driver.flush(row(3, total=4), event=1) == ["FIRING a 0"]
    assert driver.flush(row(3, total=40), event=2) == []
    assert driver.flush(event=15) == ["RESOLVED a 0"]


def test_the_earliest_of_several_windows_begins_the_alert() -> None:
    driver = StageDriver.with_rules(COUNT)
    assert driver.flush(row(3, pane=10), row(3, pane=0), event=11) == ["FIRING a 0"]


def test_a_window_after_the_one_that_ended_fires_at_once() -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.flush(row(3), event=1)
    assert driver.flush(row(3, pane=20), event=24.9) == []
    assert driver.flush(event=25) == ["RESOLVED a 10", "FIRING a 20"]


def test_late_events_are_counted_and_not_judged() -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.flush(row(1), event=1)
    driver.flush(row(1, group=("b",), pane=10), event=16)
    outcome = driver.observe(row(9))
    assert (outcome.transitions, outcome.late_by_rule) == ((), {"count": 8})
    assert driver.observe(row(10)).late_by_rule == {"count": 1}


def test_what_was_late_before_a_restart_is_not_counted_again() -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.flush(row(1, group=("b",), pane=10), event=16)
    assert driver.observe(row(8)).late_by_rule == {"count": 8}
    driver.flush(event=26)
    again = StageDriver.restored(driver.stage.checkpoint(0), offset=3)
    again.update_rules(COUNT)
    # The match stage has begun its block again as well, and repeats it.
    assert again.observe(row(8)).late_by_rule == {"count": 0}
    assert again.observe(row(9)).late_by_rule == {"count": 1}
    again.process(PartialBatch.of_block(progress=progress(0, 2, 256)))
    assert again.process(
        PartialBatch.of_block(progress=progress(1, 256, 257), rows=of_rows([row(4)]))
    ).late_by_rule == {"count": 4}


def test_events_within_the_lateness_count() -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.flush(row(1), event=14.9)
    assert driver.flush(row(3)) == ["FIRING a 0"]


def test_a_checkpoint_names_the_oldest_record_that_an_open_window_needs() -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.flush(row(1), event=1)
    driver.flush(row(1, pane=10), event=11)
    assert driver.stage.checkpoint(0).offset == 0
    driver.flush(event=15)
    assert driver.stage.checkpoint(0) == Checkpoint(offset=1, position=3, watermark_ns=15 * SECOND_NS)


def test_ended_alerts_expire_once_their_window_is_closed() -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.flush(row(3), event=1)
    assert driver.stage.expire(FRESH) == []
    driver.flush(event=25)
    assert driver.stage.expire(driver.stage.checkpoint(0)) == [("count", ("a",))]
    assert driver.stage.expire(driver.stage.checkpoint(0)) == []


def test_a_state_that_a_newer_selection_needs_does_not_expire() -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.flush(row(3), event=1)
    edited = rule("count", "count > threshold", filter="level >= FATAL", revision=2, selection_revision=2)
    driver.update_rules(edited, revision=2)
    driver.flush(row(3, selection_revision=2, pane=5000), event=5000)
    assert driver.stage.expire(driver.stage.checkpoint(0)) == []


def test_a_restored_stage_is_where_it_was() -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.flush(row(3), event=1)
    driver.flush(row(3, pane=10), event=15)
    checkpoint = driver.stage.checkpoint(0)
    again = StageDriver.restored(checkpoint, driver.transitions, offset=1, up_to=1)
    assert not again.stage.is_caught_up
    assert again.update_rules(COUNT) == []
    assert again.flush(row(3, pane=10), event=15) == []
    assert again.stage.is_caught_up
    assert again.flush(row(1, pane=20), event=35) == ["RESOLVED a 20"]


def test_the_stores_can_be_counted() -> None:
    driver = StageDriver.with_rules(replace(COUNT, type=RuleType.ERROR_THRESHOLD))
    driver.flush(row(3), row(1, group=("b",)), event=1)
    assert driver.stage.count_groups(RuleType.ERROR_THRESHOLD) == (2, 1)
    assert driver.stage.count_groups(RuleType.CUSTOM) == (0, 0)
    assert driver.stage.count_groups() == (2, 1)


def test_nothing_ends_during_a_replay() -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.flush(row(3), event=1)
    driver.flush(row(4), event=11)
    again = StageDriver.restored(driver.stage.checkpoint(0), driver.transitions)
    again.update_rules(COUNT)
    hasty = replace(COUNT, lateness=timedelta(), revision=2)
    assert again.flush(row(1), event=1) == []
    assert again.update_rules(hasty, revision=2) == []
    assert again.flush(row(4), event=11) == []
    assert again.flush(event=20) == ["RESOLVED a 10"]


def test_an_ended_alert_of_a_removed_rule_outlasts_its_rows() -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.flush(row(3), event=1)
    driver.update_rules(revision=2)
    checkpoint = driver.stage.checkpoint(100 * SECOND_NS)
    assert checkpoint.offset == 1
    assert driver.stage.expire(checkpoint) == []
    assert driver.stage.expire(replace(checkpoint, watermark_ns=3610 * SECOND_NS)) == [("count", ("a",))]
