"""A state machine that observes one group and acts on its alerts, in any order."""

from collections import Counter
from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.domain.severity import Severity
from services.manager.core.alert import Alert, AlertHistoryKind
from services.manager.core.alert_changes import AlertChange, AlertCommand, apply_command
from services.manager.core.alert_lifecycle import AlertAction, AlertState, Ended, Fired
from services.manager.core.transitions import TransitionContext, decide
from tests.fakes.transitions import NOW, a_subject, a_transition

_ORDER = {AlertState.FIRING: 0, AlertState.ACKNOWLEDGED: 1, AlertState.RESOLVED: 2}


class AlertMachine(RuleBasedStateMachine):
    """Every alert moves forward only, and each of its states is entered once."""

    def __init__(self) -> None:
        super().__init__()
        self.context = TransitionContext()
        self.alerts: dict[str, Alert] = {}
        self.entered: Counter[tuple[str, AlertHistoryKind]] = Counter()
        self.now = NOW

    @rule(
        kind=st.sampled_from([Fired, Ended]),
        episode=st.integers(0, 3),
        later=st.integers(0, 3),
        revision=st.integers(1, 3),
        severity=st.sampled_from(Severity),
    )
    def observe(
        self, kind: type[Fired] | type[Ended], episode: int, later: int, revision: int, severity: Severity
    ) -> None:
        """Process an observation, perhaps again."""
        about = a_subject(severity=severity)
        transition = a_transition(kind, subject=about, episode=episode, window=episode + later, revision=revision)
        self.context, outcomes = decide(self.context, [transition], self.now)
        self._take([change for outcome in outcomes for change in outcome.changes])

    @rule(action=st.sampled_from(list(AlertAction)), data=st.data())
    def command(self, action: AlertAction, data: st.DataObject) -> None:
        """Act on an alert, also on a resolved one."""
        if self.alerts:
            alert = data.draw(st.sampled_from(sorted(self.alerts.values(), key=lambda each: each.id)))
            change, _ = apply_command(alert, AlertCommand(action=action, actor="ana"), now=self.now)
            self._take([change])
            if change is not None:
                self.context.open_alerts.pop(alert.subject.open_key)
                if change.alert.is_open:
                    self.context.open_alerts[alert.subject.open_key] = change.alert

    def _take(self, changes: list[AlertChange | None]) -> None:
        self.now += timedelta(seconds=1)
        for change in changes:
            if change is None:
                continue
            before = self.alerts.get(change.alert.id)
            if before is not None:
                assert change.alert.version == before.version + 1
                assert _ORDER[change.alert.status.state] >= _ORDER[before.status.state]
                assert before.is_open
            self.alerts[change.alert.id] = change.alert
            if change.alert.status.state is not (before.status.state if before else None):
                self.entered.update((change.alert.id, entry.kind) for entry in change.history)

    @invariant()
    def at_most_one_is_open(self) -> None:
        """The context has the open one."""
        still_open = [alert for alert in self.alerts.values() if alert.is_open]
        assert still_open == list(self.context.open_alerts.values())

    @invariant()
    def each_state_is_entered_once(self) -> None:
        """The history has the beginning of each alert, and its end exactly when it has ended."""
        assert all(count == 1 for count in self.entered.values())
        for alert in self.alerts.values():
            assert (alert.id, AlertHistoryKind.FIRED) in self.entered
            assert alert.subject.severity is alert.status.last_firing.severity
            ends = {(alert.id, AlertHistoryKind.RESOLVED), (alert.id, AlertHistoryKind.SUPERSEDED)} & set(self.entered)
            assert bool(ends) == (alert.status.state is AlertState.RESOLVED)
            acknowledged = (alert.id, AlertHistoryKind.ACKNOWLEDGED) in self.entered
            assert acknowledged == (alert.acknowledge_time is not None)


AlertMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAlertMachine = AlertMachine.TestCase
