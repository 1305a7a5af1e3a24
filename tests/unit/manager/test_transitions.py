"""What batches of transitions make of the alerts."""

from dataclasses import replace

from services.domain.severity import Severity
from services.manager.core.alert import AlertHistoryKind
from services.manager.core.alert_changes import AlertChange, AlertCommand, apply_command
from services.manager.core.alert_lifecycle import AlertAction, AlertReason, AlertState, Ended, Fired
from services.manager.core.rule_edits import RuleEnding
from services.manager.core.transitions import ReceivedTransition, TransitionContext, decide
from tests.fakes.transitions import NOW, START, WINDOW, a_subject, a_transition


def test_a_firing_and_its_end_in_one_batch_are_one_alert() -> None:
    _, outcomes = decide(
        TransitionContext(), [a_transition(), a_transition(window=1), a_transition(Ended, window=2)], NOW
    )
    assert [outcome.reason for outcome in outcomes] == [AlertReason.FIRED, AlertReason.REPEATED, AlertReason.RECOVERED]
    changes = [outcome.change for outcome in outcomes if outcome.change]
    assert len({change.alert.id for change in changes}) == 1
    assert [change.alert.version for change in changes] == [1, 2, 3]
    assert [entry.kind for change in changes for entry in change.history] == [
        AlertHistoryKind.FIRED,
        AlertHistoryKind.REPEATED,
        AlertHistoryKind.RESOLVED,
    ]
    assert changes[-1].alert.resolve_time == START + 2 * WINDOW
    assert changes[-1].alert.status.repeat_count == 1


def test_an_end_that_came_first_is_stored_with_its_firing() -> None:
    _, (ended, fired) = decide(TransitionContext(), [a_transition(Ended, window=1), a_transition()], NOW)
    assert ended.change is None
    assert fired.change is not None
    assert fired.change.alert.status.state is AlertState.RESOLVED
    assert fired.change.alert.resolve_time == START + WINDOW
    assert [entry.kind for entry in fired.change.history] == [AlertHistoryKind.FIRED, AlertHistoryKind.RESOLVED]


def test_an_end_says_which_edit_of_the_rule_it_came_with() -> None:
    def comment_of_end(revision: int, *endings: RuleEnding) -> str:
        context, _ = decide(TransitionContext(), [a_transition(revision=4)], NOW)
        context = replace(context, rule_endings={ending.rule_id: ending for ending in endings})
        _, (outcome,) = decide(context, [a_transition(Ended, window=1, revision=revision)], NOW)
        assert outcome.change is not None
        return outcome.change.history[-1].comment

    disabled = RuleEnding(revision=9, rule_id="rule-1", comment="the rule was disabled (revision 9)")
    # No edit since it fired; one by which its window was judged; one that ends all of the rule's alerts.
    assert comment_of_end(4) == ""
    assert comment_of_end(6) == "the condition no longer held, by revision 6 of the rule"
    assert comment_of_end(4, disabled) == disabled.comment
    # It fired after that, and the other one is of another rule.
    assert comment_of_end(4, replace(disabled, revision=3)) == ""
    assert comment_of_end(4, replace(disabled, rule_id="rule-2")) == ""


def is_new(change: AlertChange) -> bool:
    return AlertHistoryKind.FIRED in {entry.kind for entry in change.history}


def edited(
    severity: Severity, revision: int, kind: type[Fired] | type[Ended] = Fired, **changed: str
) -> ReceivedTransition:
    return a_transition(kind, subject=replace(a_subject(severity=severity), **changed), revision=revision)  # type: ignore[arg-type]


def test_a_raised_severity_supersedes_the_alert_once() -> None:
    low, critical = edited(Severity.LOW, 1), edited(Severity.CRITICAL, 2)
    ended = edited(Severity.CRITICAL, 2, Ended)
    context, outcomes = decide(TransitionContext(), [low, critical, critical, low, ended], NOW)
    assert [outcome.reason for outcome in outcomes] == [
        AlertReason.FIRED,
        AlertReason.RAISED,
        AlertReason.DUPLICATE,
        AlertReason.DUPLICATE,
        AlertReason.RECOVERED,
    ]
    old, new, over = (change for outcome in outcomes[1:] for change in outcome.changes)
    assert (old.alert.subject.severity, old.alert.status.state) == (Severity.LOW, AlertState.RESOLVED)
    assert old.alert.superseded_by == new.alert.id
    assert [(entry.kind, entry.comment) for entry in old.history] == [
        (AlertHistoryKind.SUPERSEDED, f"by {new.alert.id}")
    ]
    assert (new.alert.subject.severity, new.alert.status.state) == (Severity.CRITICAL, AlertState.FIRING)
    assert (over.alert.id, over.alert.superseded_by, context.open_alerts) == (new.alert.id, "", {})


