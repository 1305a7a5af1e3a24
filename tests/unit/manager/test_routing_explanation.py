"""Why an alert takes a route, and what inhibits it, in words."""

from datetime import timedelta

import pytest

from services.domain.severity import Severity
from services.manager.core.escalation_policy import EscalationStep
from services.manager.core.routing_explanation import inhibition_reason, planned_steps, route_reason
from services.manager.core.routing_tree import InhibitionRule
from tests.fakes.on_call import FixedOnCall, a_person, a_policy, a_step
from tests.fakes.routing import a_route, a_tree, matchers
from tests.fakes.transitions import NOW

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


def planned(
    severity: Severity, *steps: EscalationStep, repeat_count: int = 0
) -> list[tuple[int, tuple[str, ...], str]]:
    policy = a_policy("night", steps=steps, repeat_count=repeat_count)
    directory = FixedOnCall(a_person("ann"), policy).current
    found = planned_steps(directory, "night", severity=severity, now=NOW)
    return [
        (step.delay // MINUTE, (*step.targets.receivers, *step.targets.people), step.targets.outcome) for step in found
    ]


MINUTE = timedelta(minutes=1)
CHAT = a_step(delay=MINUTE, receivers=("chat",), schedules=(), min_severity=Severity.HIGH)
ANN = a_step(delay=5 * MINUTE, people=("ann",), schedules=())
NOBODY = a_step(delay=5 * MINUTE, schedules=("empty",))


def test_a_policys_steps_follow_each_other() -> None:
    assert planned(Severity.HIGH, CHAT, ANN, NOBODY) == [
        (1, ("chat",), "NOTIFIES"),
        (6, ("ann",), "NOTIFIES"),
        (11, ("duty",), "FALLBACK"),
    ]


def test_after_a_step_that_is_skipped_the_next_one_begins_at_once() -> None:
    assert planned(Severity.LOW, CHAT, ANN) == [(1, (), "SKIPPED"), (1, ("ann",), "NOTIFIES")]


def test_only_the_first_round_is_planned() -> None:
    assert len(planned(Severity.LOW, ANN, repeat_count=3)) == 1
    until = a_step(delay=MINUTE, people=("ann",), schedules=(), until_acknowledged=True)
    assert len(planned(Severity.LOW, ANN, until)) == 2


def test_an_unknown_policy_has_no_steps() -> None:
    assert planned_steps(FixedOnCall().current, "x", severity=Severity.LOW, now=NOW) == []
