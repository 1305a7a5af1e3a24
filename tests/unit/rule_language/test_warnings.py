"""What is allowed and surely not meant: each kind by example, and the law that "never" is never wrong."""

import math
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from services.domain.severity import Severity
from services.manager.worker.default_rules import DEFAULT_RULES
from services.rule_language.checking import check_condition, check_filter
from services.rule_language.environment import StepLimitError
from services.rule_language.rule import Draft, RuleType, complete
from services.rule_language.satisfiability import always_holds, can_hold
from services.rule_language.warnings import find_warnings
from tests.unit.evaluator.expressions import conditions, events, filters, present, within_limits

ROOT = Path(__file__).parents[3]
DRAFT = Draft(
    name="r",
    type=RuleType.CUSTOM,
    filter="level >= ERROR",
    condition="count > threshold",
    threshold=20,
    window_minutes=5,
    severity=Severity.HIGH,
)


SLOW = {"filter": "response_time > 2000"}


def warned(**change: Any) -> list[tuple[str, str]]:
    return [(warning.field, warning.description) for warning in find_warnings(complete(replace(DRAFT, **change)))]


@pytest.mark.parametrize(
    ("change", "field", "description"),
    [
        ({"condition": "count < 0", "threshold": 0}, "condition", "is never true"),
        ({"condition": "count > threshold && count < 10"}, "condition", "is never true"),
        ({"condition": "rate > threshold", "threshold": 5}, "condition", "0.05 is 5 %"),
        ({"condition": "rate * 100.0 > 101.0", "threshold": 0}, "condition", "is never true"),
        ({"condition": "count == 2 && count in [3, 4] || rate < 0.0", "threshold": 0}, "condition", "is never true"),
        ({"condition": "count >= 0", "threshold": 0}, "condition", "is always true"),
        ({"condition": "rate <= 1.0 || count > threshold"}, "condition", "is always true"),
        (SLOW | {"condition": "avg > threshold", "threshold": 1000}, "condition", "with a response_time above 2000"),
        (SLOW | {"condition": "min > threshold", "threshold": 2000}, "condition", "true with the first event"),
        (SLOW | {"condition": "threshold <= max", "threshold": 1999}, "condition", "true with the first event"),
        (SLOW | {"condition": "sum >= threshold", "threshold": 1000}, "condition", "true with the first event"),
        (
            SLOW | {"condition": "avg < threshold", "threshold": 1000},
            "condition",
            "never fires: it selects only events",
        ),
        (SLOW | {"condition": "sum < 0.0", "threshold": 0}, "condition", "is never true"),
        (SLOW | {"condition": "min == threshold", "threshold": 5}, "condition", "is never true"),
        (
            {"type": RuleType.LATENCY_THRESHOLD, "filter": "", "condition": "avg > threshold", "threshold": 1000},
            "condition",
            "with a response_time above 2000",
        ),
        (
            {"scope": "response_time < 50", "filter": "response_time >= 10", "condition": "avg < 50.0", "threshold": 0},
            "condition",
            "with a response_time of at least 10 and below 50",
        ),
        (
            {"filter": "status_code <= 404", "value_field": "status_code", "condition": "max < 500.0", "threshold": 0},
            "condition",
            "with a status_code of at least 100 and of at most 404",
        ),
        ({"condition": "avg < 0.0", "threshold": 0}, "condition", "with a response_time of at least 0"),
        ({"condition": "count == 0", "threshold": 0}, "condition", "without a scope"),
        ({"condition": "count < 1", "threshold": 0}, "condition", "without a scope"),
        ({"condition": "count > 20"}, "threshold", "does not read it"),
        ({"threshold": 0.05}, "threshold", "a share is `rate > threshold`"),
        ({"filter": "level > FATAL"}, "filter", "no event can meet it"),
        ({"filter": "level >= ERROR && level < WARN"}, "filter", "no event can meet it"),
        ({"filter": "status_code >= 600"}, "filter", "no event can meet it"),
        ({"filter": "response_time < 0"}, "filter", "no event can meet it"),
        ({"filter": 'service == "a" && service == "b"'}, "filter", "no event can meet it"),
        ({"filter": 'attributes.a in ["x", "y"] && attributes.a.startsWith("z")'}, "filter", "no event can meet it"),
        ({"filter": "!(level >= TRACE)"}, "filter", "no event can meet it"),
        ({"scope": "level < WARN"}, "filter", "no event of the scope"),
        ({"scope": "status_code == 99"}, "scope", "no event can meet it"),
        ({"window_minutes": None, "window": timedelta(seconds=10)}, "window", "each window of 10 s"),
    ],
)
def test_what_is_surely_not_meant_is_named(change: dict[str, Any], field: str, description: str) -> None:
    ((found, words),) = warned(**change)
    assert found == field
    assert description in words


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"scope": 'service == "cron"', "condition": "count == 0", "threshold": 0},
        {"condition": "count == 0 && total > 100", "threshold": 0},
        {"condition": "count > total * threshold", "threshold": 0.05},
        {"condition": "rate > threshold", "threshold": 0.05},
        {"condition": "count >= threshold", "threshold": 1},
        {"threshold": 2.5},
        {"condition": "rate > 0.05 && total > 100", "threshold": 0},
        {"condition": "avg > threshold || max > 10.0 * threshold"},
        {"condition": "count > threshold", "threshold": 0, "window_minutes": None, "window": timedelta(seconds=1)},
        {"condition": "max > threshold", "window_minutes": None, "window": timedelta(seconds=1)},
        SLOW | {"condition": "avg > threshold", "threshold": 2001},
        SLOW | {"condition": "avg > threshold && count > 5", "threshold": 1000},
        SLOW | {"condition": "sum > threshold", "threshold": 2001},
        SLOW | {"condition": "count > 0 || avg > threshold", "threshold": 5},
        SLOW | {"condition": "avg > threshold", "threshold": 500, "value_field": "status_code"},
        SLOW | {"condition": "avg > threshold", "threshold": 1000, "value_field": "attributes.bytes"},
        {"filter": "response_time > 2000 || level == FATAL", "condition": "avg > threshold", "threshold": 1000},
        # An event without a response time may be selected.
        {"condition": "avg >= 0.0", "threshold": 0},
        {"filter": "status_code >= 500 && status_code < 600"},
        {"filter": 'service != "a" && service != "b"'},
        {"filter": "true"},
        {"filter": "!(status_code >= 500)"},
        {"filter": "status_code in [200, 404.0]"},
        {"filter": 'has(attributes.retry) && int(attributes.retry) > 3 && attributes.retry != "x"'},
        {"filter": "level == FATAL", "scope": "level >= WARN"},
        {"filter": 'attributes.exists(level, level == "x") && level == ERROR'},
    ],
)
def test_what_may_be_meant_is_not_warned_of(change: dict[str, Any]) -> None:
    assert warned(**change) == []


