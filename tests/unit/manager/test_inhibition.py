"""Which alerts inhibit which, and what becomes of those when their inhibitors end."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.domain.severity import Severity
from services.manager.core.alert_lifecycle import AlertState
from services.manager.core.dependency_graph import DependencyEdge, DependencyGraph
from services.manager.core.incident import IncidentAlert, IncidentHistoryKind, WithheldReason, Withholding
from services.manager.core.incident_batch import IncidentContext, IncidentSettings, OpenIncidents, SeenAlert
from services.manager.core.incident_changes import IncidentChange, resolve_incident
from services.manager.core.inhibition import Inhibitors
from services.manager.core.routing_tree import AlertRoute, InhibitionRule
from tests.fakes.routing import a_route, a_tree, matchers

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
INHIBITS = AlertRoute(path="root", receivers=("r",), inhibits_dependents=True)
GRAPH = DependencyGraph(
    [
        DependencyEdge(service="shop", depends_on="orders"),
        DependencyEdge(service="orders", depends_on="database"),
        DependencyEdge(service="database", depends_on="disk"),
        DependencyEdge(service="here", depends_on="there"),
        DependencyEdge(service="there", depends_on="here"),
    ]
)
RULE = InhibitionRule(source=matchers('alertname="Down"'), target=matchers('severity!="CRITICAL"'), equal=("cluster",))
EMPTY = DependencyGraph()


def alert(name: str, *, service: str = "", severity: Severity = Severity.HIGH, **labels: str) -> IncidentAlert:
    return IncidentAlert(
        id=name,
        rule_name="rule",
        service=service,
        resource=name,
        severity=severity,
        labels={"severity": severity.name, **labels},
        fire_time=NOW,
        routes=(INHIBITS,),
    )


DOWN = alert("down", alertname="Down", cluster="a", severity=Severity.CRITICAL)


@pytest.mark.parametrize(
    ("target", "is_inhibited"),
    [
        (alert("t", cluster="a"), True),
        (alert("t", cluster="b"), False),
        (alert("t"), False),
        (alert("t", cluster="a", severity=Severity.CRITICAL), False),
        (DOWN, False),
    ],
)
def test_a_rule_inhibits_alerts_with_equal_labels(target: IncidentAlert, *, is_inhibited: bool) -> None:
    found = Inhibitors([RULE], [DOWN, target]).inhibition_of(target, EMPTY)
    expected = Withholding(reason=WithheldReason.INHIBITED_BY_RULE, by="down", comment="inhibition rule 1")
    assert found == (expected if is_inhibited else None)


def test_a_label_that_both_lack_is_not_equal() -> None:
    source, target = alert("down", alertname="Down"), alert("t")
    assert Inhibitors([RULE], [source]).inhibition_of(target, EMPTY) is None
    without = replace(RULE, equal=())
    assert Inhibitors([without], [source]).inhibition_of(target, EMPTY) is not None


def test_sources_that_are_targets_too_do_not_inhibit_each_other() -> None:
    one, other = (alert(name, alertname="Down", cluster="a") for name in ("one", "other"))
    inhibitors = Inhibitors([RULE], [one, other])
    assert inhibitors.inhibition_of(one, EMPTY) is None
    # But one that is a source alone does, and they inhibit what is a target alone.
    inhibitors.put(DOWN)
    found = inhibitors.inhibition_of(one, EMPTY)
    assert found is not None
    assert found.by == "down"
    inhibitors.put(replace(DOWN, is_open=False))
    assert inhibitors.inhibition_of(one, EMPTY) is None
    assert Inhibitors([RULE], [one]).inhibition_of(alert("t", cluster="a"), EMPTY) is not None


@pytest.mark.parametrize(
    ("service", "source", "severity", "path"),
    [
        ("shop", "orders", Severity.HIGH, "shop → orders"),
        ("shop", "database", Severity.CRITICAL, "shop → orders → database"),
        ("shop", "disk", Severity.CRITICAL, ""),
        ("shop", "orders", Severity.MEDIUM, ""),
        ("orders", "shop", Severity.CRITICAL, ""),
        ("shop", "shop", Severity.CRITICAL, ""),
        ("here", "there", Severity.CRITICAL, ""),
        ("", "orders", Severity.CRITICAL, ""),
    ],
)
def test_a_service_that_another_depends_on_inhibits_its_alerts(
    service: str, source: str, severity: Severity, path: str
) -> None:
    target = alert("t", service=service)
    inhibitors = Inhibitors([], [alert("s", service=source, severity=severity)])
    found = inhibitors.inhibition_of(target, GRAPH)
    expected = Withholding(reason=WithheldReason.INHIBITED_BY_DEPENDENCY, by="s", comment=path)
    assert found == (expected if path else None)
    assert inhibitors.inhibition_of(replace(target, routes=(AlertRoute(path="root"),)), GRAPH) is None


def test_a_silenced_alert_inhibits_no_dependent_service() -> None:
    source = alert("s", service="orders")
    silenced = replace(source, withheld_by=(Withholding(reason=WithheldReason.SILENCED, by="x"),))
    inhibitors, target = Inhibitors([], [silenced]), alert("t", service="shop")
    assert inhibitors.inhibition_of(target, GRAPH) is None
    inhibitors.put(source)
    found = inhibitors.inhibition_of(target, GRAPH)
    assert found is not None
    target = replace(target, withheld_by=(found,))
    inhibitors.put(target)
    inhibitors.put(target)
    assert (inhibitors.inhibited(), inhibitors.pop_outdated()) == (["t"], [])
    inhibitors.put(silenced)
    assert inhibitors.pop_outdated() == ["t"]


def test_what_inhibits_an_alert_stays_the_same_while_it_can() -> None:
    first, second = (alert(name, service="orders") for name in ("s1", "s2"))
    by_second = Withholding(reason=WithheldReason.INHIBITED_BY_DEPENDENCY, by="s2", comment="shop → orders")
    target = replace(alert("t", service="shop"), withheld_by=(by_second,))
    # Whatever order they are loaded in.
    inhibitors = Inhibitors([], [target, first, second])
    assert inhibitors.pop_outdated() == []
    assert inhibitors.inhibition_of(target, GRAPH) == by_second
    inhibitors.put(replace(second, is_open=False))
    inhibitors.put(replace(second, is_open=False))
    assert inhibitors.pop_outdated() == ["t"]
    found = inhibitors.inhibition_of(target, GRAPH)
    assert found is not None
    assert found.by == "s1"
    inhibitors.put(replace(target, is_open=False))
    assert inhibitors.inhibited() == []
    # An inhibitor that has ended before this was known.
    assert Inhibitors([], [target]).pop_outdated() == ["t"]


CONTEXT = IncidentContext(
    graph=GRAPH,
    confirmed_graph=GRAPH,
    tree=a_tree(a_route('service="shop"', receivers=("shop",), inhibits_dependents=True), rules=(RULE,)),
)


def seen(each: IncidentAlert, state: AlertState = AlertState.FIRING) -> SeenAlert:
    return SeenAlert(alert=replace(each, labels={**each.labels, "service": each.service}), state=state)


class Story:
    def __init__(self) -> None:
        self.incidents = OpenIncidents(IncidentSettings())

    def see(self, *alerts: SeenAlert, minute: float = 0, context: IncidentContext = CONTEXT) -> list[str]:
        """Return who is notified of what."""
        changes = self.incidents.advance(alerts, context, NOW + timedelta(minutes=minute))
        self.withheld = [entry for change in changes for entry in change.history if _is_withheld(change, entry.kind)]
        return [f"{each.kind} {'+'.join(each.receivers)}" for change in changes for each in change.notifications]


def _is_withheld(change: IncidentChange, kind: IncidentHistoryKind) -> bool:
    assert change.history
    return kind is IncidentHistoryKind.WITHHELD


SHOP, ORDERS = alert("shop", service="shop"), alert("orders", service="orders")


def test_of_an_inhibited_alert_receivers_are_notified_when_its_inhibitor_has_ended() -> None:
    story = Story()
    # In one batch, the inhibitor last.
    assert story.see(seen(SHOP), seen(ORDERS)) == ["FIRING operators"]
    assert [(entry.comment, entry.decided_by) for entry in story.withheld] == [
        ("inhibited by dependency; shop → orders", "orders")
    ]
    assert story.see(minute=5) == []
    assert story.see(seen(ORDERS, AlertState.RESOLVED), minute=6) == ["FIRING shop", "UPDATED operators"]


def test_of_an_alert_that_was_inhibited_all_the_time_nobody_is_notified() -> None:
    story = Story()
    story.see(seen(ORDERS))
    assert story.see(seen(SHOP)) == []
    assert story.see(seen(SHOP, AlertState.RESOLVED), minute=3) == []
    assert story.see(seen(ORDERS, AlertState.RESOLVED), minute=4) == ["RESOLVED operators"]


def test_of_an_inhibited_alert_that_had_ended_before_it_was_seen_nobody_is_notified() -> None:
    story = Story()
    story.see(seen(ORDERS))
    assert story.see(seen(SHOP, AlertState.RESOLVED), minute=1) == []
    assert [(entry.alert_id, entry.decided_by) for entry in story.withheld] == [("shop", "orders")]
    assert story.see(minute=5) == []
    assert story.see(seen(ORDERS, AlertState.RESOLVED), minute=6) == ["RESOLVED operators"]
    # Both within one batch, whichever comes first.
    for batch in ([SHOP, ORDERS], [ORDERS, SHOP]):
        story = Story()
        ended = [seen(each, AlertState.RESOLVED) for each in batch]
        assert story.see(*ended) == ["FIRING operators", "RESOLVED operators"]


def test_an_inhibitor_that_had_ended_before_it_was_seen_inhibits_no_longer() -> None:
    story = Story()
    assert story.see(seen(SHOP), seen(ORDERS, AlertState.RESOLVED)) == ["FIRING shop", "FIRING operators"]
    assert story.withheld[-1].comment == "nothing withholds it any more"


def test_who_was_notified_of_an_alert_is_notified_of_its_end_although_it_would_be_inhibited() -> None:
    story = Story()
    assert story.see(seen(SHOP)) == ["FIRING shop"]
    assert story.see(seen(ORDERS)) == ["FIRING operators"]
    assert story.see(seen(ORDERS, AlertState.RESOLVED), seen(SHOP, AlertState.RESOLVED), minute=3) == [
        "RESOLVED shop",
        "RESOLVED operators",
    ]


def test_another_inhibitor_takes_over_and_a_restart_changes_nothing() -> None:
    story = Story()
    database = alert("database", service="database")
    story.see(seen(ORDERS), seen(database), seen(SHOP))
    again = Story()
    again.incidents.put(story.incidents.known().values())
    assert again.see(minute=0.5) == []
    assert again.see(seen(ORDERS, AlertState.RESOLVED), minute=0.6) == []
    assert [entry.decided_by for entry in again.withheld] == ["database"]
    # What another instance has resolved counts as well.
    (incident,) = again.incidents.known().values()
    assert incident.alerts["shop"].is_open
    resolved = resolve_incident(incident, actor="ann", comment="", now=NOW)
    again.incidents.put([resolved.incident])
    assert again.see(minute=1) == ["RESOLVED operators"]


def test_a_tree_without_the_rule_lets_them_be_notified_of() -> None:
    story = Story()
    assert story.see(seen(DOWN)) == ["FIRING operators"]
    assert story.see(seen(alert("t", cluster="a"))) == []
    changed = replace(CONTEXT, tree=a_tree())
    assert story.see(context=changed, minute=1) == ["FIRING operators"]


def test_a_dependency_that_nobody_has_confirmed_correlates_and_does_not_inhibit() -> None:
    story = Story()
    learned = replace(CONTEXT, confirmed_graph=EMPTY)
    assert story.see(seen(ORDERS), context=learned) == ["FIRING operators"]
    assert story.see(seen(SHOP), context=learned) == ["FIRING shop"]
    assert story.withheld == []
    (incident,) = story.incidents.known().values()
    assert set(incident.alerts) == {"orders", "shop"}
