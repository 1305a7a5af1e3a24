"""A rule that is edited again and again while it fires, from the window stage to what people are notified."""

from collections import Counter
from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from services.domain.severity import Severity
from services.evaluator.adapters.transition_codec import decode_state, encode_state, encode_transition
from services.evaluator.core.records import SECOND_NS
from services.evaluator.core.window.stage import WindowStage
from services.manager.core.alert import Alert, AlertNotification
from services.manager.core.alert_changes import AlertCommand, apply_command
from services.manager.core.alert_lifecycle import AlertAction
from services.manager.core.transitions import TransitionContext, decide
from services.manager.worker.transitions import transition_of
from tests.fakes.transitions import NOW
from tests.unit.evaluator.stage_driver import COUNT, StageDriver, row
from tocsin.alerts.v1.alert_pb2 import AlertTransition


class Watch:
    """The evaluator's stage and the manager's alerts, with everything that may happen between them."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.rule, self.revision = COUNT, 1
        self.driver = StageDriver.with_rules(COUNT)
        self.saved = 0
        self.context = TransitionContext()
        self.notified: Counter[tuple[str, AlertNotification]] = Counter()
        self.alerts: dict[str, Alert] = {}
        self.heard = 0
        self.driver.flush(row(3), event=1)
        self.save()

    def save(self) -> None:
        self.saved = len(self.driver.transitions)

    def edit(self) -> None:
        self.revision += 1
        severity = self.random.choice(list(Severity))
        self.rule = replace(self.rule, severity=severity, revision=self.revision)
        if self.random.random() < 0.7:
            self.learn()

    def learn(self) -> None:
        self.driver.update_rules(self.rule, revision=self.revision)

    def restart(self) -> None:
        """Killed, perhaps after `alerts` had what `window-state` has not."""
        states = [decode_state(encode_state(self.driver.transitions[self.saved - 1]))]
        checkpoint = self.driver.stage.checkpoint(0)
        steps = self.driver.transitions
        self.driver = StageDriver(
            WindowStage.restored(replace(checkpoint, position=0), states, SECOND_NS), up_to=self.driver.up_to
        )
        self.driver.transitions = steps
        self.learn()

    def deliver(self) -> None:
        """What was sent since, and some of it again."""
        steps = self.driver.transitions[self.heard :] if self.random.random() < 0.8 else self.driver.transitions
        words = [transition_of(AlertTransition.FromString(encode_transition(each))) for each in steps]
        self.heard = len(self.driver.transitions)
        self.context, outcomes = decide(self.context, words, NOW)
        for change in (change for outcome in outcomes for change in outcome.changes):
            self.alerts[change.alert.id] = change.alert
            self.notified.update((change.alert.id, notification) for notification in change.notifications)

    def acknowledge(self) -> None:
        for key, alert in list(self.context.open_alerts.items()):
            change, _ = apply_command(alert, AlertCommand(action=AlertAction.ACKNOWLEDGE, actor="ana"), now=NOW)
            if change is not None:
                self.context.open_alerts[key] = self.alerts[alert.id] = change.alert

    def end(self) -> None:
        self.learn()
        self.driver.flush(event=100)
        self.deliver()


ACTS = ["edit", "edit", "save", "restart", "deliver", "acknowledge"]
randoms = st.randoms(use_true_random=True)


@given(randoms, st.lists(st.sampled_from(ACTS)))
def test_whatever_happens_no_alert_stays_open_and_each_is_told_once(random: Random, acts: list[str]) -> None:
    watch = Watch(random)
    for act in acts:
        getattr(watch, act)()
    watch.deliver()
    watch.learn()
    watch.deliver()
    if "restart" not in acts:
        assert [alert.subject.severity for alert in watch.context.open_alerts.values()] == [watch.rule.severity]
    watch.end()
    assert watch.context.open_alerts == {}
    assert all(not alert.is_open for alert in watch.alerts.values())
    assert set(watch.notified.values()) == {1}


@given(randoms, st.lists(st.sampled_from(Severity), max_size=6))
def test_people_hear_of_each_raise_and_of_nothing_else(random: Random, severities: list[Severity]) -> None:
    watch = Watch(random)
    watch.deliver()
    raises, before = 0, COUNT.severity
    for severity in severities:
        watch.revision += 1
        watch.rule = replace(watch.rule, severity=severity, revision=watch.revision)
        watch.learn()
        watch.deliver()
        raises, before = raises + (severity > before), severity
    watch.end()
    firing = [alert for alert, notification in watch.notified if notification is AlertNotification.FIRING]
    ended = [alert for alert in watch.alerts.values() if not alert.superseded_by]
    assert (len(firing), len(ended)) == (1 + raises, 1)
