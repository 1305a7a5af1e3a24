"""The window stage: rules that come and go, late events, conditions that stop holding."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from services.domain.fingerprint import fingerprint
from services.domain.severity import Severity
from services.evaluator.core.records import (
    SECOND_NS,
    Aggregate,
    BlockProgress,
    Group,
    PartialBatch,
    Row,
    RowKey,
    Transition,
    TransitionReason,
    TransitionState,
    totals_key,
)
from services.evaluator.core.rules import CompiledRule, RuleSet
from services.evaluator.core.window.checkpoint import Checkpoint
from services.evaluator.core.window.panes import ScopePane
from services.evaluator.core.window.sequence import FlushOrder
from services.evaluator.core.window.stage import BatchOutcome, WindowStage
from services.rule_language.rule import Rule, RuleType
from tests.unit.evaluator.pipeline import rule

FRESH = Checkpoint(offset=0, position=0, watermark_ns=None)
COUNT = rule("count", "count > threshold")


@dataclass
class Board:
    """One partition, one source, told in few words; moments in seconds."""

    stage: WindowStage
    offset: int = 0
    up_to: int = 0
    steps: list[Transition] = field(default_factory=list)

    @classmethod
    def with_rules(cls, *rules: Rule, revision: int = 1, states: Sequence[Transition] = ()) -> "Board":
        board = cls(WindowStage.restored(FRESH, states, allowance_ns=SECOND_NS))
        board.learn(*rules, revision=revision)
        return board

    def learn(self, *rules: Rule, revision: int = 1, now: float = 0) -> list[str]:
        return self._note(self.stage.update_rules(RuleSet.of(revision, rules), int(now * SECOND_NS)))

    def hear(self, *rows: Row, event: float | None = None, idle: float | None = None, rules: int = 1) -> list[str]:
        """Give what is decided by one flush: "FIRING a 0" for state, group and window."""
        return self._note(self.observe(*rows, event=event, idle=idle, rules=rules).transitions)

    def observe(
        self, *rows: Row, event: float | None = None, idle: float | None = None, rules: int = 1
    ) -> BatchOutcome:
        before, self.up_to = self.up_to, self.up_to + 1
        progress = BlockProgress(
            source_partition=0,
            source_partitions=1,
            block=0,
            up_to=self.up_to,
            previous_up_to=before,
            max_event_ns=None if event is None else int(event * SECOND_NS),
            idle_ns=None if idle is None else int(idle * SECOND_NS),
            rules_revision=rules,
        )
        return self.take(PartialBatch(progress=progress, rows=rows))

    def take(self, batch: PartialBatch) -> BatchOutcome:
        observed = self.stage.observe(self.offset, batch, 0)
        self.offset += 1
        return observed

    def _note(self, transitions: Sequence[Transition]) -> list[str]:
        self.steps += transitions
        return [f"{each.state.name} {each.resource} {each.window.start_ns // SECOND_NS}" for each in transitions]


def row(counted: int, pane: int = 0, group: Group = ("a",), total: int | None = None, **changed: object) -> Row:
    key = RowKey("count", 1, group, pane * SECOND_NS)
    return Row(key._replace(**changed), Aggregate(counted=counted, total=counted if total is None else total))


def test_it_fires_at_once_stays_one_alert_and_ends_with_the_first_window_without() -> None:
    board = Board.with_rules(COUNT)
    assert board.hear(row(2), event=1) == []
    assert board.hear(row(3), event=2) == ["FIRING a 0"]
    assert board.hear(row(9), event=3) == []
    assert board.hear(row(4, pane=10), event=15) == []
    assert board.hear(row(1, pane=20), event=25) == []
    assert board.hear(event=34.9) == []
    assert board.hear(event=35) == ["RESOLVED a 20"]
    fired, ended = board.steps
    assert (ended.reason, ended.first_window_ns, ended.window.count) == (TransitionReason.CONDITION_ENDED, 0, 1)
    assert fired.id != ended.id


def test_a_silent_group_ends_with_the_first_window_in_which_nothing_was_heard() -> None:
    board = Board.with_rules(COUNT)
    board.hear(row(3), event=2)
    assert board.hear(row(1, pane=50, group=("b",)), event=50) == ["RESOLVED a 10"]
    assert board.steps[-1].reason is TransitionReason.SILENT


def test_where_nothing_arrives_the_clock_ends_the_alert_and_the_next_event_is_not_late() -> None:
    board = Board.with_rules(COUNT)
    board.hear(row(3), event=2)
    assert board.hear(idle=25.9) == []
    assert board.hear(idle=26) == ["RESOLVED a 10"]
    assert board.hear(idle=10_000) == []
    assert board.hear(row(3, pane=30), event=31) == ["FIRING a 30"]


def test_a_condition_that_no_longer_holds_ends_with_its_window() -> None:
    board = Board.with_rules(rule("count", "rate > 0.5 && total > 2"))
    assert board.hear(row(3, total=4), event=1) == ["FIRING a 0"]
    assert board.hear(row(3, total=40), event=2) == []
    assert board.hear(event=15) == ["RESOLVED a 0"]


def test_the_earliest_of_several_windows_begins_the_alert() -> None:
    board = Board.with_rules(COUNT)
    assert board.hear(row(3, pane=10), row(3, pane=0), event=11) == ["FIRING a 0"]


def test_a_window_after_the_one_that_ended_fires_at_once() -> None:
    board = Board.with_rules(COUNT)
    board.hear(row(3), event=1)
    assert board.hear(row(3, pane=20), event=24.9) == []
    assert board.hear(event=25) == ["RESOLVED a 10", "FIRING a 20"]


def test_late_events_are_counted_and_not_judged() -> None:
    board = Board.with_rules(COUNT)
    board.hear(row(1), event=1)
    board.hear(row(1, group=("b",), pane=10), event=16)
    observed = board.observe(row(9))
    assert (observed.transitions, observed.late_events) == ((), 8)
    assert board.observe(row(10)).late_events == 1


def test_what_was_late_before_a_restart_is_not_counted_again() -> None:
    board = Board.with_rules(COUNT)
    board.hear(row(1, group=("b",), pane=10), event=16)
    assert board.observe(row(8)).late_events == 8
    board.hear(event=26)
    again = Board(WindowStage.restored(board.stage.checkpoint(0), (), SECOND_NS), offset=3)
    again.learn(COUNT)
    # The match stage has begun its block again as well, and repeats it.
    assert again.observe(row(8)).late_events == 0
    assert again.observe(row(9)).late_events == 1
    again.take(PartialBatch(progress=progress(0, 2, 256)))
    assert again.take(PartialBatch(progress=progress(1, 256, 257), rows=(row(4),))).late_events == 4


def test_events_within_the_lateness_count() -> None:
    board = Board.with_rules(COUNT)
    board.hear(row(1), event=14.9)
    assert board.hear(row(3)) == ["FIRING a 0"]


def test_another_threshold_is_judged_at_once_and_keeps_what_was_counted() -> None:
    board = Board.with_rules(COUNT)
    board.hear(row(2), event=1)
    assert board.learn(rule("count", "count > threshold", 1, revision=2), revision=2) == ["FIRING a 0"]
    assert board.learn(rule("count", "count > threshold", 99, revision=3), revision=3) == []
    assert board.hear(event=15) == ["RESOLVED a 0"]


def test_an_open_alert_is_said_again_at_once_in_the_words_of_its_edited_rule_and_ends_with_them() -> None:
    board = Board.with_rules(COUNT)
    board.hear(row(3), event=1)
    edited = replace(COUNT, name="renamed", labels={"team": "a"}, severity=Severity.CRITICAL, revision=2)
    assert board.learn(edited, revision=2, now=7) == ["FIRING a 0"]
    assert board.learn(edited, revision=3) == []
    assert board.learn(replace(edited, threshold=1, revision=4), revision=4) == []
    assert board.hear(row(9), event=2) == []
    assert board.hear(event=25) == ["RESOLVED a 10"]
    fired, said, ended = board.steps
    assert said.reason is TransitionReason.RULE_EDITED
    assert (said.window, said.first_window_ns, said.created_ns) == (fired.window, 0, 7 * SECOND_NS)
    assert (said.rule_name, said.labels, said.severity) == ("renamed", {"team": "a"}, Severity.CRITICAL)
    assert said.fingerprint == fingerprint(rule_id="count", resource="a", severity=Severity.CRITICAL)
    assert (ended.fingerprint, ended.rule_name, ended.rule_revision) == (said.fingerprint, "renamed", 2)
    assert len({step.id for step in board.steps}) == 3


def test_each_edit_of_the_severity_is_a_step_of_its_own_and_the_same_however_often_it_is_decided() -> None:
    def steps() -> list[Transition]:
        board = Board.with_rules(COUNT)
        board.hear(row(3), event=1)
        for revision, severity in enumerate((Severity.LOW, Severity.HIGH, Severity.LOW, Severity.CRITICAL), 2):
            board.learn(replace(COUNT, severity=severity, revision=revision), revision=revision)
        return board.steps

    found = steps()
    assert len({step.id for step in found}) == 5
    assert steps() == found
    assert [step.rank for step in found] == sorted(step.rank for step in found)


def test_a_restart_says_what_was_edited_meanwhile_once_all_has_been_read_again() -> None:
    board = Board.with_rules(COUNT)
    board.hear(row(3), event=1)
    board.hear(row(3, pane=10), event=15)
    edited = replace(COUNT, severity=Severity.CRITICAL, revision=2)
    again = Board(WindowStage.restored(board.stage.checkpoint(0), board.steps, SECOND_NS), offset=1, up_to=1)
    assert again.learn(edited, revision=2) == []
    assert again.hear(row(3, pane=10), event=15) == ["FIRING a 0"]
    once_more = Board(WindowStage.restored(board.stage.checkpoint(0), again.steps, SECOND_NS), offset=1, up_to=1)
    once_more.learn(edited, revision=2)
    assert once_more.hear(row(3, pane=10), event=15) == []
    assert once_more.hear(row(1, pane=20), event=35) == ["RESOLVED a 20"]


def test_an_open_alert_whose_rule_is_not_known_yet_waits_for_it() -> None:
    board = Board.with_rules(COUNT)
    board.hear(row(3), event=1)
    again = Board(WindowStage.restored(board.stage.checkpoint(0), board.steps, SECOND_NS))
    assert again.hear(row(3), event=1) == []
    assert again.learn(replace(COUNT, severity=Severity.LOW, revision=2), revision=2) == ["FIRING a 0"]


def test_an_edit_after_the_end_says_nothing() -> None:
    board = Board.with_rules(COUNT)
    board.hear(row(3), event=1)
    board.hear(event=25)
    assert board.learn(replace(COUNT, severity=Severity.CRITICAL, revision=2), revision=2) == []


def test_a_rule_that_goes_ends_its_alerts() -> None:
    board = Board.with_rules(COUNT)
    board.hear(row(3), event=1)
    assert board.learn(revision=2) == ["RESOLVED a 0"]
    assert board.steps[-1].reason is TransitionReason.RULE_ENDED
    assert board.learn(revision=3) == []


def test_a_rule_that_is_switched_on_again_does_not_tell_the_same_window_twice() -> None:
    board = Board.with_rules(COUNT)
    board.hear(row(3), event=1)
    board.learn(revision=2)
    assert board.learn(replace(COUNT, revision=3), revision=3) == []
    assert board.hear(row(5), event=2) == []
    assert board.hear(row(3, pane=10), event=11) == ["FIRING a 10"]


def test_another_selection_ends_the_alert_and_starts_afresh() -> None:
    board = Board.with_rules(COUNT)
    board.hear(row(3), event=1)
    edited = rule("count", "count > threshold", filter="level >= FATAL", revision=2, selection_revision=2)
    assert board.learn(edited, revision=2) == ["RESOLVED a 0"]
    assert board.hear(row(9), event=2) == []
    assert board.hear(row(3, selection_revision=2), event=3) == ["FIRING a 0"]


def test_rules_older_than_an_alert_do_not_end_it() -> None:
    board = Board.with_rules(COUNT)
    board.hear(row(3), event=1)
    states = [replace(board.steps[0], rule_revision=7)]
    assert Board.with_rules(revision=6, states=states).steps == []
    assert len(Board.with_rules(revision=7, states=states).steps) == 1


def test_a_rule_that_cannot_be_compiled_is_left_alone() -> None:
    board = Board.with_rules(COUNT)
    board.hear(row(3), event=1)
    broken = replace(COUNT, condition="count >", revision=2)
    assert board.learn(broken, revision=2) == []
    assert "count" in RuleSet.of(2, [broken]).refused


def test_rows_of_a_rule_that_is_not_known_yet_wait_for_it() -> None:
    board = Board.with_rules()
    assert board.hear(row(3), event=1) == []
    assert board.hear(event=100) == []
    assert board.learn(COUNT, revision=2) == ["FIRING a 0", "RESOLVED a 10"]


def test_rows_that_nobody_asks_for_are_dropped_after_a_while() -> None:
    board = Board.with_rules()
    board.hear(row(3), event=1)
    assert board.stage.checkpoint(60 * SECOND_NS).offset == 0
    assert board.stage.checkpoint(61 * SECOND_NS).offset == 1
    assert board.learn(COUNT, revision=2) == []


def test_a_checkpoint_names_the_oldest_record_that_an_open_window_needs() -> None:
    board = Board.with_rules(COUNT)
    board.hear(row(1), event=1)
    board.hear(row(1, pane=10), event=11)
    assert board.stage.checkpoint(0).offset == 0
    board.hear(event=15)
    assert board.stage.checkpoint(0) == Checkpoint(offset=1, position=3, watermark_ns=15 * SECOND_NS)


def test_ended_alerts_are_forgotten_once_their_window_is_closed() -> None:
    board = Board.with_rules(COUNT)
    board.hear(row(3), event=1)
    assert board.stage.expire(FRESH) == []
    board.hear(event=25)
    assert board.stage.expire(board.stage.checkpoint(0)) == [("count", ("a",))]
    assert board.stage.expire(board.stage.checkpoint(0)) == []


def test_a_state_that_a_newer_selection_needs_is_not_forgotten() -> None:
    board = Board.with_rules(COUNT)
    board.hear(row(3), event=1)
    edited = rule("count", "count > threshold", filter="level >= FATAL", revision=2, selection_revision=2)
    board.learn(edited, revision=2)
    board.hear(row(3, selection_revision=2, pane=5000), event=5000)
    assert board.stage.expire(board.stage.checkpoint(0)) == []


def test_what_is_restored_is_where_it_was() -> None:
    board = Board.with_rules(COUNT)
    board.hear(row(3), event=1)
    board.hear(row(3, pane=10), event=15)
    checkpoint = board.stage.checkpoint(0)
    again = Board(WindowStage.restored(checkpoint, board.steps, SECOND_NS), offset=1, up_to=1)
    assert not again.stage.is_caught_up
    assert again.learn(COUNT) == []
    assert again.hear(row(3, pane=10), event=15) == []
    assert again.stage.is_caught_up
    assert again.hear(row(1, pane=20), event=35) == ["RESOLVED a 20"]


def test_a_rule_changed_meanwhile_is_judged_when_all_has_been_read_again() -> None:
    board = Board.with_rules(COUNT)
    board.hear(row(1), event=1)
    board.hear(row(2), event=2)
    again = Board(WindowStage.restored(board.stage.checkpoint(0), [], SECOND_NS))
    again.learn(rule("count", "count == threshold", 1, revision=2), revision=2)
    assert again.hear(row(1), event=1) == []
    assert again.hear(row(2), event=2) == []
    again.learn(rule("count", "count == threshold", 2, revision=3), revision=3)
    assert [each.state for each in again.steps] == [TransitionState.FIRING]


def progress(block: int, previous: int, up_to: int) -> BlockProgress:
    return BlockProgress(source_partition=0, source_partitions=1, block=block, up_to=up_to, previous_up_to=previous)


@pytest.mark.parametrize(
    ("flushes", "receptions"),
    [
        pytest.param([(0, 0, 5), (0, 5, 9)], ["same_block", "same_block"], id="one after the other"),
        pytest.param([(0, 0, 5), (0, 0, 3)], ["same_block", "same_block"], id="a repeat"),
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
def test_flushes_follow_each_other(flushes: list[tuple[int, int, int]], receptions: list[str]) -> None:
    board = Board.with_rules(COUNT)
    assert [board.take(PartialBatch(progress=progress(*each))).flush_order.value for each in flushes] == receptions


def test_a_row_is_replaced_only_by_a_newer_one() -> None:
    board = Board.with_rules(COUNT)
    board.take(PartialBatch(progress=progress(0, 0, 9), rows=(row(2),)))
    board.take(PartialBatch(progress=progress(0, 0, 5), rows=(row(9),)))
    assert board.steps == []
    assert board.take(PartialBatch(progress=progress(0, 9, 10), rows=(row(3),))).flush_order is FlushOrder.SAME_BLOCK


def test_a_block_that_ends_after_its_windows_counts_for_none_of_the_later_ones() -> None:
    board = Board.with_rules(COUNT)
    board.take(PartialBatch(progress=progress(0, 0, 200), rows=(row(2),)))
    board.take(PartialBatch(progress=replace(progress(0, 200, 256), max_event_ns=100 * SECOND_NS)))
    assert board.stage.open_groups == 0
    later = (row(2, pane=100), row(3, pane=100, group=("b",)))
    steps = board.take(PartialBatch(progress=progress(1, 256, 257), rows=later)).transitions
    assert [(step.group, step.window.count) for step in steps] == [(("b",), 3)]


def test_the_stores_can_be_counted() -> None:
    board = Board.with_rules(replace(COUNT, type=RuleType.ERROR_THRESHOLD))
    board.hear(row(3), row(1, group=("b",)), event=1)
    assert board.stage.count_groups(RuleType.ERROR_THRESHOLD) == (2, 1)
    assert board.stage.count_groups(RuleType.CUSTOM) == (0, 0)
    assert (board.stage.open_groups, board.stage.firing_groups) == (2, 1)


def test_a_longer_lateness_does_not_open_closed_windows() -> None:
    board = Board.with_rules(COUNT)
    board.hear(row(1), event=20)
    board.learn(replace(COUNT, lateness=timedelta(minutes=5), revision=2), revision=2)
    assert board.hear(row(9)) == []


def test_nothing_ends_while_it_is_read_again() -> None:
    board = Board.with_rules(COUNT)
    board.hear(row(3), event=1)
    board.hear(row(4), event=11)
    again = Board(WindowStage.restored(board.stage.checkpoint(0), board.steps, SECOND_NS))
    again.learn(COUNT)
    hasty = replace(COUNT, lateness=timedelta(), revision=2)
    assert again.hear(row(1), event=1) == []
    assert again.learn(hasty, revision=2) == []
    assert again.hear(row(4), event=11) == []
    assert again.hear(event=20) == ["RESOLVED a 10"]


def test_the_clock_waits_for_rules_too() -> None:
    board = Board.with_rules()
    board.hear(row(3), event=1)
    assert board.hear(idle=1000) == []
    assert board.stage.watermark.value_ns == SECOND_NS


def test_an_ended_alert_of_a_rule_that_is_gone_outlasts_its_rows() -> None:
    board = Board.with_rules(COUNT)
    board.hear(row(3), event=1)
    board.learn(revision=2)
    checkpoint = board.stage.checkpoint(100 * SECOND_NS)
    assert checkpoint.offset == 1
    assert board.stage.expire(checkpoint) == []
    assert board.stage.expire(replace(checkpoint, watermark_ns=3610 * SECOND_NS)) == [("count", ("a",))]


def test_hearing_the_same_rules_again_changes_nothing() -> None:
    board = Board.with_rules()
    rules = RuleSet.of(2, [COUNT])
    board.stage.update_rules(rules, 0)
    board.hear(row(3), event=1)
    assert board.stage.update_rules(RuleSet.of(3, [COUNT], rules), 0) == []


RATE = rule("count", "rate > 0.5 && total > 2")
RATE_OF_OTHERS = rule("others", "rate > 2.0")
FEW = rule("few", "count < 2")


def in_scope(total: int, of: Rule, pane: int = 0, group: Group = ("a",)) -> Row:
    key = totals_key(CompiledRule.of(of).bucketing_id, group, pane * SECOND_NS)
    return Row(key, Aggregate(total=total, last_event_ns=pane * SECOND_NS))


def test_a_count_is_judged_with_the_totals_of_its_frame() -> None:
    board = Board.with_rules(RATE)
    assert board.hear(row(2), in_scope(2, RATE), event=1) == []
    assert board.hear(in_scope(3, RATE), event=2) == ["FIRING a 0"]
    assert (board.steps[0].window.count, board.steps[0].window.total) == (2, 3)
    assert board.hear(in_scope(40, RATE), event=3) == []
    assert board.hear(event=15) == ["RESOLVED a 0"]
    assert (board.steps[1].reason, board.steps[1].window.total) == (TransitionReason.CONDITION_ENDED, 40)


def test_a_window_with_totals_and_nothing_selected_ends_an_alert_by_its_condition() -> None:
    board = Board.with_rules(RATE)
    board.hear(row(3), in_scope(3, RATE), event=1)
    assert board.hear(in_scope(9, RATE, pane=10), event=25) == ["RESOLVED a 10"]
    assert board.steps[-1].reason is TransitionReason.CONDITION_ENDED


def test_a_condition_that_holds_where_nothing_is_selected_fires_for_each_group_of_the_scope() -> None:
    board = Board.with_rules(FEW)
    assert board.hear(in_scope(1, FEW), event=1) == ["FIRING a 0"]
    assert board.hear(in_scope(1, FEW, pane=10), row(3, pane=10, rule_id="few"), event=24) == []
    assert board.hear(in_scope(1, FEW, pane=20), event=25) == ["RESOLVED a 10", "FIRING a 20"]
    assert board.hear(event=45) == ["RESOLVED a 30"]
    assert board.steps[-1].reason is TransitionReason.SILENT


def test_a_rule_that_learns_to_fire_where_nothing_is_selected_is_judged_at_once() -> None:
    board = Board.with_rules(replace(FEW, threshold=0.0, condition="count < threshold"), RATE)
    assert board.hear(in_scope(1, FEW), event=1) == []
    eager = replace(FEW, threshold=1.0, condition="count < threshold", revision=2)
    assert board.learn(eager, RATE, revision=2) == ["FIRING a 0"]


def test_totals_from_before_a_rule_are_not_its() -> None:
    board = Board.with_rules(RATE)
    board.hear(in_scope(5, RATE), event=1)
    later = rule("few", "count < 2 && total > 4", revision=2, selection_revision=2)
    assert board.learn(RATE, later, revision=2) == []
    assert board.hear(in_scope(6, RATE), event=2) == []
    assert board.hear(in_scope(6, RATE), event=2, rules=2) == ["FIRING a 0"]
    assert board.steps[0].window.total == 6


def test_totals_of_blocks_add_up() -> None:
    board = Board.with_rules(rule("count", "total > 5"))
    for block, total in ((0, 3), (1, 2), (2, 1)):
        start = block * 256
        told = BlockProgress(
            source_partition=0,
            source_partitions=1,
            block=block,
            up_to=start + 256,
            previous_up_to=start,
            rules_revision=1 + block % 2,
        )
        observed = board.take(PartialBatch(progress=told, rows=(in_scope(total, RATE),)))
    (step,) = observed.transitions
    assert step.window.total == 6


def test_totals_are_let_go_with_the_last_window_that_needs_them() -> None:
    board = Board.with_rules(RATE, replace(FEW, lateness=timedelta(seconds=30)))
    board.hear(in_scope(1, RATE), event=1)
    board.hear(in_scope(1, RATE, pane=10), event=39)
    assert board.stage.checkpoint(0).offset == 0
    board.hear(event=40)
    assert board.stage.checkpoint(0).offset == 1
    assert board.hear(in_scope(2, RATE), event=40) == []
    assert board.stage.checkpoint(0).offset == 1


def test_the_clock_closes_windows_of_which_only_totals_are_known() -> None:
    board = Board.with_rules(RATE)
    board.hear(in_scope(1, RATE), event=1)
    board.hear(idle=1000)
    assert board.stage.checkpoint(0).offset == 2


def test_totals_that_nobody_asks_for_wait_a_while() -> None:
    board = Board.with_rules()
    board.hear(in_scope(1, FEW), event=1)
    assert board.stage.checkpoint(SECOND_NS).offset == 0
    assert board.learn(FEW, revision=2) == ["FIRING a 0"]
    board = Board.with_rules()
    board.hear(in_scope(1, FEW), event=1)
    assert board.stage.checkpoint(SECOND_NS).offset == 0
    assert board.stage.checkpoint(62 * SECOND_NS).offset == 1
    assert board.take(PartialBatch(progress=progress(1, 256, 257))).transitions == ()


def test_rows_of_a_former_version_bring_their_totals_themselves() -> None:
    board = Board.with_rules(RATE, replace(FEW, id="other"))
    assert board.hear(row(3, total=5), event=1) == ["FIRING a 0"]
    assert board.hear(row(3, total=50), event=2) == []
    assert board.hear(event=15) == ["RESOLVED a 0"]


def test_a_gap_that_was_looked_for_before_is_not_one_again() -> None:
    stage = WindowStage.restored(Checkpoint(offset=0, position=3, watermark_ns=None), (), SECOND_NS)
    board = Board(stage)
    board.learn(COUNT)
    heard = [board.take(PartialBatch(progress=progress(*each))) for each in ((0, 0, 256), (1, 256, 257), (2, 512, 513))]
    assert FlushOrder.GAP not in {each.flush_order for each in heard}


def test_totals_wait_for_rules_too() -> None:
    board = Board(WindowStage.restored(FRESH, (), SECOND_NS))
    assert board.hear(in_scope(1, FEW), event=1) == []
    assert board.stage.checkpoint(0).offset == 0
    assert board.learn(FEW) == ["FIRING a 0"]


def test_a_rule_that_went_is_not_judged_by_the_totals_of_those_that_stay() -> None:
    gone, stays = rule("gone", "rate > 2.0"), rule("stays", "rate > 2.0")
    board = Board.with_rules(gone, stays)
    board.hear(row(1, rule_id="gone"), in_scope(1, RATE), event=1)
    board.learn(stays, revision=2)
    board.stage.checkpoint(SECOND_NS)
    board.stage.checkpoint(62 * SECOND_NS)
    assert board.hear(in_scope(2, RATE), event=2) == []


def test_a_rule_that_begins_to_need_totals_is_judged_by_them_for_what_it_has_selected() -> None:
    board = Board.with_rules(COUNT, RATE_OF_OTHERS)
    assert board.hear(row(1), in_scope(2, RATE), event=1) == []
    assert board.learn(replace(COUNT, condition="count > 0 && total > 2", revision=2), RATE_OF_OTHERS, revision=2) == []
    assert board.hear(in_scope(3, RATE), event=2) == ["FIRING a 0"]


def test_folding_totals_of_a_source_that_has_none_is_nothing() -> None:
    pane = ScopePane()
    pane.fold(1)
    assert pane.since(0) is None