@pytest.mark.parametrize("draft", DEFAULT_RULES, ids=lambda draft: draft.name)
def test_nobody_is_warned_of_the_default_rules(draft: Draft) -> None:
    assert find_warnings(complete(draft)) == []


@pytest.mark.parametrize("page", ["README.md", "docs/rules.md"])
def test_nobody_is_warned_of_the_rule_in_the_documents(page: str) -> None:
    shown, *_ = re.findall(r"^```yaml\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    rule = yaml.safe_load(shown)
    kept = {"filter": rule["filter"], "condition": rule["condition"], "threshold": rule["threshold"]}
    assert warned(**kept, group_by=rule["groupBy"], window_minutes=rule["windowMinutes"]) == []


_values = st.floats(min_value=0.0, allow_infinity=True) | st.sampled_from([0.0, 1.0, 2.5, 5.0])


@st.composite
def windows(draw: st.DrawFn) -> dict[str, object]:
    """The numbers of a window as they can be where no value is negative; avg, min and max may be absent."""
    count = draw(st.integers(0, 6) | st.integers(0, 2**62))
    total = count + draw(st.integers(0, 6) | st.integers(0, 2**62))
    values = {name: draw(st.none() | _values) for name in ("avg", "min", "max")}
    return present(
        {"count": count, "total": total, "rate": count / total if total else 0.0, "sum": draw(_values), **values}
    )


@given(text=conditions, threshold=st.sampled_from([0.0, 1.0, 5.0, 2.5, 1e300]) | st.floats(0, 1e6), window=windows())
def test_a_condition_that_is_never_true_never_holds_and_one_that_always_is_always_does(
    text: str, threshold: float, window: dict[str, object]
) -> None:
    with within_limits():
        condition = check_condition(text)
    rule = complete(replace(DRAFT, condition=text, threshold=threshold))
    words = [warning.description for warning in find_warnings(rule) if warning.field == "condition"]
    outcome = condition.evaluate(window | {"threshold": threshold})
    if any("never true" in word for word in words):
        assert outcome is not True
    if any("always true" in word for word in words):
        assert outcome is True


@given(
    text=conditions,
    low=st.sampled_from([0.0, 1.0, 2.5, 5.0]),
    values=st.lists(st.floats(0, 20) | st.sampled_from([1.0, 2.5, 5.0]), min_size=1, max_size=4),
    threshold=st.sampled_from([0.0, 1.0, 2.5, 5.0]),
)
def test_what_the_filter_demands_of_the_value_bounds_the_numbers_of_each_window(
    text: str, low: float, values: list[float], threshold: float
) -> None:
    with within_limits():
        condition = check_condition(text)
    rule = complete(replace(DRAFT, filter=f"response_time >= {low}", condition=text, threshold=threshold))
    words = " ".join(warning.description for warning in find_warnings(rule) if warning.field == "condition")
    selected = [value for value in values if value >= low] or [low]
    window = {"count": len(selected), "total": len(selected) + 1, "rate": len(selected) / (len(selected) + 1)}
    # The rounding of sums is not followed.
    average = max(min(selected), min(max(selected), sum(selected) / len(selected)))
    window |= {"sum": sum(selected), "avg": average, "min": min(selected), "max": max(selected), "threshold": threshold}
    outcome = condition.evaluate(window)
    if "never true" in words:
        assert outcome is not True
    if "true with the first event" in words:
        assert outcome is True


@given(text=filters, event=events)
def test_a_filter_that_no_event_can_meet_selects_none(text: str, event: dict[str, Any]) -> None:
    with within_limits():
        expression = check_filter(text)
    outcome: bool | None
    try:
        outcome = expression.evaluate(present(event))
    except StepLimitError:
        outcome = None
    # Without ranges the analysis knows nothing about a field.
    assert can_hold([expression.tree], {}) or outcome is not True
    assert not always_holds(expression.tree, {}) or outcome is True


def test_a_threshold_that_no_count_reaches_is_not_mistaken_for_one_that_some_do() -> None:
    assert warned(condition="count >= threshold", threshold=2.0**62) == []
    assert warned(condition="count > threshold", threshold=math.nextafter(2.0**53, 0)) == []
