"""Why an alert takes a route, and what inhibits it, in words."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.severity import Severity
from services.manager.core.dependency_graph import DependencyEdge, DependencyGraph
from services.manager.core.escalation_policy import EscalationStep
from services.manager.core.incident import IncidentAlert
from services.manager.core.inhibition import Inhibitors
from services.manager.core.routing_explanation import (
    dependency_inhibition,
    inhibition_reason,
    planned_steps,
    route_reason,
)
from services.manager.core.routing_tree import InhibitionRule
from services.manager.core.silence_index import MatchedAlert
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


LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"))
CONDITIONS = st.builds("{}{}{}".format, st.sampled_from("abc"), st.sampled_from(["=", "!="]), st.sampled_from("xy"))
RULES = st.builds(
    lambda source, target, equal: InhibitionRule(source=matchers(source), target=matchers(target), equal=equal),
    CONDITIONS,
    CONDITIONS,
    st.lists(st.sampled_from("abc"), unique=True, max_size=2).map(tuple),
)


@given(RULES, LABELS, LABELS)
def test_what_is_said_to_inhibit_an_alert_does_inhibit_it(
    rule: InhibitionRule, source: dict[str, str], target: dict[str, str]
) -> None:
    first, second = (incident_alert(name, labels) for name, labels in (("1", source), ("2", target)))
    decided = Inhibitors([rule], [first]).inhibition_of(second, DependencyGraph())
    assert rule.inhibits(source, target) is (decided is not None)


def incident_alert(alert_id: str, labels: dict[str, str]) -> IncidentAlert:
    return IncidentAlert(
        id=alert_id,
        rule_name="",
        service="",
        resource="",
        severity=Severity.LOW,
        labels=labels,
        fire_time=NOW,
    )


SHOP = {"service": "shop", "severity": "HIGH"}
GRAPH = DependencyGraph([DependencyEdge(service="shop", depends_on="database")])


@pytest.mark.parametrize(
    ("inhibits_dependents", "severity", "silenced_by", "path"),
    [
        (True, "CRITICAL", (), "shop → database"),
        (True, "HIGH", (), "shop → database"),
        (True, "LOW", (), None),
        (True, "odd", (), None),
        (True, "CRITICAL", ("s",), None),
        (False, "CRITICAL", (), None),
    ],
)
def test_an_alert_of_what_a_service_depends_on_inhibits_as_the_route_says(
    *, inhibits_dependents: bool, severity: str, silenced_by: tuple[str, ...], path: str | None
) -> None:
    cause = MatchedAlert(id="1", labels={"service": "database", "severity": severity}, silenced_by=silenced_by)
    routes = a_tree(inhibits_dependents=inhibits_dependents).routes_of(SHOP)
    found = dependency_inhibition(SHOP, routes, [cause], GRAPH, now=NOW)
    assert (found.comment if found else None) == path


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
