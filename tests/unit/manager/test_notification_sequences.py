"""A state machine that lets alerts of one incident come, go and be silenced, and checks what receivers know."""

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.domain.severity import Severity
from services.manager.core.alert_lifecycle import AlertState
from services.manager.core.flapping import FlappingSettings
from services.manager.core.incident import Incident, IncidentAlert, IncidentNotificationKind, NotifyReason
from services.manager.core.incident_batch import IncidentContext, IncidentSettings, OpenIncidents, SeenAlert
from services.manager.core.incident_changes import acknowledge, resolve_incident, unacknowledge
from services.manager.core.routing_tree import RouteNode, RoutingTree

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
# So that nothing flaps: that has examples of its own.
SETTINGS = IncidentSettings(flapping=FlappingSettings(count=1000))
CONTEXT = IncidentContext(tree=RoutingTree(root=RouteNode(receivers=("one", "two"))))
# Exempt from the interval: what is urgent.
_BUNDLED = {NotifyReason.BUNDLED}


@dataclass
class Receiver:
    """What a receiver was sent, as it sees it."""

    kinds: list[str] = field(default_factory=list)
    bundles: list[datetime] = field(default_factory=list)

    @property
    def knows(self) -> bool:
        return bool(self.kinds) and self.kinds[-1] != "RESOLVED"


class NotificationMachine(RuleBasedStateMachine):
    """All alerts have the same resource, so they belong together."""

    def __init__(self) -> None:
        super().__init__()
        self.incidents = OpenIncidents(SETTINGS)
        self.stored: dict[str, Incident] = {}
        self.alerts: dict[str, SeenAlert] = {}
        self.receivers: dict[tuple[str, str], Receiver] = {}
        self.sequences: Counter[str] = Counter()
        # Those of which no silence held at some time.
        self.audible: set[str] = set()
        self.now = NOW

    @rule(severity=st.sampled_from(Severity), is_silenced=st.booleans(), is_over=st.booleans())
    def fire(self, severity: Severity, is_silenced: bool, is_over: bool) -> None:  # noqa: FBT001
        """Let an alert fire, perhaps silenced, perhaps over before it is seen."""
        alert = IncidentAlert(
            id=f"alert {len(self.alerts)}",
            rule_name="rule",
            service="",
            resource="resource",
            severity=severity,
            labels={},
            fire_time=self.now,
        )
        state = AlertState.RESOLVED if is_over else AlertState.FIRING
        self._see(SeenAlert(alert=alert, state=state, silenced_by=("s",) if is_silenced else ()))

    @rule(data=st.data(), is_silenced=st.booleans())
    def silence(self, data: st.DataObject, is_silenced: bool) -> None:  # noqa: FBT001
        """Let a silence begin or end."""
        if alert := self._open_alert(data):
            self._see(replace(alert, silenced_by=("s",) if is_silenced else ()))

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        """Let an alert end."""
        if alert := self._open_alert(data):
            self._see(replace(alert, state=AlertState.RESOLVED))

    @rule(data=st.data(), command=st.sampled_from(["acknowledge", "unacknowledge", "resolve"]))
    def command(self, data: st.DataObject, command: str) -> None:
        """Act on an incident, as a call that another instance has served."""
        if not self.stored:
            return
        incident = self.stored[data.draw(st.sampled_from(sorted(self.stored)))]
        match command:
            case "acknowledge":
                change = acknowledge(incident, actor="ann", comment="", until=None, now=self.now)
            case "unacknowledge":
                change = unacknowledge(incident, actor="ann", comment="", now=self.now)
            case _:
                change = resolve_incident(incident, actor="ann", comment="", now=self.now)
                over = incident.open_alerts if incident.is_open else []
                for alert in over:
                    self.alerts[alert.id] = replace(self.alerts[alert.id], state=AlertState.RESOLVED)
        self.stored[incident.id] = change.incident
        self.incidents.put([change.incident])
        self._advance()

    @rule(seconds=st.integers(1, 200))
    def wait(self, seconds: int) -> None:
        """Let time pass, and run what is due at its time."""
        end = self.now + timedelta(seconds=seconds)
        while (due := self.incidents.next_due()) is not None and due <= end:
            self.now = max(self.now, due)
            self._advance()
        self.now = end
        self._advance()

    @rule()
    def restart(self) -> None:
        """Go on in another instance, which reads what is stored."""
        self.incidents = OpenIncidents(SETTINGS)
        self.incidents.put(self.stored.values())
        self._advance()

    @invariant()
    def who_knows_is_right(self) -> None:
        """Receivers know of an incident as long as an alert is open of which they were notified."""
        for incident in self.stored.values():
            for name in ("one", "two"):
                receiver = self.receivers.get((incident.id, name), Receiver())
                assert receiver.knows == bool(incident.live_alerts)
                firing = receiver.kinds.count("FIRING")
                assert receiver.kinds.count("RESOLVED") == firing - receiver.knows

    @invariant()
    def bundles_keep_their_distance(self) -> None:
        """No receiver is sent more than one bundle in an interval."""
        for receiver in self.receivers.values():
            gaps = [later - earlier for earlier, later in zip(receiver.bundles, receiver.bundles[1:], strict=False)]
            assert all(gap >= timedelta(minutes=1) for gap in gaps)

    @invariant()
    def nobody_is_notified_of_what_is_silenced_all_the_time(self) -> None:
        """Neither is anybody of what somebody had taken care of when its silence ended."""
        for incident in self.stored.values():
            live = {alert.id for alert in incident.live_alerts}
            assert live <= self.audible

    def _open_alert(self, data: st.DataObject) -> SeenAlert | None:
        names = sorted(name for name, alert in self.alerts.items() if alert.state is not AlertState.RESOLVED)
        return self.alerts[data.draw(st.sampled_from(names))] if names else None

    def _see(self, alert: SeenAlert) -> None:
        self.alerts[alert.alert.id] = alert
        if not alert.silenced_by:
            self.audible.add(alert.alert.id)
        self._advance(alert)

    def _advance(self, *seen: SeenAlert) -> None:
        is_stored = {alert_id for incident in self.stored.values() for alert_id in incident.alerts}
        seen = tuple(replace(each, is_stored=each.alert.id in is_stored) for each in seen)
        self.incidents.drop_old(self.now)
        for change in self.incidents.advance(seen, CONTEXT, self.now):
            self.stored[change.incident.id] = change.incident
            for each in change.notifications:
                assert each.sequence == self.sequences[change.incident.id] + 1
                self.sequences[change.incident.id] += 1
                # It fires because of an alert of which the receivers were not notified.
                assert each.kind is not IncidentNotificationKind.FIRING or each.new_alerts
                for name in each.receivers:
                    receiver = self.receivers.setdefault((change.incident.id, name), Receiver())
                    receiver.kinds.append(each.kind.value)
                    receiver.bundles += [self.now] if each.reason in _BUNDLED else []
        assert self.incidents.advance((), CONTEXT, self.now) == []


NotificationMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestNotificationMachine = NotificationMachine.TestCase
