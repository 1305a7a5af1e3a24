"""Values of a rule as people write them: lenient where that is harmless, refused in words where it is not."""

from typing import Any

import pytest
from google.protobuf import json_format

from cli.rule_values import read_rule
from services.chassis.strict_yaml import load_documents


def read(text: str) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    (values,) = load_documents(text, text_mappings=("labels",))
    found = read_rule(values)
    return json_format.MessageToDict(found.rule), list(found.problems)


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("window: 2m", "window", "120s"),
        ("window: 1h30m", "window", "5400s"),
        ("lateness: 1.5 s", "lateness", "1.500s"),
        ("lateness: -1s", "lateness", "-1s"),
        ("type: custom", "type", "CUSTOM"),
        ("type: error-threshold", "type", "ERROR_THRESHOLD"),
        ("severity: high", "severity", "HIGH"),
        ("groupBy: service", "groupBy", ["service"]),
        ("group_by: [service, host]", "groupBy", ["service", "host"]),
        ("labels: {prio: 1, version: 1.10, on: yes, day: 2026-01-01, 7: 0x1f}", "labels",
         {"prio": "1", "version": "1.10", "on": "yes", "day": "2026-01-01", "7": "0x1f"}),
        ("threshold: '1e3'", "threshold", 1000.0),
        ("windowMinutes: 5.0", "windowMinutes", 5),
        ("filter: true", "filter", "true"),
        ("name: 500", "name", "500"),
        ("enabled: no", "enabled", False),
    ],
)  # fmt: skip
def test_what_is_harmless_is_taken(text: str, field: str, value: object) -> None:
    assert read(text) == ({field: value}, [])


@pytest.mark.parametrize(
    ("text", "field", "description"),
    [
        ("labels: {prio: [1], tier: }", "labels", "label values are strings: prio, tier"),
        ("labels: [a]", "labels", "expected names and values such as {team: payments}, found a list"),
        ("window: 120", "window", "expected a duration with its unit, such as 90s, 2m or 1h30m, found 120"),
        ("window: 99999999999999d", "window", "expected a duration with its unit"),
        ("windowMinutes: 90s", "windowMinutes", 'found "90s"'),
        ("windowMinutes: 1e12", "windowMinutes", "expected a whole number of minutes"),
        ("windowMinutes: true", "windowMinutes", "found true"),
        ("threshold: many", "threshold", 'expected a number, found "many"'),
        ("threshold: .inf", "threshold", "expected a number, found inf"),
        ("type: CUSTM", "type", "expected one of ERROR_THRESHOLD, LATENCY_THRESHOLD, ERROR_RATE, CUSTOM"),
        ("severity: 3", "severity", "expected one of LOW, MEDIUM, HIGH, CRITICAL, found 3"),
        ("name: [a]", "name", "expected a string, found a list"),
        ("groupBy: {a: b}", "groupBy", "expected a list of fields such as [service, host], found a mapping"),
        ("enabled: maybe", "enabled", 'expected true or false, found "maybe"'),
        ("colour: red", "colour", "unknown field; expected one of name, description, type, scope, filter, groupBy, "),
        ("creat_time: x", "creat_time", "unknown field; expected one of"),
        ("group-by: service", "group-by", 'unknown field; did you mean "group_by"?'),
        ("{window: 90s, windowMinutes: 5}", "window", "window and windowMinutes both say how long a window is"),
    ],
)
def test_what_is_not_understood_is_said_in_words(text: str, field: str, description: str) -> None:
    _, ((found, words),) = read(text)
    assert found == field
    assert description in words


def test_what_only_the_server_sets_is_ignored_and_no_field_to_set() -> None:
    found = read_rule(
        {"id": "x", "revision": "7", "createTime": "2026-01-01T00:00:00Z", "etag": "e", "threshold": None}
    )
    assert (found.rule.id, found.rule.revision, found.rule.etag) == ("x", 0, "e")
    assert (list(found.fields), list(found.problems)) == (["etag", "threshold"], [])
