"""Why an alert takes a route, and what inhibits it, in words."""

import pytest

from services.manager.core.routing_explanation import inhibition_reason, route_reason
from services.manager.core.routing_tree import InhibitionRule
from tests.fakes.routing import a_route, a_tree, matchers

TREE = a_tree(
    a_route("team=shop", a_route("severity=HIGH"), continues=True),
    a_route("severity=HIGH"),
)
RULE = InhibitionRule(source=matchers("severity=CRITICAL"), target=matchers("severity=~LOW|MEDIUM"), equal=("service",))


def reasons(**labels: str) -> list[str]:
    return [f"{visit.route.path}: {route_reason(visit, labels)}" for visit in TREE.visits_of(labels)]


def test_each_step_has_its_reason() -> None:
    assert reasons(team="shop", severity="LOW") == [
        "root: it takes every alert, and a route below takes the alert",
        "root/0: its matchers hold, and no route below takes the alert; the routes behind it are tried as well",
        'root/0/0: severity="HIGH" does not hold: it is "LOW"',
        'root/1: severity="HIGH" does not hold: it is "LOW"',
    ]
    assert reasons(severity="HIGH")[1:] == [
        'root/0: team="shop" does not hold: there is no such label',
        "root/1: its matchers hold",
    ]
    assert reasons()[0] == "root: it takes every alert, and no route below takes the alert"


def test_a_value_of_a_log_is_cut_and_has_no_control_characters() -> None:
    reason = reasons(team="\x1b[2J" + "x" * 200)[1]
    assert "\x1b" not in reason
    assert reason.endswith('…"')


@pytest.mark.parametrize(
    ("labels", "ids", "reason"),
    [
        ({}, [], 'nothing inhibits it: it has no label "service", which must be equal'),
        ({"service": "a"}, ["1"], "inhibited by 1 open alert"),
        ({"service": "a"}, ["1", "2"], "inhibited by 2 open alerts"),
        ({"service": "a"}, [], 'an open alert with severity="CRITICAL", service="a" would inhibit it'),
    ],
)
def test_an_inhibition_has_its_reason(labels: dict[str, str], ids: list[str], reason: str) -> None:
    assert inhibition_reason(RULE, labels, ids) == reason