def test_a_lowered_severity_and_an_edited_text_are_taken_over() -> None:
    context, _ = decide(TransitionContext(), [edited(Severity.HIGH, 1)], NOW)
    (alert,) = context.open_alerts.values()
    taken, _ = apply_command(alert, AlertCommand(action=AlertAction.ACKNOWLEDGE, actor="ana"), now=NOW)
    assert taken is not None
    context.open_alerts[alert.subject.open_key] = taken.alert
    lowered, reworded = edited(Severity.LOW, 2), edited(Severity.LOW, 3, description="other")
    context, outcomes = decide(context, [lowered, reworded, lowered], NOW)
    assert [outcome.reason for outcome in outcomes] == [AlertReason.UPDATED, AlertReason.UPDATED, AlertReason.DUPLICATE]
    changes = [change for outcome in outcomes for change in outcome.changes]
    assert {change.alert.id for change in changes} == {alert.id}
    assert [entry.comment for change in changes for entry in change.history] == [
        "severity HIGH to LOW",
        "the rule was edited",
    ]
    (after,) = context.open_alerts.values()
    assert (after.subject, after.acknowledged_by) == (reworded.subject, "ana")
    assert (after.status.state, after.status.repeat_count) == (AlertState.ACKNOWLEDGED, 0)


def test_each_raise_opens_an_alert_however_often_the_severity_is_edited() -> None:
    severities = [Severity.LOW, Severity.HIGH, Severity.LOW, Severity.CRITICAL, Severity.HIGH, Severity.CRITICAL]
    transitions = [edited(severity, revision) for revision, severity in enumerate(severities, 1)]
    context, outcomes = decide(TransitionContext(), transitions, NOW)
    opened = [change.alert.subject.severity for each in outcomes if (change := each.change) and is_new(change)]
    assert opened == [Severity.LOW, Severity.HIGH, Severity.CRITICAL, Severity.CRITICAL]
    assert len(context.open_alerts) == 1
    late, _ = decide(TransitionContext(), [transitions[-1], *transitions], NOW)
    assert [alert.subject for alert in late.open_alerts.values()] == [transitions[-1].subject]


def test_a_later_episode_brings_its_text_to_an_alert_whose_end_is_missing() -> None:
    later = a_transition(subject=replace(a_subject(severity=Severity.LOW), description="other"), episode=3, revision=2)
    context, (_, outcome) = decide(TransitionContext(), [edited(Severity.HIGH, 1), later], NOW)
    assert outcome.reason is AlertReason.REPEATED
    assert [alert.subject for alert in context.open_alerts.values()] == [later.subject]


def test_the_context_before_is_not_changed() -> None:
    known = TransitionContext()
    decide(known, [a_transition()], NOW)
    assert known == TransitionContext()


def test_the_actor_and_the_time_of_a_command_are_stored() -> None:
    context, _ = decide(TransitionContext(), [a_transition()], NOW)
    (alert,) = context.open_alerts.values()
    taken, reason = apply_command(
        alert, AlertCommand(action=AlertAction.ACKNOWLEDGE, actor="ana", comment="mine"), now=NOW
    )
    assert reason is AlertReason.ACKNOWLEDGED
    assert taken is not None
    assert (taken.alert.acknowledged_by, taken.alert.acknowledge_time) == ("ana", NOW)
    assert taken.history[0].comment == "mine"
    over, reason = apply_command(taken.alert, AlertCommand(action=AlertAction.RESOLVE), now=NOW)
    assert reason is AlertReason.RESOLVED_BY_HAND
    assert over is not None
    assert over.alert.resolve_time == NOW
    assert apply_command(over.alert, AlertCommand(action=AlertAction.ACKNOWLEDGE), now=NOW) == (
        None,
        AlertReason.NOT_ACKNOWLEDGEABLE,
    )
