"""Alert rules as messages and as values of the rule language."""

from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration

from services.contract.alert_rules import read_alert_rule, write_alert_rule
from services.domain.severity import Severity
from services.rule_language.rule import RuleType, complete
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

WRITTEN = AlertRule(
    id="id",
    name="n",
    description="d",
    type=AlertRule.ERROR_RATE,
    scope='service == "a"',
    threshold=0,
    window_minutes=5,
    severity=AlertRule.LOW,
    labels={"a": "b"},
    group_by=["host", "attributes.zone"],
    revision=4,
    selection_revision=3,
)


def test_a_rule_goes_there_and_back() -> None:
    rule = complete(read_alert_rule(WRITTEN))
    shown = write_alert_rule(rule)
    assert (shown.WhichOneof("length"), shown.window_minutes) == ("window_minutes", 5)
    assert (shown.threshold, shown.enabled, shown.tenant) == (0, True, "default")
    assert complete(read_alert_rule(shown)) == rule


@pytest.mark.parametrize(
    ("window", "length"), [(timedelta(seconds=60), "window_minutes"), (timedelta(seconds=90), "window")]
)
def test_a_window_is_written_in_minutes_where_that_is_exact(window: timedelta, length: str) -> None:
    message = AlertRule()
    message.CopyFrom(WRITTEN)
    message.window.FromTimedelta(window)
    rule = complete(read_alert_rule(message))
    shown = write_alert_rule(rule)
    assert (rule.window, shown.WhichOneof("length")) == (window, length)
    assert complete(read_alert_rule(shown)) == rule


def test_fields_that_are_not_set_are_left_out() -> None:
    empty = read_alert_rule(AlertRule())
    assert (empty.type, empty.severity, empty.threshold, empty.enabled, empty.window) == (None,) * 5
    assert read_alert_rule(AlertRule(type=AlertRule.CUSTOM)).type is RuleType.CUSTOM


def test_an_unknown_choice_is_read_as_its_number() -> None:
    unknown = read_alert_rule(AlertRule(type=99, severity=9))  # type: ignore[arg-type]
    assert (unknown.type, unknown.severity) == (99, 9)


def test_durations_are_read_and_those_out_of_range_are_the_longest() -> None:
    seconds = read_alert_rule(AlertRule(window=Duration(seconds=90), lateness=Duration(seconds=1)))
    assert (seconds.window, seconds.lateness) == (timedelta(seconds=90), timedelta(seconds=1))
    assert read_alert_rule(AlertRule(window=Duration(seconds=10**15))).window == timedelta.max


def test_severities_and_types_have_the_numbers_of_the_message() -> None:
    assert {each.name: each.value for each in Severity} == {
        name: number for name, number in AlertRule.Severity.items() if number
    }
    assert {each.name: each.value for each in RuleType} == {
        name: number for name, number in AlertRule.Type.items() if number
    }
