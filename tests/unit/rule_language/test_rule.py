import math
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.domain.severity import Severity
from services.rule_language.rule import Draft, RuleError, RuleType, changes_selection, complete, draft_of, problems

DRAFT = Draft(
    name="High Error Rate", type=RuleType.ERROR_THRESHOLD, threshold=100, window_minutes=5, severity=Severity.CRITICAL
)
CUSTOM = replace(DRAFT, type=RuleType.CUSTOM, filter="level > WARN", condition="rate > 0.5")


@pytest.mark.parametrize(
    ("kind", "selects"),
    [
        (RuleType.ERROR_THRESHOLD, "level >= ERROR"),
        (RuleType.LATENCY_THRESHOLD, "response_time > 2000.0"),
        (RuleType.ERROR_RATE, "status_code >= 500"),
    ],
)
def test_a_type_fills_in_what_a_rule_leaves_out(kind: RuleType, selects: str) -> None:
    rule = complete(replace(DRAFT, type=kind))
    assert (rule.scope, rule.filter, rule.condition) == ("", selects, "count > threshold")
    assert (rule.group_by, rule.value_field) == (("service",), "response_time")
    assert (rule.window, rule.lateness) == (timedelta(minutes=5), timedelta(seconds=30))
    assert (rule.enabled, rule.description, rule.labels) == (True, "", {})


def test_what_a_rule_sets_is_kept() -> None:
    given = Draft(
        id="id",
        name="n",
        description="d",
        type=RuleType.LATENCY_THRESHOLD,
        scope='service == "a"',
        filter="response_time > 10",
        group_by=["attributes.region", "level"],
        value_field="attributes.size",
        condition="avg > threshold",
        threshold=0.0,
        window=timedelta(seconds=1),
        lateness=timedelta(0),
        severity=Severity.LOW,
        labels={"team": "a"},
        enabled=False,
        revision=3,
        selection_revision=2,
    )
    rule = complete(given)
    assert draft_of(rule) == replace(given, group_by=("attributes.region", "level"))
    assert complete(draft_of(rule)) == rule


def test_a_custom_rule_sets_its_filter_and_condition() -> None:
    assert complete(CUSTOM).filter == "level > WARN"
    found = problems(replace(CUSTOM, filter=" ", condition=""))
    assert [problem.field for problem in found] == ["filter", "condition"]
    assert all("CUSTOM" in problem.description for problem in found)


