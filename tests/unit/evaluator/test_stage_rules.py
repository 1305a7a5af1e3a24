"""The window stage while rules are added, edited and removed."""

from dataclasses import replace
from datetime import timedelta

from services.domain.fingerprint import fingerprint
from services.domain.severity import Severity
from services.evaluator.core.records import (
    SECOND_NS,
    Transition,
    TransitionReason,
    TransitionState,
)
from services.evaluator.core.rules import RuleSet
from tests.unit.evaluator.pipeline import rule
from tests.unit.evaluator.stage_driver import COUNT, StageDriver, row


def test_another_threshold_is_judged_at_once_and_keeps_what_was_counted() -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.flush(row(2), event=1)
    assert driver.update_rules(rule("count", "count > threshold", 1, revision=2), revision=2) == ["FIRING a 0"]
    assert driver.update_rules(rule("count", "count > threshold", 99, revision=3), revision=3) == []
    assert driver.flush(event=15) == ["RESOLVED a 0"]
    fired, ended = driver.transitions
    # The revision by which each was judged.
    assert (fired.rule_revision, ended.rule_revision) == (2, 3)
    assert (ended.window.threshold, ended.id != fired.id) == (99, True)


def test_an_edited_rule_updates_its_open_alert_at_once_and_the_alert_ends_with_its_name_and_severity() -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.flush(row(3), event=1)
    edited = replace(COUNT, name="renamed", labels={"team": "a"}, severity=Severity.CRITICAL, revision=2)
    assert driver.update_rules(edited, revision=2, now=7) == ["FIRING a 0"]
    assert driver.update_rules(edited, revision=3) == []
    assert driver.update_rules(replace(edited, threshold=1, revision=4), revision=4) == []
    assert driver.flush(row(9), event=2) == []
    assert driver.flush(event=25) == ["RESOLVED a 10"]
    fired, update, ended = driver.transitions
    assert update.reason is TransitionReason.RULE_EDITED
    assert (update.window, update.first_window_ns, update.created_ns) == (
        fired.window,
        0,
        7 * SECOND_NS,
    )
    assert (update.rule_name, update.labels, update.severity) == (
        "renamed",
        {"team": "a"},
        Severity.CRITICAL,
    )
    assert update.fingerprint == fingerprint(rule_id="count", resource="a", severity=Severity.CRITICAL)
    assert (ended.fingerprint, ended.rule_name, ended.rule_revision) == (update.fingerprint, "renamed", 4)
    assert len({step.id for step in driver.transitions}) == 3


def test_each_edit_of_the_severity_is_one_transition_however_often_it_is_decided() -> None:
    def steps() -> list[Transition]:
        driver = StageDriver.with_rules(COUNT)
        driver.flush(row(3), event=1)
        for revision, severity in enumerate((Severity.LOW, Severity.HIGH, Severity.LOW, Severity.CRITICAL), 2):
            driver.update_rules(replace(COUNT, severity=severity, revision=revision), revision=revision)
        return driver.transitions

    found = steps()
    assert len({step.id for step in found}) == 5
    assert steps() == found
    assert [step.rank for step in found] == sorted(step.rank for step in found)


def test_an_edit_during_a_restart_is_published_once_the_replay_is_done() -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.flush(row(3), event=1)
    driver.flush(row(3, pane=10), event=15)
    edited = replace(COUNT, severity=Severity.CRITICAL, revision=2)
    again = StageDriver.restored(driver.stage.checkpoint(0), driver.transitions, offset=1, up_to=1)
    assert again.update_rules(edited, revision=2) == []
    assert again.flush(row(3, pane=10), event=15) == ["FIRING a 0"]
    once_more = StageDriver.restored(driver.stage.checkpoint(0), again.transitions, offset=1, up_to=1)
    once_more.update_rules(edited, revision=2)
    assert once_more.flush(row(3, pane=10), event=15) == []
    assert once_more.flush(row(1, pane=20), event=35) == ["RESOLVED a 20"]


def test_an_open_alert_whose_rule_is_not_known_yet_waits_for_it() -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.flush(row(3), event=1)
    again = StageDriver.restored(driver.stage.checkpoint(0), driver.transitions)
    assert again.flush(row(3), event=1) == []
    assert again.update_rules(replace(COUNT, severity=Severity.LOW, revision=2), revision=2) == ["FIRING a 0"]


