"""What holds of two incidents after any steps."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.manager.core.correlation import CorrelationSettings
from services.manager.core.dependency_graph import DependencyEdge, DependencyGraph
from services.manager.core.incident import (
    Incident,
    IncidentState,
)
from services.manager.core.incident_changes import (
    IncidentChange,
    acknowledge,
    end_alert,
    expire_acknowledgement,
    join,
    open_incident,
    resolve_incident,
    settle,
    unacknowledge,
    with_cause,
)
from services.manager.core.incident_merges import merge_incidents
from tests.unit.manager.test_incident_changes import BY_RESOURCE, NOW, SETTLE, alert

ALERTS = st.sampled_from([f"alert {number}" for number in range(6)])
ACTORS = st.sampled_from(["ann", "bob"])
UNTIL = st.none() | st.integers(1, 30)
EDGES = [DependencyEdge(service="shop", depends_on="database")]


class IncidentMachine(RuleBasedStateMachine):
    """Any steps of two incidents; a step that comes again changes nothing, and the invariants hold."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.incidents: list[Incident] = []
        self.history_ids: set[str] = set()

    @initialize()
    def begin(self) -> None:
        for name in ("first", "second"):
            self.take(len(self.incidents), open_incident(alert(name), now=self.now))

    def take(self, place: int, change: IncidentChange) -> None:
        change = with_cause(change, DependencyGraph(EDGES), CorrelationSettings(), now=self.now)
        if place == len(self.incidents):
            self.incidents.append(change.incident)
        before, self.incidents[place] = self.incidents[place], change.incident
        ids = {entry.id for entry in change.history}
        assert change.history or change.incident == before
        assert len(ids) == len(change.history)
        self.history_ids |= ids

    @rule(minutes=st.integers(0, 10))
    def wait(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule(place=st.integers(0, 1), name=ALERTS, service=st.sampled_from(["shop", "database"]))
    def alert_fires(self, place: int, name: str, service: str) -> None:
        if not any(name in incident.alerts for incident in self.incidents):
            first = join(self.incidents[place], alert(name, service), BY_RESOURCE, now=self.now)
            assert join(first.incident, alert(name, service), BY_RESOURCE, now=self.now).incident == first.incident
            self.take(place, first)

    @rule(place=st.integers(0, 1), name=ALERTS)
    def alert_ends(self, place: int, name: str) -> None:
        first = end_alert(self.incidents[place], name, settle=SETTLE, now=self.now)
        assert end_alert(first.incident, name, settle=SETTLE, now=self.now).incident == first.incident
        self.take(place, first)

    @rule(place=st.integers(0, 1))
    def timers_run(self, place: int) -> None:
        self.take(place, settle(self.incidents[place], now=self.now))
        self.take(place, expire_acknowledgement(self.incidents[place], now=self.now))

    @rule(place=st.integers(0, 1), actor=ACTORS, minutes=UNTIL)
    def somebody_acknowledges(self, place: int, actor: str, minutes: int | None) -> None:
        until = None if minutes is None else self.now + timedelta(minutes=minutes)
        self.take(place, acknowledge(self.incidents[place], actor=actor, comment="", until=until, now=self.now))

    @rule(place=st.integers(0, 1), actor=ACTORS)
    def somebody_takes_it_back(self, place: int, actor: str) -> None:
        self.take(place, unacknowledge(self.incidents[place], actor=actor, comment="", now=self.now))

    @rule(place=st.integers(0, 1), actor=ACTORS)
    def somebody_resolves(self, place: int, actor: str) -> None:
        self.take(place, resolve_incident(self.incidents[place], actor=actor, comment="", now=self.now))

    @precondition(lambda self: self.incidents[0].is_open and self.incidents[1].is_open)
    @rule(actor=ACTORS)
    def somebody_merges(self, actor: str) -> None:
        merged, ended = merge_incidents(*self.incidents, actor=actor, comment="", now=self.now)
        self.take(0, merged)
        self.take(1, ended)

    @invariant()
    def an_incident_is_sound(self) -> None:
        for incident in self.incidents:
            assert incident.alerts
            assert incident.cause in incident.alerts
            assert incident.is_open == (incident.resolve_time is None)
            if incident.is_open:
                assert bool(incident.open_alerts) == (incident.settle_time is None)
            else:
                assert not incident.open_alerts
            is_acknowledged = incident.state is IncidentState.ACKNOWLEDGED
            assert not is_acknowledged or incident.acknowledge_time is not None
            if incident.state is IncidentState.OPEN:
                unknown = replace(incident, acknowledge_time=None, acknowledged_by="", acknowledged_until=None)
                assert unknown == incident

    @invariant()
    def an_open_alert_is_open_in_one_incident(self) -> None:
        names = [each.id for incident in self.incidents for each in incident.open_alerts]
        assert len(names) == len(set(names))


TestIncidentMachine = IncidentMachine.TestCase
TestIncidentMachine.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