@pytest.mark.parametrize(
    ("change", "field", "description"),
    [
        pytest.param({"name": " "}, "name", "is required", id="no name"),
        pytest.param({"name": "x" * 129}, "name", "129 characters", id="too long a name"),
        pytest.param({"description": "x" * 4097}, "description", "at most 4096", id="too long a description"),
        pytest.param({"type": None}, "type", "one of ERROR_THRESHOLD, LATENCY_THRESHOLD", id="no type"),
        pytest.param({"scope": "level"}, "scope", "line 1, column 1: must be a boolean", id="scope"),
        pytest.param({"filter": "\ncount > 1"}, "filter", 'line 2, column 1: unknown name "count"', id="filter"),
        pytest.param({"condition": "level > 1"}, "condition", "expected one of count, total", id="condition"),
        pytest.param({"group_by": ["a"]}, "groupBy[0]", "expected one of service, level", id="an unknown field"),
        pytest.param({"group_by": ["message"]}, "groupBy[0]", "attributes.NAME", id="a field with too many values"),
        pytest.param({"group_by": ["attributes."]}, "groupBy[0]", "unknown field", id="an attribute without name"),
        pytest.param(
            {"group_by": ["user.tier"]}, "groupBy[0]", 'did you mean "attributes.user.tier"?', id="an attribute"
        ),
        pytest.param({"group_by": ["statusCode"]}, "groupBy[0]", 'did you mean "status_code"?', id="another spelling"),
        pytest.param({"group_by": ["service, host"]}, "groupBy[0]", "; several fields are a list", id="a text for two"),
        pytest.param({"value_field": "size"}, "valueField", 'did you mean "attributes.size"?', id="a number by name"),
        pytest.param({"group_by": ["attributes." + "x" * 129]}, "groupBy[0]", "unknown", id="too long an attribute"),
        pytest.param({"group_by": ["host", "host"]}, "groupBy[1]", "listed already", id="a field twice"),
        pytest.param({"group_by": [f"attributes.{n}" for n in range(5)]}, "groupBy", "at most 4", id="five fields"),
        pytest.param({"value_field": "host"}, "valueField", "response_time, status_code", id="a string as value"),
        pytest.param({"threshold": None}, "threshold", "is required", id="no threshold"),
        pytest.param({"threshold": -0.5}, "threshold", "is -0.5, must be finite", id="a negative threshold"),
        pytest.param({"threshold": math.inf}, "threshold", "is inf", id="an infinite threshold"),
        pytest.param({"threshold": math.nan}, "threshold", "is nan", id="a threshold that is no number"),
        pytest.param({"window_minutes": None}, "windowMinutes", "is required", id="no window"),
        pytest.param({"window_minutes": 0}, "windowMinutes", "is 0, must be 1 to 1440", id="no minutes"),
        pytest.param({"window_minutes": 1441}, "windowMinutes", "1441", id="more than a day"),
        pytest.param({"window": timedelta(0)}, "window", "is 0s", id="an empty window"),
        pytest.param(
            {"window": timedelta(seconds=1.5)}, "window", "is 1.5s, must be whole seconds", id="half a second"
        ),
        pytest.param({"window": timedelta(days=1, seconds=1)}, "window", "1s to 86400s", id="a second too long"),
        pytest.param({"lateness": timedelta(seconds=-1)}, "lateness", "is -1s", id="negative lateness"),
        pytest.param({"lateness": timedelta(hours=2)}, "lateness", "0s to 3600s", id="too much lateness"),
        pytest.param({"severity": 9}, "severity", "found 9, expected one of LOW, MEDIUM", id="no such severity"),
        pytest.param({"type": 99}, "type", "found 99, expected one of ERROR_THRESHOLD, ", id="no such type"),
        pytest.param({"severity": None}, "severity", "one of LOW, MEDIUM, HIGH, CRITICAL", id="no severity"),
        pytest.param({"labels": {str(n): "" for n in range(17)}}, "labels", "at most 16", id="too many labels"),
        pytest.param({"labels": {"": "x"}}, "labels[]", "key of 0 characters", id="a label without key"),
        pytest.param({"labels": {"severity": "x"}}, "labels[severity]", "is set for each alert", id="a severity"),
        pytest.param({"labels": {"alertname": "x"}}, "labels[alertname]", "choose another", id="an alertname"),
        pytest.param({"labels": {"a": "x" * 257}}, "labels[a]", "257 characters", id="too long a label"),
    ],
)
def test_what_is_not_allowed_is_named(change: dict[str, Any], field: str, description: str) -> None:
    draft = replace(DRAFT, window_minutes=None) if "window" in change else DRAFT
    (problem,) = problems(replace(draft, **change))
    assert problem.field == field
    assert description in problem.description


def test_a_stored_rule_may_have_labels_that_are_refused_today() -> None:
    draft = replace(DRAFT, labels={"severity": "mine"})
    assert complete(draft, is_stored=True).labels == {"severity": "mine"}
    with pytest.raises(RuleError, match=r"labels\[severity\]: "):
        complete(draft)


def test_all_problems_are_named_at_once() -> None:
    draft = Draft(filter="x", condition="y")
    fields = ["name", "type", "filter", "condition", "threshold", "windowMinutes", "severity"]
    assert [problem.field for problem in problems(draft)] == fields
    with pytest.raises(RuleError, match="name: is required; type: is required") as caught:
        complete(draft)
    assert list(caught.value.problems) == problems(draft)


@pytest.mark.parametrize(
    ("change", "afresh"),
    [
        ({}, False),
        ({"filter": "level>=5"}, False),
        ({"threshold": 5, "condition": "count >= threshold", "severity": Severity.LOW, "description": "d"}, False),
        ({"lateness": timedelta(0), "labels": {"a": "b"}, "enabled": False, "name": "other"}, False),
        ({"window_minutes": None, "window": timedelta(minutes=5)}, False),
        ({"filter": "level >= WARN"}, True),
        ({"scope": 'host == "a"'}, True),
        ({"group_by": ["host"]}, True),
        ({"value_field": "status_code"}, True),
        ({"window_minutes": 6}, True),
    ],
)
def test_counting_starts_afresh_when_the_selection_changes(change: dict[str, Any], *, afresh: bool) -> None:
    assert changes_selection(complete(DRAFT), complete(replace(DRAFT, **change))) is afresh


@pytest.mark.parametrize(
    ("old", "new", "afresh"),
    [
        ("count > 1", "rate > 0.5", True),
        ("count > 1", "total > 5 && count > 1", True),
        ("rate > 0.5", "total > 5", False),
        ("rate > 0.5", "count > 1", False),
        ("count > 1", "sum > 1.0", False),
    ],
)
def test_counting_starts_afresh_when_the_condition_begins_to_read_totals(old: str, new: str, *, afresh: bool) -> None:
    one, other = (complete(replace(CUSTOM, condition=condition)) for condition in (old, new))
    assert changes_selection(one, other) is afresh
