"""What batches of changed alerts do to incidents; no repetition or cut of batches loses or doubles any."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from services.domain.matchers import parse_matchers
from services.domain.severity import Severity
from services.manager.core.alert_lifecycle import AlertState
from services.manager.core.correlation import CorrelationSettings
from services.manager.core.dependency_graph import DependencyEdge, DependencyGraph
from services.manager.core.incident import Incident, IncidentAlert, IncidentHistoryKind, IncidentState
from services.manager.core.incident_batch import IncidentContext, IncidentSettings, OpenIncidents, SeenAlert
from services.manager.core.incident_changes import (
    IncidentChange,
    IncidentReason,
    acknowledge,
    resolve_incident,
)
from services.manager.core.incident_merges import merge_incidents
from services.manager.core.routing_tree import RouteNode, RoutingTree
from services.rule_language.label_regex import compile_regex

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
SETTINGS = IncidentSettings(
    correlation=CorrelationSettings(window=timedelta(minutes=10), reopen=timedelta(minutes=30)),
    settle=timedelta(minutes=2),
)
GRAPH = DependencyGraph(
    DependencyEdge(service=name, depends_on="database") for name in ("shop", "search", "orders", "mail")
)

CONTEXT = IncidentContext(graph=GRAPH)


def at(minute: float) -> datetime:
    return NOW + timedelta(minutes=minute)


def seen(
    name: str, service: str = "shop", state: AlertState = AlertState.FIRING, *, minute: float = 0, by: str = ""
) -> SeenAlert:
    alert = IncidentAlert(
        id=name,
        rule_name="rule",
        service=service,
        resource=f"service={service}",
        severity=Severity.HIGH,
        labels={},
        fire_time=at(minute),
    )
    return SeenAlert(alert=alert, state=state, is_acknowledged=bool(by), acknowledged_by=by)


def advance(incidents: OpenIncidents, *alerts: SeenAlert, minute: float = 0) -> list[IncidentChange]:
    return incidents.advance(alerts, CONTEXT, at(minute))


def kinds(change: IncidentChange) -> list[IncidentHistoryKind]:
    return [entry.kind for entry in change.history if entry.kind is not IncidentHistoryKind.NOTIFIED]


def test_what_belongs_together_makes_one_incident_with_its_cause() -> None:
    incidents = OpenIncidents(SETTINGS)
    alerts = [seen("a", "shop"), seen("b", "search"), seen("c", "database", minute=1), seen("d", "elsewhere")]
    changes = advance(incidents, *alerts)
    by_first = {next(iter(change.incident.alerts)): change for change in changes if change.incident.is_open}
    # Search is not related to shop before the database is known; then their incidents are merged.
    assert {name: set(change.incident.alerts) for name, change in by_first.items()} == {
        "b": {"a", "b", "c"},
        "d": {"d"},
    }
    whole = by_first["b"]
    assert whole.incident.cause == "c"
    assert kinds(whole) == [
        IncidentHistoryKind.OPENED,
        IncidentHistoryKind.JOINED,
        IncidentHistoryKind.MERGED,
        IncidentHistoryKind.CAUSE_CHANGED,
    ]
    (gone,) = (change.incident for change in changes if change.incident.merged_into)
    assert gone.merged_into == whole.incident.id
    assert len(incidents) == len(incidents.known()) == 3
    later = advance(incidents, seen("e", "orders", minute=2), minute=2)
    assert set(later[0].incident.alerts) == {"a", "b", "c", "e"}


def test_two_causes_of_one_alert_stay_apart() -> None:
    incidents = OpenIncidents(SETTINGS)
    two = DependencyGraph(DependencyEdge(service="shop", depends_on=name) for name in ("database", "queue"))
    alerts = [seen("a", "database"), seen("b", "queue"), seen("c", "shop")]
    incidents.advance(alerts, IncidentContext(graph=two), NOW)
    assert sorted(len(each.alerts) for each in incidents.known().values()) == [1, 2]


def test_an_alert_that_is_seen_again_changes_nothing() -> None:
    incidents = OpenIncidents(SETTINGS)
    advance(incidents, seen("a"))
    assert advance(incidents, seen("a"), minute=1) == []


def test_an_edit_of_its_rule_changes_the_incident_without_an_entry() -> None:
    incidents = OpenIncidents(SETTINGS)
    advance(incidents, seen("a"))
    edited = seen("a")
    edited = replace(edited, alert=replace(edited.alert, severity=Severity.LOW))
    (change,) = advance(incidents, edited)
    assert (change.reason, change.history) == (IncidentReason.ALERT_UPDATED, ())
    assert change.incident.severity is Severity.LOW


def test_an_alert_that_ended_before_it_was_seen_joins_and_ends() -> None:
    incidents = OpenIncidents(SETTINGS)
    (change,) = advance(incidents, seen("a", state=AlertState.RESOLVED))
    assert kinds(change) == [IncidentHistoryKind.OPENED, IncidentHistoryKind.ALERT_RESOLVED]
    assert incidents.next_due() == change.incident.settle_time == at(2)


def test_acknowledging_an_alert_acknowledges_its_incident_once() -> None:
    incidents = OpenIncidents(SETTINGS)
    acknowledged = seen("a", state=AlertState.ACKNOWLEDGED, by="ann")
    (change,) = advance(incidents, acknowledged)
    assert (change.incident.state, change.incident.acknowledged_by) == (IncidentState.ACKNOWLEDGED, "ann")
    other = seen("b", state=AlertState.ACKNOWLEDGED, by="bob")
    (change,) = advance(incidents, other, minute=1)
    assert change.incident.acknowledged_by == "ann"


def test_what_is_due_happens_without_an_alert() -> None:
    incidents = OpenIncidents(SETTINGS)
    advance(incidents, seen("a"), seen("b", "elsewhere"))
    taken = acknowledge(
        incidents.known()[advance(incidents, seen("c", "shop"))[0].incident.id],
        actor="ann",
        comment="",
        until=at(5),
        now=NOW,
    )
    incidents.put([taken.incident])
    assert incidents.next_due() == at(5)
    (notified,) = advance(incidents, minute=3)
    assert [each.kind for each in notified.notifications] == ["ACKNOWLEDGED"]
    assert advance(incidents, minute=4) == []
    assert [change.reason for change in advance(incidents, minute=5)] == [IncidentReason.ACKNOWLEDGEMENT_EXPIRED]
    advance(incidents, seen("b", "elsewhere", AlertState.RESOLVED), minute=6)
    assert [change.reason for change in advance(incidents, minute=8)] == [IncidentReason.SETTLED]
    assert incidents.next_due() is None


def test_a_resolved_incident_is_dropped_after_the_reopening_time() -> None:
    incidents = OpenIncidents(SETTINGS)
    advance(incidents, seen("a", state=AlertState.RESOLVED), seen("b", "elsewhere"))
    advance(incidents, minute=2)
    incidents.drop_old(at(32))
    assert len(incidents) == 2
    (change,) = advance(incidents, seen("c", minute=32), minute=32)
    assert change.reason is IncidentReason.REOPENED
    advance(incidents, seen("c", state=AlertState.RESOLVED, minute=32), minute=33)
    advance(incidents, minute=35)
    incidents.drop_old(at(65.1))
    assert len(incidents) == 1
    # What changes about an alert of it later does not begin it again.
    assert advance(incidents, replace(seen("c", state=AlertState.RESOLVED), is_stored=True), minute=66) == []


def test_a_merged_incident_takes_no_alerts_any_more() -> None:
    incidents = OpenIncidents(SETTINGS)
    one, other = (change.incident for change in advance(incidents, seen("a", "elsewhere"), seen("b", "shop")))
    merged, ended = merge_incidents(one, other, actor="ann", comment="", now=at(1))
    for order in ([merged, ended], [ended, merged]):
        incidents.put(change.incident for change in order)
        advance(incidents, minute=2)
        (change,) = advance(incidents, seen(f"c{order[0].incident.id}", "shop", minute=2), minute=2)
        assert change.incident.id == one.id
    assert advance(incidents, seen("b", "shop", AlertState.RESOLVED), minute=3)[0].incident.id == one.id


def test_an_incident_that_was_resolved_elsewhere_takes_no_ends() -> None:
    incidents = OpenIncidents(SETTINGS)
    (change,) = advance(incidents, seen("a"))
    incidents.put([resolve_incident(change.incident, actor="ann", comment="", now=at(1)).incident])
    (change,) = advance(incidents, seen("a", state=AlertState.RESOLVED), minute=2)
    # Receivers are notified, and that is all.
    assert (change.reason, change.notifications[0].kind) == (IncidentReason.NOTIFIED, "RESOLVED")
    assert advance(incidents, seen("a", state=AlertState.RESOLVED), minute=2) == []


SERVICES = st.sampled_from(["shop", "search", "orders", "database", "elsewhere"])
ALERTS = st.lists(st.tuples(SERVICES, st.integers(0, 40), st.booleans()), min_size=1, max_size=12)


def run(batches: Sequence[Sequence[SeenAlert]], *, restart_each_time: bool) -> dict[str, Incident]:
    """Return the incidents that batches make; after a restart what is stored is read again."""
    stored: dict[str, Incident] = {}
    incidents = OpenIncidents(SETTINGS)
    for batch in batches:
        if restart_each_time:
            incidents = OpenIncidents(SETTINGS)
            incidents.put(stored.values())
        changes = incidents.advance(batch, CONTEXT, at(60))
        stored |= {change.incident.id: change.incident for change in changes}
    return stored


def unnumbered(alert: IncidentAlert) -> IncidentAlert:
    """Return an alert without the versions of its incident, which count steps."""
    return replace(alert, audible_version=0, end_version=0)


@given(ALERTS, st.data())
@settings(max_examples=60, deadline=None)
def test_how_batches_are_cut_and_restarts_do_not_matter(
    described: list[tuple[str, int, bool]], data: st.DataObject
) -> None:
    alerts = [
        seen(f"alert {number}", service, AlertState.RESOLVED if is_over else AlertState.FIRING, minute=minute)
        for number, (service, minute, is_over) in enumerate(described)
    ]
    cuts = sorted(data.draw(st.sets(st.integers(0, len(alerts)))))
    batches = [alerts[start:end] for start, end in zip([0, *cuts], [*cuts, len(alerts)], strict=True)]
    # The last batch comes twice: a kill before the commit.
    again = [*batches, batches[-1]]

    def facts(incidents: dict[str, Incident]) -> dict[str, object]:
        return {
            name: (
                [unnumbered(alert) for alert in incident.alerts.values()],
                incident.cause,
                incident.settle_time,
                incident.state,
            )
            for name, incident in incidents.items()
            if not incident.merged_into
        }

    whole = run([alerts], restart_each_time=False)
    assert facts(run(batches, restart_each_time=False)) == facts(whole)
    assert facts(run(again, restart_each_time=True)) == facts(whole)
    members = [name for incident in whole.values() if not incident.merged_into for name in incident.alerts]
    assert sorted(members) == sorted(each.alert.id for each in alerts)


def test_an_alert_from_before_incidents_begins_one_of_its_own_with_its_key() -> None:
    incidents = OpenIncidents(SETTINGS)
    advance(incidents, seen("a"))
    with_tree = IncidentContext(graph=GRAPH, tree=RoutingTree(root=RouteNode(receivers=("all",))))
    before = replace(seen("b"), is_notified=True)
    (change,) = incidents.advance([before], with_tree, NOW)
    assert (change.incident.subject_id, change.notifications) == ("b", ())
    edited = replace(before, alert=replace(before.alert, labels={"team": "a"}))
    (change,) = incidents.advance([edited], with_tree, NOW)
    assert change.notifications == ()
    taken = replace(seen("t", "taken", AlertState.ACKNOWLEDGED, by="ann"), is_notified=True)
    (change,) = incidents.advance([taken], with_tree, NOW)
    assert (change.incident.state, change.incident.acknowledged_by) == (IncidentState.ACKNOWLEDGED, "ann")
    assert change.notifications == ()
    # Others may join it.
    (joined,) = advance(incidents, seen("c", "elsewhere"), replace(seen("d", "mail"), is_notified=True))[1:]
    assert joined.incident.subject_id == "d"


def test_routes_say_who_is_notified_and_what_correlates() -> None:
    team = parse_matchers('team="a"', compile_regex)
    routes = RouteNode(
        receivers=("all",),
        routes=(RouteNode(matchers=team, receivers=("team-a",), correlation_labels=("cluster",)),),
    )
    context = IncidentContext(graph=GRAPH, tree=RoutingTree(root=routes))
    incidents = OpenIncidents(SETTINGS)
    advance(incidents, seen("z", "other"))

    def labelled(name: str, service: str, **labels: str) -> SeenAlert:
        each = seen(name, service)
        return replace(each, alert=replace(each.alert, labels=labels))

    first, other = labelled("a", "x", team="a", cluster="c"), labelled("b", "y", team="b", cluster="c")
    changes = incidents.advance([first, other], context, NOW)
    assert [change.notifications[0].receivers for change in changes] == [("team-a",), ("all",)]
    (change,) = incidents.advance([labelled("c", "v", team="a", cluster="c")], context, NOW)
    assert set(change.incident.alerts) == {"a", "c"}
    # An edit that changes the labels changes the route, one that does not leaves it.
    moved = replace(other, alert=replace(other.alert, labels={"team": "a"}))
    (change,) = incidents.advance([moved], context, NOW)
    assert [each.receivers for each in change.notifications] == [("team-a",)]
    assert incidents.advance([moved], IncidentContext(graph=GRAPH), NOW) == []
    one, another = incidents.known().values().__iter__(), seen("w", "mail")
    merged, ended = merge_incidents(next(one), next(one), actor="", comment="", now=NOW)
    incidents.put([merged.incident, ended.incident])
    assert incidents.advance([another], context, NOW)


def test_a_silence_holds_until_the_alert_says_otherwise() -> None:
    incidents = OpenIncidents(SETTINGS)
    (change,) = advance(incidents, replace(seen("a"), silenced_by=("s",)))
    assert kinds(change) == [IncidentHistoryKind.OPENED, IncidentHistoryKind.WITHHELD]
    assert (change.history[1].decided_by, change.notifications) == ("s", ())
    (change,) = advance(incidents, replace(seen("a"), silenced_by=("s", "t")))
    assert [entry.decided_by for entry in change.history] == ["t"]
    (change,) = advance(incidents, seen("a"), minute=1)
    assert [each.kind for each in change.notifications] == ["FIRING"]
    assert (change.history[0].decided_by, change.history[0].comment) == ("", "nothing withholds it any more")


def test_the_route_says_how_far_apart_alerts_belong_together() -> None:
    team = parse_matchers('team="a"', compile_regex)
    short = RouteNode(matchers=team, correlation_window=timedelta(minutes=1))
    tree = RoutingTree(root=RouteNode(receivers=("all",), correlation_window=timedelta(minutes=30), routes=(short,)))
    incidents = OpenIncidents(SETTINGS)

    def fire(name: str, service: str, minute: float, **labels: str) -> list[str]:
        """Return the alerts of the incident that it is in."""
        each = seen(name, service, minute=minute)
        each = replace(each, alert=replace(each.alert, labels=labels))
        incidents.advance([each], IncidentContext(graph=GRAPH, tree=tree), at(minute))
        (found,) = (list(each.alerts) for each in incidents.known().values() if name in each.alerts)
        return found

    fire("a", "shop", 0, team="a")
    fire("b", "mail", 0, team="b")
    assert fire("c", "shop", 2, team="a") == ["c"]
    assert fire("d", "shop", 2.5, team="a") == ["c", "d"]
    assert fire("e", "mail", 25, team="b") == ["b", "e"]


def test_what_is_overdue_happens_in_the_order_in_which_it_was_due() -> None:
    incidents = OpenIncidents(SETTINGS)
    names = {"x": 3, "y": 1, "z": 2}
    advance(incidents, *(seen(name, name) for name in names))
    for name, minute in names.items():
        advance(incidents, seen(name, name, AlertState.RESOLVED), minute=minute)
    # Nobody has looked for half an hour.
    late = advance(incidents, minute=30)
    assert [change.incident.subject_id for change in late if change.reason is IncidentReason.SETTLED] == [
        incident.subject_id
        for name in ("y", "z", "x")
        for incident in incidents.known().values()
        if name in incident.alerts
    ]
    assert len(late) == len(names)
