"""Tables keep ids whole at any width that has room for one."""

import io
from typing import Any

import pytest
import yaml
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console

from cli import alert_tables, notifications, output, rules
from cli.output import OutputFormat, fit_columns, format_number, format_value, short_ids
from tocsin.alerts.v1.alert_pb2 import Alert, SampleEvent, WindowResult
from tocsin.notifications.v1.notification_pb2 import FailedNotification
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

ID = "01234567-89ab-7def-8123-456789abcdef"
LONG = "a long text that does not fit " * 5

ALERT = Alert(
    id=ID,
    rule_name=LONG,
    resource=LONG,
    severity=AlertRule.CRITICAL,
    state=Alert.ACKNOWLEDGED,
    fire_time=Timestamp(seconds=1_767_225_600),
    window=WindowResult(count=123_456),
)
RULE = AlertRule(id=ID, name=LONG, filter=LONG, condition=LONG, group_by=["service"], severity=AlertRule.CRITICAL)
FAILED = FailedNotification(
    id=ID, channel="pagerduty", alert_id=ID, status=FailedNotification.SUPERSEDED, last_error=LONG
)
TABLES = [
    pytest.param(
        lambda: alert_tables.print_alerts([ALERT], OutputFormat.TABLE),
        ["ACKNOWLEDGED", "CRITICAL", "a long text that", "01-01 00:00:00"],
        id="alerts",
    ),
    pytest.param(
        lambda: rules._print_rules([RULE], OutputFormat.TABLE), ["CRITICAL", "a long text that", "no"], id="rules"
    ),
    pytest.param(
        lambda: notifications._print_failed([FAILED], OutputFormat.TABLE),
        ["SUPERSEDED", "pagerduty"],
        id="failed notifications",
    ),
]


@pytest.fixture(params=[80, 100, 120, 140])
def screen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal of some width."""
    text = io.StringIO()
    console = Console(file=text, width=request.param, force_terminal=False)
    for module in (output, notifications):
        monkeypatch.setattr(module, "stdout", console)
    return text


@pytest.mark.parametrize(("show", "whole"), TABLES)
def test_ids_and_states_stay_whole_on_narrow_terminals(screen: io.StringIO, show: Any, whole: list[str]) -> None:
    show()
    row = next(line for line in screen.getvalue().splitlines() if ID[:8] in line)
    assert all(word in row for word in whole), row


def test_columns_without_room_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr(output, "stdout", Console(file=text, width=80))
    rows = [[ID, "n" * 50, "r" * 30, "m"]]
    output.print_table(["ID", "Name", "Rest", "More"], [[*rows[0][:3], "m" * 20]], cut={"Name"})
    assert "No room for: More. -o wide shows all." in text.getvalue()
    output.print_table(["ID", "Name", "Rest", "More"], rows, cut={"Name", "Rest"})
    assert text.getvalue().count("No room") == 1


@pytest.mark.parametrize(
    ("widths", "least", "room", "left"),
    [
        pytest.param([36, 20, 8], [36, 10, 8], 100, [36, 20, 8], id="room for all"),
        pytest.param([36, 20, 8], [36, 10, 8], 64, [36, 16, 8], id="a text is cut"),
        pytest.param([36, 20, 8], [36, 10, 8], 55, [36, 17], id="the last is left out"),
        pytest.param([36, 9, 8], [36, 9, 8], 54, [36, 9], id="short texts are not padded"),
        pytest.param([36, 20], [36, 10], 20, [36], id="the first always stays"),
    ],
)
def test_columns_share_the_room(widths: list[int], least: list[int], room: int, left: list[int]) -> None:
    assert fit_columns(widths, least, room) == left


@pytest.mark.parametrize(
    ("given", "text"),
    [(1e6, "1000000"), (0.1, "0.1"), (100.0, "100"), (2.5, "2.5"), (999_999_999_999_999.0, "999999999999999")],
)
def test_numbers_have_no_exponent(given: float, text: str) -> None:
    assert format_number(given) == text


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (["service", "host"], "service, host"),
        ({"team": "a"}, "team=a"),
        ([], "-"),
        ({}, "-"),
        ("", "-"),
        (True, "yes"),
        (False, "no"),
        (1e6, "1000000"),
        (3, "3"),
        ([{"name": "week", "people": ["ann", "ben"]}, {"on": True}], "{name=week, people=[ann, ben]}, {on=yes}"),
    ],
)
def test_values_are_formatted_for_people(given: Any, text: str) -> None:
    assert format_value(given) == text


def test_a_wide_table_has_all_columns_whole(screen: io.StringIO) -> None:
    alert_tables.print_alerts([ALERT], OutputFormat.WIDE)
    (row,) = [line for line in screen.getvalue().splitlines() if ID in line]
    assert row.count(LONG.strip()) == 2
    assert "2026-01-01 00:00:00.000" in row


def test_integers_are_numbers_for_programs() -> None:
    alert = Alert(id=ID, window=WindowResult(count=2**53 + 1, total=7), samples=[SampleEvent(message="7")])
    document = output.json_of(alert)
    assert (document["window"]["count"], document["window"]["total"]) == (2**53 + 1, 7)
    assert document["samples"][0]["message"] == "7"
    assert output.json_of(RULE)["groupBy"] == ["service"]


def test_entries_of_maps_have_an_order_that_stays() -> None:
    names = [f"name{n}" for n in range(16)]
    document = output.json_of(AlertRule(labels=dict.fromkeys(reversed(names), "")))
    assert list(document["labels"]) == sorted(names)


def test_yaml_is_the_same_data_and_no_text_begins_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    data = {"message": "one\ntwo: 2\n\x1b[2J\u202e" + LONG, "count": 3, "none": "null", "list": ["a", "1"]}
    output.print_data(data, OutputFormat.YAML)
    text = capsys.readouterr().out
    assert yaml.safe_load(text) == data
    assert text.isascii()
    assert [line for line in text.splitlines() if line.startswith("two")] == []


@pytest.mark.parametrize(
    ("ids", "short"),
    [
        ([ID], [ID[:8]]),
        (["0123456789", "0123456799"], ["012345678", "012345679"]),
        (["short", "shorter"], ["short", "shorter"]),
        ([ID, ID], [ID[:8], ID[:8]]),
        ([], []),
    ],
)
def test_ids_are_as_short_as_they_differ(ids: list[str], short: list[str]) -> None:
    found = short_ids(ids)
    assert [found[name] for name in ids] == short