def test_an_edit_after_the_end_publishes_nothing() -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.flush(row(3), event=1)
    driver.flush(event=25)
    assert driver.update_rules(replace(COUNT, severity=Severity.CRITICAL, revision=2), revision=2) == []


def test_a_removed_rule_ends_its_alerts() -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.flush(row(3), event=1)
    assert driver.update_rules(revision=2) == ["RESOLVED a 0"]
    assert driver.transitions[-1].reason is TransitionReason.RULE_ENDED
    assert driver.update_rules(revision=3) == []


def test_a_rule_that_is_enabled_again_does_not_fire_twice_for_one_window() -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.flush(row(3), event=1)
    driver.update_rules(revision=2)
    assert driver.update_rules(replace(COUNT, revision=3), revision=3) == []
    assert driver.flush(row(5), event=2) == []
    assert driver.flush(row(3, pane=10), event=11) == ["FIRING a 10"]


def test_another_selection_ends_the_alert_and_counts_from_zero() -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.flush(row(3), event=1)
    edited = rule("count", "count > threshold", filter="level >= FATAL", revision=2, selection_revision=2)
    assert driver.update_rules(edited, revision=2) == ["RESOLVED a 0"]
    assert driver.flush(row(9), event=2) == []
    assert driver.flush(row(3, selection_revision=2), event=3) == ["FIRING a 0"]


def test_rules_older_than_an_alert_do_not_end_it() -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.flush(row(3), event=1)
    states = [replace(driver.transitions[0], rule_revision=7)]
    assert StageDriver.with_rules(revision=6, states=states).transitions == []
    assert len(StageDriver.with_rules(revision=7, states=states).transitions) == 1


def test_a_rule_that_cannot_be_compiled_is_left_alone() -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.flush(row(3), event=1)
    broken = replace(COUNT, condition="count >", revision=2)
    assert driver.update_rules(broken, revision=2) == []
    assert "count" in RuleSet.of(2, [broken]).refused


def test_rows_of_a_rule_that_is_not_known_yet_wait_for_it() -> None:
    driver = StageDriver.with_rules(revision=0)
    assert driver.flush(row(3), event=1) == []
    assert driver.flush(event=100) == []
    assert driver.update_rules(COUNT, revision=2) == ["FIRING a 0", "RESOLVED a 10"]


def test_rows_that_no_rule_uses_are_dropped_after_a_while() -> None:
    driver = StageDriver.with_rules(revision=0)
    driver.flush(row(3), event=1)
    assert driver.stage.checkpoint(60 * SECOND_NS).offset == 0
    assert driver.stage.checkpoint(61 * SECOND_NS).offset == 1
    assert driver.update_rules(COUNT, revision=2) == []


def test_a_rule_that_changed_during_a_replay_is_judged_when_the_replay_is_done() -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.flush(row(1), event=1)
    driver.flush(row(2), event=2)
    again = StageDriver.restored(driver.stage.checkpoint(0))
    again.update_rules(rule("count", "count == threshold", 1, revision=2), revision=2)
    assert again.flush(row(1), event=1) == []
    assert again.flush(row(2), event=2) == []
    again.update_rules(rule("count", "count == threshold", 2, revision=3), revision=3)
    assert [each.state for each in again.transitions] == [TransitionState.FIRING]


def test_a_longer_lateness_does_not_open_closed_windows() -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.flush(row(1), event=20)
    driver.update_rules(replace(COUNT, lateness=timedelta(minutes=5), revision=2), revision=2)
    assert driver.flush(row(9)) == []


def test_the_clock_waits_for_rules_too() -> None:
    driver = StageDriver.with_rules(revision=0)
    driver.flush(row(3), event=1)
    assert driver.flush(idle=1000) == []
    assert driver.stage.watermark.value_ns == SECOND_NS


def test_receiving_the_same_rules_again_changes_nothing() -> None:
    driver = StageDriver.with_rules()
    rules = RuleSet.of(2, [COUNT])
    driver.stage.update_rules(rules, 0)
    driver.flush(row(3), event=1)
    assert driver.stage.update_rules(RuleSet.of(3, [COUNT], rules), 0) == []
