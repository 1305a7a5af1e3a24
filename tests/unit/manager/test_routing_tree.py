"""Which routes an alert takes, and what they inherit."""

from collections.abc import Mapping
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.matchers import all_match
from services.manager.core.routing_tree import AlertRoute, InhibitionRule, RouteNode, RouteOutcome, RoutingTree
from tests.fakes.routing import a_route, a_stored_tree, a_tree, matchers

TEAMS = a_tree(
    a_route(
        "team=shop",
        a_route("severity=CRITICAL", policy="shop"),
        a_route("severity=HIGH", receivers=("shop_chat", "shop_mail")),
        receivers=("shop_chat",),
        correlation_labels=("cluster",),
    ),
    a_route("severity=~CRITICAL|HIGH", receivers=("auditors",), continues=True),
    a_route("team=database", receivers=("database_chat",), policy="database", inhibits_dependents=True),
    policy="all",
)


def paths(tree: RoutingTree, **labels: str) -> list[str]:
    return [route.path for route in tree.routes_of(labels)]


def test_the_first_route_that_takes_an_alert_ends_the_search() -> None:
    assert paths(TEAMS, team="shop", severity="CRITICAL") == ["root/0/0"]


def test_what_no_route_below_takes_a_route_takes_itself() -> None:
    assert paths(TEAMS, team="shop", severity="LOW") == ["root/0"]


def test_what_no_route_takes_the_root_takes() -> None:
    assert paths(TEAMS, team="video", severity="LOW") == ["root"]


def test_behind_a_route_that_continues_the_next_ones_are_tried() -> None:
    assert paths(TEAMS, team="database", severity="HIGH") == ["root/1", "root/2"]


def test_a_route_that_continues_may_be_the_only_one() -> None:
    assert paths(TEAMS, severity="HIGH") == ["root/1"]


def test_a_route_inherits_what_it_leaves_out() -> None:
    (route,) = TEAMS.routes_of({"team": "shop", "severity": "CRITICAL"})
    assert route == AlertRoute(
        path="root/0/0", receivers=("shop_chat",), policy="shop", correlation_labels=("cluster",)
    )
    assert route.correlation_window == timedelta(minutes=10)
    assert route.bundling_interval == timedelta(minutes=1)


def test_an_empty_value_takes_away_what_would_be_inherited() -> None:
    tree = a_tree(
        a_route("a=b", receivers=(), correlation_labels=(), inhibits_dependents=False, correlation_window=None),
        policy="all",
        correlation_labels=("cluster",),
        inhibits_dependents=True,
        correlation_window=timedelta(minutes=1),
        bundling_interval=timedelta(minutes=5),
    )
    (route,) = tree.routes_of({"a": "b"})
    assert (route.receivers, route.correlation_labels, route.inhibits_dependents) == ((), (), False)
    assert (route.correlation_window, route.bundling_interval) == (timedelta(minutes=1), timedelta(minutes=5))
    assert not route.reaches_nobody
    (route,) = a_tree(a_route("a=b", receivers=(), policy=""), policy="all").routes_of({"a": "b"})
    assert route.reaches_nobody


def test_each_route_that_an_alert_comes_to_is_explained_in_order() -> None:
    visits = TEAMS.visits_of({"team": "database", "severity": "HIGH"})
    assert [(visit.route.path, visit.outcome) for visit in visits] == [
        ("root", RouteOutcome.PASSED_ON),
        ("root/0", RouteOutcome.NOT_MATCHED),
        ("root/1", RouteOutcome.TAKEN),
        ("root/2", RouteOutcome.TAKEN),
    ]
    assert str(visits[1].failed) == 'team="shop"'
    assert visits[3].node is TEAMS.root.routes[2]


def test_routes_are_explained_in_the_order_of_their_numbers() -> None:
    tree = a_tree(*(a_route(f"a=b{n}") for n in range(12)))
    assert [visit.route.path for visit in tree.visits_of({})] == ["root", *(f"root/{n}" for n in range(12))]


def test_a_tree_says_which_names_it_uses() -> None:
    assert TEAMS.receivers() == {"operators", "shop_chat", "shop_mail", "auditors", "database_chat"}
    assert TEAMS.policies() == {"all", "shop", "database"}
    assert TEAMS.correlation_label_sets() == {("cluster",)}
    assert len(list(TEAMS.all_routes())) == 6


def test_versions_have_different_etags() -> None:
    assert len({a_stored_tree(version=version).etag for version in (1, 2, 3)}) == 3


def by_alertmanager(node: RouteNode, labels: Mapping[str, str]) -> list[RouteNode]:
    """Return the routes as Alertmanager's `Route.Match` finds them."""
    if not all_match(node.matchers, labels):
        return []
    found: list[RouteNode] = []
    for below in node.routes:
        matches = by_alertmanager(below, labels)
        found += matches
        if matches and not below.continues:
            break
    return found or [node]


NAMES = st.sampled_from("abc")
VALUES = st.sampled_from("xyz")
CONDITIONS = st.builds(lambda name, value, mark: f"{name}{mark}{value}", NAMES, VALUES, st.sampled_from(["=", "!="]))
ROUTES: st.SearchStrategy[RouteNode] = st.recursive(
    st.builds(a_route, CONDITIONS, continues=st.booleans()),
    lambda below: st.builds(
        lambda condition, routes, continues: a_route(condition, *routes, continues=continues),
        CONDITIONS,
        st.lists(below, max_size=3),
        st.booleans(),
    ),
    max_leaves=12,
)


@given(st.lists(ROUTES, max_size=4), st.dictionaries(NAMES, VALUES))
def test_routes_are_those_of_alertmanager(routes: list[RouteNode], labels: dict[str, str]) -> None:
    tree = a_tree(*routes)
    nodes = {route.path: node for node, route in tree.all_routes()}
    taken = tree.routes_of(labels)
    assert [nodes[route.path] for route in taken] == by_alertmanager(tree.root, labels)
    visited = [visit.route for visit in tree.visits_of(labels) if visit.outcome is RouteOutcome.TAKEN]
    assert visited == list(taken)


RULE = InhibitionRule(source=matchers("severity=CRITICAL"), target=matchers("severity=~LOW|CRITICAL"), equal=("a",))


@pytest.mark.parametrize(
    ("source", "target", "inhibits"),
    [
        ({"severity": "CRITICAL", "a": "1"}, {"severity": "LOW", "a": "1"}, True),
        ({"severity": "CRITICAL", "a": "1"}, {"severity": "LOW", "a": "2"}, False),
        ({"severity": "CRITICAL"}, {"severity": "LOW"}, False),
        ({"severity": "CRITICAL", "a": ""}, {"severity": "LOW", "a": ""}, False),
        ({"severity": "HIGH", "a": "1"}, {"severity": "LOW", "a": "1"}, False),
        ({"severity": "CRITICAL", "a": "1"}, {"severity": "MEDIUM", "a": "1"}, False),
        # Two alerts that are both sources and targets would inhibit each other.
        ({"severity": "CRITICAL", "a": "1"}, {"severity": "CRITICAL", "a": "1"}, False),
    ],
)
def test_an_alert_inhibits_another_one(source: dict[str, str], target: dict[str, str], *, inhibits: bool) -> None:
    assert RULE.inhibits(source, target) is inhibits
