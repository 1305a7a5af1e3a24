"""How the lines of one file are parsed: its formats, and lines that have none."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.parsing.event import InvalidLine
from cli.parsing.file_parser import FileParser
from cli.parsing.formats import FORMATS
from services.domain.level import Level
from tests.fakes.clock import FakeClock
from tests.unit.cli.parsing.log_lines import NOON, event_of, events_of, parsed_lines

DATA = Path(__file__).parents[5] / "shared" / "data"


def test_a_chosen_format_refuses_what_comes_before_its_first_line() -> None:
    (json,) = (line_format for line_format in FORMATS if line_format.name == "json")
    for lines in ([], ["banner", "hello"]):
        (parsed,) = parsed_lines([*lines, "orphan"], line_format=json)
        assert parsed is not None
        assert parsed.event == InvalidLine(field="line", expected="a JSON object", found=(lines or ["orphan"])[0])


def test_lines_that_fit_no_format_are_plain() -> None:
    parser = FileParser(["hello", "world", ""], line_format=None, service="s", now=lambda: NOON)
    assert parser.name == "plain"


@pytest.mark.parametrize(
    ("line", "name"), [("2026-11-27 10:00:00 ERROR boom", "time-level"), ("hello", "json"), ('{"msg":"boom"}', "json")]
)
def test_a_chosen_format_that_fits_no_line_is_not_said_of_a_file(line: str, name: str) -> None:
    (json,) = (line_format for line_format in FORMATS if line_format.name == "json")
    assert FileParser([line], line_format=json, service="s", now=lambda: NOON).name == name


def test_formats_in_one_file_are_each_read() -> None:
    lines = [
        '{"level":"error","message":"a"}',
        "level=error msg=b",
        "E1127 10:00:00.123456 1 x.go:1] c",
        "2026-11-27 10:00:00 ERROR d",
        "<11>Nov 27 10:00:00 web-1 shop[42]: e",
        "f without anything",
        "  that goes on",
        "Traceback (most recent call last):",
        '  File "a.py", line 1, in f',
        "ValueError: no",
    ]
    events = events_of(lines)
    assert [event.message for event in events] == [
        *("a", "b", "c", "d", "e"),
        "f without anything\n  that goes on",
        'Traceback (most recent call last):\n  File "a.py", line 1, in f\nValueError: no',
    ]
    assert [event.level for event in events] == [*[Level.ERROR] * 5, Level.INFO, Level.ERROR]


@pytest.mark.parametrize(
    "before",
    ["2026-11-27T10:00:00Z", "Nov 27 10:00:00 web-1 shop[42]:", "2026-11-27T10:00:00Z stdout F", "Nov 27 10:00:00"],
)
def test_a_time_inside_the_message_is_not_the_event_time(before: str) -> None:
    event = event_of(f"{before} certificate expires 2027-01-01T00:00:00Z")
    assert event.event_time == datetime(2026, 11, 27, 10, 0, tzinfo=UTC)
    assert event.message == "certificate expires 2027-01-01T00:00:00Z"


def test_the_last_resort_finds_a_time_and_a_level_in_any_line() -> None:
    event = event_of("the shop (at 2026-11-27 10:00:00) says: ERROR in cart")
    assert (event.level, event.event_time) == (Level.ERROR, datetime(2026, 11, 27, 10, tzinfo=UTC))


def test_a_sentence_before_a_time_or_a_level_stays_in_the_message() -> None:
    lines = ["2026-11-27 10:00:00 INFO fine", "Caused by: no answer since 2026-11-27 09:00:00"]
    (event,) = events_of(lines)
    assert event.message == "fine\nCaused by: no answer since 2026-11-27 09:00:00"
    assert event_of("2026-11-27 10:00:00 a user typed ERROR twice").message == "a user typed ERROR twice"


def test_the_clock_is_read_for_each_line() -> None:
    clock = FakeClock(NOON)

    def lines() -> Iterator[str | None]:
        yield "11:59:00.000 [main] ERROR c.e.App - boom"
        yield None
        clock.advance(timedelta(hours=1))
        yield "12:59:30.000 [main] ERROR c.e.App - boom"

    times = [event.event_time for event in events_of(lines(), clock=clock)]
    assert times == [datetime(2026, 11, 27, 11, 59, tzinfo=UTC), datetime(2026, 11, 27, 12, 59, 30, tzinfo=UTC)]


@given(st.lists(st.text(alphabet=st.characters(exclude_characters="\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"))))
def test_every_line_is_in_exactly_one_event_or_blank(lines: list[str]) -> None:
    for line_format in (*FORMATS, None):
        parsed = parsed_lines(lines, line_format=line_format)
        assert sum(one.line_count for one in parsed if one) == sum(bool(line.strip()) for line in lines)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real logs are not here")
@pytest.mark.parametrize(
    ("name", "format_name"),
    [("OpenStack_2k.log", "openstack"), ("BGL_2k.log", "bluegene"), ("Apache_2k.log", "time-level")],
)
def test_each_line_of_a_real_log_is_one_event_with_a_time(name: str, format_name: str) -> None:
    lines = (DATA / name).read_text().splitlines()
    parser = FileParser(lines[:200], line_format=None, service="s", now=lambda: NOON)
    assert parser.name == format_name
    events = events_of(lines)
    assert len(events) == len(lines) == 2000
    assert all(event.event_time and not event.notes for event in events)
