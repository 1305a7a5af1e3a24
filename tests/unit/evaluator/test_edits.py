"""A rule that is edited again and again while it fires, from the window stage to what people are notified."""

from collections import Counter
from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from services.domain.severity import Severity
from services.evaluator.adapters.alerts import encode_transition
from services.evaluator.adapters.window_state import decode_state, encode_state
from services.manager.core.alert import Alert, AlertHistoryKind
from services.manager.core.alert_changes import AlertCommand, apply_command
from services.manager.core.alert_lifecycle import AlertAction
from services.manager.core.transitions import TransitionContext, decide
from services.manager.worker.transitions import transition_of
from tests.fakes.transitions import NOW
from tests.unit.evaluator.stage_driver import COUNT, StageDriver, row
from tocsin.alerts.v1.alert_pb2 import AlertTransition

# Of these receivers are notified, and each alert has each at most once.
ONCE = frozenset({AlertHistoryKind.FIRED, AlertHistoryKind.RESOLVED, AlertHistoryKind.SUPERSEDED})


class Scenario:
    """The evaluator's stage and the manager's alerts, with everything that may happen between them."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.rule, self.revision = COUNT, 1
        self.driver = StageDriver.with_rules(COUNT)
        self.saved = 0
        self.context = TransitionContext()
        self.happened: Counter[tuple[str, AlertHistoryKind]] = Counter()
        self.alerts: dict[str, Alert] = {}
        self.delivered = 0
        self.driver.flush(row(3), event=1)
        self.save()

    def save(self) -> None:
        self.saved = len(self.driver.transitions)

    def edit(self) -> None:
        self.revision += 1
        severity = self.random.choice(list(Severity))
        self.rule = replace(self.rule, severity=severity, revision=self.revision)
        if self.random.random() < 0.7:
            self.update_rules()

    def update_rules(self) -> None:
        self.driver.update_rules(self.rule, revision=self.revision)

    def restart(self) -> None:
        """Restart after a kill, perhaps when `alerts` had what `window-state` had not."""
        states = [decode_state(encode_state(self.driver.transitions[self.saved - 1]))]
        checkpoint = self.driver.stage.checkpoint(0)
        steps = self.driver.transitions
        self.driver = StageDriver.restored(replace(checkpoint, position=0), states, up_to=self.driver.up_to)
        self.driver.transitions = steps
        self.update_rules()

    def deliver(self) -> None:
        """Deliver what was published since, and some of it again."""
        steps = self.driver.transitions[self.delivered :] if self.random.random() < 0.8 else self.driver.transitions
        transitions = [transition_of(AlertTransition.FromString(encode_transition(each))) for each in steps]
        self.delivered = len(self.driver.transitions)
        self.context, outcomes = decide(self.context, transitions, NOW)
        for change in (change for outcome in outcomes for change in outcome.changes):
            self.alerts[change.alert.id] = change.alert
            self.happened.update((change.alert.id, entry.kind) for entry in change.history if entry.kind in ONCE)

    def acknowledge(self) -> None:
        for key, alert in list(self.context.open_alerts.items()):
            change, _ = apply_command(alert, AlertCommand(action=AlertAction.ACKNOWLEDGE, actor="ana"), now=NOW)
            if change is not None:
                self.context.open_alerts[key] = self.alerts[alert.id] = change.alert

    def end(self) -> None:
        self.update_rules()
        self.driver.flush(event=100)
        self.deliver()


ACTS = ["edit", "edit", "save", "restart", "deliver", "acknowledge"]
randoms = st.randoms(use_true_random=True)


@given(randoms, st.lists(st.sampled_from(ACTS)))
def test_whatever_happens_no_alert_stays_open_and_each_begins_and_ends_once(random: Random, acts: list[str]) -> None:
    scenario = Scenario(random)
    for act in acts:
        getattr(scenario, act)()
    scenario.deliver()
    scenario.update_rules()
    scenario.deliver()
    if "restart" not in acts:
        assert [alert.subject.severity for alert in scenario.context.open_alerts.values()] == [scenario.rule.severity]
    scenario.end()
    assert scenario.context.open_alerts == {}
    assert all(not alert.is_open for alert in scenario.alerts.values())
    assert set(scenario.happened.values()) == {1}


@given(randoms, st.lists(st.sampled_from(Severity), max_size=6))
def test_people_hear_of_each_raise_and_of_nothing_else(random: Random, severities: list[Severity]) -> None:
    scenario = Scenario(random)
    scenario.deliver()
    raises, before = 0, COUNT.severity
    for severity in severities:
        scenario.revision += 1
        scenario.rule = replace(scenario.rule, severity=severity, revision=scenario.revision)
        scenario.update_rules()
        scenario.deliver()
        raises, before = raises + (severity > before), severity
    scenario.end()
    firing = [alert for alert, kind in scenario.happened if kind is AlertHistoryKind.FIRED]
    ended = [alert for alert in scenario.alerts.values() if not alert.superseded_by]
    assert (len(firing), len(ended)) == (1 + raises, 1)
