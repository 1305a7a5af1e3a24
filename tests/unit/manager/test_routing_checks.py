"""What is refused in a routing tree, and what is warned of."""

from datetime import timedelta
from functools import reduce

import pytest

from services.manager.core.routing_checks import field_of, routing_problems, routing_warnings
from services.manager.core.routing_tree import InhibitionRule, RouteNode, RoutingTree
from tests.fakes.routing import a_route, a_tree, matchers

RULE = InhibitionRule(source=matchers("severity=CRITICAL"), target=matchers("severity=LOW"), equal=("service",))


def problems(tree: RoutingTree, receivers: frozenset[str] | None = None) -> dict[str, str]:
    return dict(routing_problems(tree, receivers=receivers, policies={"shop"}))


def below(**changed: object) -> RoutingTree:
    return a_tree(a_route("a=b", **changed))


def nested(levels: int) -> RouteNode:
    return reduce(lambda route, _: a_route("a=b", route), range(levels - 1), a_route("a=b"))


@pytest.mark.parametrize(
    ("tree", "fields"),
    [
        (a_tree(), []),
        (a_tree(rules=(RULE,)), []),
        (a_tree(a_route("a=b", policy="shop", receivers=()), receivers=("a",)), []),
        (a_tree(receivers=None, policy="shop"), []),
        (a_tree(receivers=None), ["root.receivers"]),
        # The root is nobody's route where one below it takes every alert.
        (a_tree(a_route(receivers=("a",)), receivers=None), []),
        (below(receivers=()), ["root.routes[0].receivers"]),
        (below(policy=""), []),
        (RoutingTree(root=a_route("a=b", receivers=("a",))), ["root.matchers"]),
        (a_tree(continues=True), ["root.continues"]),
        (a_tree(nested(7)), []),
        (a_tree(nested(9)), [f"root{'.routes[0]' * 8}"]),
        (a_tree(*(a_route() for _ in range(1000))), ["root"]),
        (a_tree(*(a_route("a=~b") for _ in range(999))), []),
        (a_tree(a_route("a=b"), *(a_route("a=~b, c!~d") for _ in range(501))), ["root"]),
        (a_tree(*(a_route(",".join(["a=b"] * 32)) for _ in range(157))), ["root"]),
        (below(matchers=matchers("a=b") * 33), ["root.routes[0].matchers"]),
        (below(receivers=tuple(f"a{n}" for n in range(21))), ["root.routes[0].receivers"]),
        (below(receivers=("a", "a")), ["root.routes[0].receivers[1]"]),
        (below(receivers=("a", "No", "\x1b[2J", "")), [f"root.routes[0].receivers[{n}]" for n in (1, 2, 3)]),
        (below(policy="video"), ["root.routes[0].policy"]),
        (
            below(correlation_labels=("a", "", "a", "x" * 257)),
            [f"root.routes[0].correlation.labels[{n}]" for n in (1, 2, 3)],
        ),
        (below(correlation_labels=tuple("abcdefghi")), ["root.routes[0].correlation.labels"]),
        (below(correlation_window=timedelta(0)), ["root.routes[0].correlation.window"]),
        (below(correlation_window=timedelta(hours=25)), ["root.routes[0].correlation.window"]),
        (below(bundling_interval=timedelta(seconds=9)), ["root.routes[0].bundlingInterval"]),
        (a_tree(rules=(RULE,) * 201), ["inhibitionRules"]),
        (
            a_tree(rules=(InhibitionRule(source=(), target=()),)),
            ["inhibitionRules[0].source", "inhibitionRules[0].target"],
        ),
        (
            a_tree(rules=(RULE, InhibitionRule(source=RULE.source, target=RULE.target * 33, equal=("",)))),
            ["inhibitionRules[1].target", "inhibitionRules[1].equal[0]"],
        ),
    ],
)
def test_each_wrong_field_is_named(tree: RoutingTree, fields: list[str]) -> None:
    assert list(problems(tree)) == fields


def test_unknown_receivers_are_refused_where_the_notifier_could_be_asked() -> None:
    found = problems(below(receivers=("shop", "operators")), frozenset({"operators", "chat"}))
    assert found == {"root.routes[0].receivers[0]": 'the notifier has no receiver "shop"; there are chat, operators'}
    assert problems(a_tree(), frozenset())["root.receivers[0]"].endswith("there are none")


def test_of_many_known_names_some_are_shown() -> None:
    (description,) = problems(a_tree(), frozenset(f"name{n:02}" for n in range(12))).values()
    assert description.endswith("name09 and 2 more")


def test_a_long_name_is_cut_and_escaped() -> None:
    (description,) = problems(a_tree(policy="\n" + "x" * 99)).values()
    assert "\n" not in description
    assert "…" in description


def test_a_route_behind_one_that_takes_everything_is_warned_of() -> None:
    tree = a_tree(a_route("a=b"), a_route("c=d", a_route(), a_route("e=f")), a_route(), a_route("g=h"))
    assert dict(routing_warnings(tree)) == {
        "root.routes[3]": "is never reached: root.routes[2] takes every alert",
        "root.routes[1].routes[1]": "is never reached: root.routes[1].routes[0] takes every alert",
    }


def test_a_severity_that_no_alert_has_is_warned_of() -> None:
    rule = InhibitionRule(source=matchers("a=b, severity=page"), target=matchers("severity=~low"), equal=("service",))
    tree = a_tree(a_route("severity=critical"), a_route("severity!=critical, severity=~HIGH"), rules=(rule,))
    words = "holds of no alert: its severity is LOW, MEDIUM, HIGH or CRITICAL"
    assert routing_warnings(tree) == [
        ("root.routes[0].matchers[0]", words),
        ("inhibitionRules[0].source[1]", words),
        ("inhibitionRules[0].target[0]", words),
    ]


@pytest.mark.parametrize("routes", [(), (a_route(),), (a_route(continues=True), a_route("a=b"))])
def test_nothing_else_is_warned_of(routes: tuple[RouteNode, ...]) -> None:
    assert routing_warnings(a_tree(*routes)) == []


def test_a_path_becomes_a_field() -> None:
    assert field_of("root") == "root"
    assert field_of("root/0/12") == "root.routes[0].routes[12]"
