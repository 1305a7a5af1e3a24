"""Which incident an alert joins, and which alert is the probable cause."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.domain.severity import Severity
from services.manager.core.correlation import (
    CauseReason,
    CorrelationSettings,
    IncidentIndex,
    ProbableCause,
    brought_together,
    correlate,
    probable_cause,
)
from services.manager.core.dependency_graph import DependencyEdge, DependencyGraph
from services.manager.core.incident import Correlation, CorrelationReason, Incident, IncidentAlert, IncidentState

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
SETTINGS = CorrelationSettings(labels=("team", "region"))


def alert(
    name: str, *, service: str = "", resource: str = "", minute: float = 0, labels: Mapping[str, str] | None = None
) -> IncidentAlert:
    return IncidentAlert(
        id=name,
        rule_name=f"rule of {name}",
        service=service,
        resource=resource or (f"service={service}" if service else f"resource of {name}"),
        severity=Severity.HIGH,
        labels=labels or {},
        fire_time=NOW + timedelta(minutes=minute),
    )


def incident(name: str, *alerts: IncidentAlert, minute: float = 0, resolved: float | None = None) -> Incident:
    return Incident(
        id=name,
        state=IncidentState.OPEN if resolved is None else IncidentState.RESOLVED,
        alerts={each.id: each for each in alerts},
        create_time=NOW + timedelta(minutes=minute),
        update_time=NOW,
        cause=alerts[0].id,
        resolve_time=None if resolved is None else NOW + timedelta(minutes=resolved),
    )


def graph(*edges: str) -> DependencyGraph:
    """Return the graph of edges like "shop>database"."""
    pairs = [edge.split(">") for edge in edges]
    return DependencyGraph(DependencyEdge(service=one, depends_on=other) for one, other in pairs)


def index(*incidents: Incident) -> IncidentIndex:
    return IncidentIndex(incidents, [SETTINGS.labels, ()])


NO_GRAPH = graph()


def test_an_alert_that_nothing_is_related_to_joins_none() -> None:
    known = index(incident("i", alert("a", service="shop")))
    assert correlate(alert("b", service="search"), known, NO_GRAPH, SETTINGS) == Correlation()


def test_an_alert_joins_the_incident_of_its_resource() -> None:
    known = index(incident("i", alert("a", resource="host=web-1")))
    found = correlate(alert("b", resource="host=web-1"), known, NO_GRAPH, SETTINGS)
    assert found == Correlation(incident_id="i", reason=CorrelationReason.SAME_RESOURCE)


@pytest.mark.parametrize(
    ("edges", "path"),
    [
        (["shop>database"], ("shop", "database")),
        (["database>shop"], ("database", "shop")),
        (["shop>orders", "orders>database"], ("shop", "orders", "database")),
        (["database>orders", "orders>shop"], ("database", "orders", "shop")),
        # A circle: over one edge, not over two.
        (["database>shop", "shop>orders", "orders>database"], ("database", "shop")),
    ],
)
def test_an_alert_joins_the_incident_of_a_service_at_most_two_edges_away(edges: list[str], path: Sequence[str]) -> None:
    known = index(incident("i", alert("a", service="database")))
    found = correlate(alert("b", service="shop"), known, graph(*edges), SETTINGS)
    assert found == Correlation(incident_id="i", reason=CorrelationReason.DEPENDENCY, path=tuple(path))


def test_three_edges_are_too_many() -> None:
    known = index(incident("i", alert("a", service="database")))
    edges = graph("shop>orders", "orders>store", "store>database")
    assert correlate(alert("b", service="shop"), known, edges, SETTINGS) == Correlation()


def test_the_same_service_with_another_resource_is_related_over_no_edge() -> None:
    known = index(incident("i", alert("a", service="shop")))
    other = IncidentAlert(
        id="b", rule_name="", service="shop", resource="x", severity=Severity.LOW, labels={}, fire_time=NOW
    )
    found = correlate(other, known, NO_GRAPH, SETTINGS)
    assert found == Correlation(incident_id="i", reason=CorrelationReason.DEPENDENCY, path=("shop",))


def test_two_services_that_depend_on_a_third_are_not_related_by_it() -> None:
    known = index(incident("i", alert("a", service="shop")))
    assert correlate(alert("b", service="search"), known, graph("shop>db", "search>db"), SETTINGS) == Correlation()


def test_an_alert_joins_the_incident_with_equal_labels() -> None:
    labels = {"team": "payments", "region": "eu", "more": "1"}
    known = index(incident("i", alert("a", labels={**labels, "more": "2"})))
    found = correlate(alert("b", labels=labels), known, NO_GRAPH, SETTINGS)
    shared = {"team": "payments", "region": "eu"}
    assert found == Correlation(incident_id="i", reason=CorrelationReason.LABELS, labels=shared)


@pytest.mark.parametrize("labels", [{"team": "payments"}, {"team": "payments", "region": ""}])
def test_a_label_that_is_missing_on_both_is_not_equal(labels: dict[str, str]) -> None:
    known = index(incident("i", alert("a", labels=labels)))
    assert correlate(alert("b", labels=labels), known, NO_GRAPH, SETTINGS) == Correlation()


def test_without_names_labels_relate_nothing() -> None:
    labels = {"team": "payments"}
    known = index(incident("i", alert("a", labels=labels)))
    assert correlate(alert("b", labels=labels), known, NO_GRAPH, CorrelationSettings()) == Correlation()


def test_the_strongest_relation_decides() -> None:
    labels = {"team": "payments", "region": "eu"}
    by_labels = incident("labels", alert("a", labels=labels))
    far = incident("far", alert("b", service="database"))
    near = incident("near", alert("c", service="orders"), minute=5)
    same = incident("same", alert("d", resource="service=shop"), minute=9)
    edges = graph("shop>orders", "orders>database")
    new = alert("new", service="shop", labels=labels)
    for known, expected in [
        ([by_labels], "labels"),
        ([by_labels, far], "far"),
        ([by_labels, far, near], "near"),
        ([near, far, by_labels], "near"),
        ([by_labels, far, near, same], "same"),
    ]:
        assert correlate(new, index(*known), edges, SETTINGS).incident_id == expected


def test_of_equally_related_incidents_the_first_created_is_joined() -> None:
    old = incident("old", alert("a", service="orders"), minute=-2)
    new = incident("new", alert("b", service="orders"), minute=-1)
    for known in ([old, new], [new, old]):
        assert correlate(alert("c", service="shop"), index(*known), graph("shop>orders"), SETTINGS).incident_id == "old"
        assert correlate(alert("c", resource="service=orders"), index(*known), NO_GRAPH, SETTINGS).incident_id == "old"


@pytest.mark.parametrize(("minute", "is_near"), [(10, True), (10.1, False), (-10, True), (-10.1, False)])
def test_only_alerts_within_the_window_relate(minute: float, is_near: bool) -> None:  # noqa: FBT001
    known = index(incident("i", alert("a", service="shop"), alert("b", service="shop", minute=-60)))
    found = correlate(alert("c", service="shop", minute=minute), known, NO_GRAPH, SETTINGS)
    assert bool(found.incident_id) is is_near


@pytest.mark.parametrize(("minute", "is_near"), [(90, True), (91, False)])
def test_a_resolved_incident_takes_alerts_within_the_reopening_time(minute: float, is_near: bool) -> None:  # noqa: FBT001
    known = index(incident("i", alert("a", service="shop"), resolved=60))
    found = correlate(alert("b", service="shop", minute=minute), known, NO_GRAPH, SETTINGS)
    assert bool(found.incident_id) is is_near


def test_an_incident_that_was_removed_is_not_joined() -> None:
    known = index(incident("i", alert("a", service="shop")), incident("j", alert("b", service="shop"), minute=1))
    known.remove("i")
    known.remove("unknown")
    assert correlate(alert("c", service="shop"), known, NO_GRAPH, SETTINGS).incident_id == "j"
    known.remove("j")
    assert correlate(alert("c", service="shop"), known, NO_GRAPH, SETTINGS) == Correlation()


def test_the_only_alert_is_the_cause() -> None:
    assert probable_cause([alert("a", service="shop")], NO_GRAPH, 2) == ProbableCause(
        alert_id="a", reason=CauseReason.ONLY_ALERT
    )


def test_the_cause_is_what_the_others_depend_on() -> None:
    alerts = [
        alert("a", service="shop"),
        alert("b", service="search", minute=1),
        alert("c", service="database", minute=5),
        alert("d", minute=-5),
    ]
    edges = graph("shop>orders", "orders>database", "search>database", "database>disk")
    assert probable_cause(alerts, edges, 2) == ProbableCause(alert_id="c", reason=CauseReason.DEPENDENCY)
    # Over one edge the shop's alert is not related to it, the search's is.
    assert probable_cause(alerts, edges, 1).alert_id == "c"


def test_in_a_circle_the_first_alert_is_the_cause() -> None:
    alerts = [
        alert("a", service="shop", minute=3),
        alert("b", service="orders", minute=2),
        alert("c", service="search"),
    ]
    edges = graph("shop>orders", "orders>shop", "search>shop")
    assert probable_cause(alerts, edges, 2) == ProbableCause(alert_id="b", reason=CauseReason.DEPENDENCY)


def test_without_dependencies_the_first_alert_is_the_cause() -> None:
    alerts = [alert("b", service="shop", minute=3), alert("a", service="search", minute=3)]
    assert probable_cause(alerts, NO_GRAPH, 2) == ProbableCause(alert_id="a", reason=CauseReason.EARLIEST)


names = st.sampled_from(["", "a", "b", "c", "d"])
minutes = st.integers(-30, 30)
alerts_of = st.builds(
    lambda number, service, resource, minute, team: alert(
        f"alert {number}",
        service=service,
        resource=resource,
        minute=minute,
        labels={"team": team, "region": "eu"} if team else {},
    ),
    st.integers(0, 99),
    names,
    names,
    minutes,
    names,
)
edges_of = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdef")), max_size=8)
incidents_of = st.lists(
    st.tuples(st.lists(alerts_of, min_size=1, max_size=3), minutes, st.none() | minutes), max_size=5
)


def naive_distance(one: str, other: str, edges: list[tuple[str, str]]) -> int | None:
    """Return the number of edges from one service to another, at most two."""
    if one == other:
        return 0
    if (one, other) in edges:
        return 1
    return 2 if any((one, middle) in edges and (middle, other) in edges for middle in "abcdef") else None


def naive_strength(new: IncidentAlert, old: IncidentAlert, edges: list[tuple[str, str]]) -> tuple[int, int] | None:
    """Return how strongly two alerts are related, the strongest lowest."""
    if new.resource == old.resource:
        return 0, 0
    if new.service and old.service:
        ways = [naive_distance(new.service, old.service, edges), naive_distance(old.service, new.service, edges)]
        if known := [way for way in ways if way is not None]:
            return 1, min(known)
    if all(new.labels.get(name) and new.labels.get(name) == old.labels.get(name) for name in SETTINGS.labels):
        return 2, 0
    return None


@given(alerts_of, incidents_of, edges_of)
@settings(deadline=None)
def test_an_alert_joins_the_incident_that_a_search_through_all_finds(
    new: IncidentAlert,
    described: list[tuple[list[IncidentAlert], int, int | None]],
    edges: list[tuple[str, str]],
) -> None:
    incidents = [
        incident(f"incident {number}", *alerts, minute=created, resolved=resolved)
        for number, (alerts, created, resolved) in enumerate(described)
    ]
    candidates = []
    for each in incidents:
        for old in each.alerts.values():
            strength = naive_strength(new, old, edges)
            near = abs(new.fire_time - old.fire_time) <= SETTINGS.window
            if each.resolve_time is not None:
                near = new.fire_time - each.resolve_time <= SETTINGS.reopen
            if strength is not None and near:
                candidates.append((strength, each.create_time, each.id))
    known_graph = DependencyGraph(DependencyEdge(service=one, depends_on=other) for one, other in edges)
    for order in (incidents, incidents[::-1]):
        found = correlate(new, index(*order), known_graph, SETTINGS)
        assert found.incident_id == (min(candidates)[2] if candidates else "")


@settings(deadline=None)
@given(st.lists(alerts_of, min_size=1, max_size=6, unique_by=lambda each: each.id), edges_of)
def test_no_other_service_stands_behind_the_cause_alone(
    alerts: list[IncidentAlert], edges: list[tuple[str, str]]
) -> None:
    known_graph = DependencyGraph(DependencyEdge(service=one, depends_on=other) for one, other in edges)
    cause = next(each for each in alerts if each.id == probable_cause(alerts, known_graph, 2).alert_id)
    services = {each.service for each in alerts if each.service}

    def behind(service: str) -> set[str]:
        found, border = set[str](), {service}
        while border:
            border = {
                other for one in border for other in services - found if naive_distance(one, other, edges) in {1, 2}
            }
            found |= border
        return found

    assert all(cause.service in behind(other) for other in behind(cause.service))
    assert probable_cause(alerts[::-1], known_graph, 2).alert_id == cause.id


def test_an_alert_without_a_service_brings_nothing_together() -> None:
    known = index(incident("i", alert("a", service="shop")))
    assert brought_together(alert("b"), known, graph("shop>database"), SETTINGS) == []
    assert brought_together(alert("c", service="database"), known, graph("shop>database"), SETTINGS) == ["i"]
