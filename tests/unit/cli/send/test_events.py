"""Lines become events to send, with the chosen times, or are refused."""

import json
import tracemalloc
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.parsing.format_types import LineFormat
from cli.parsing.formats import FORMATS, custom_format
from cli.parsing.multiline import MAX_EVENT_MESSAGE_BYTES
from cli.send.events import OutgoingEvent, RefusedLine, TimeMode, events_to_send, parse_lines
from tests.fakes.clock import FakeClock
from tests.unit.cli.parsing.log_lines import NOON, parsed_lines
from tocsin.logs.v1.log_event_pb2 import LogEvent

Item = OutgoingEvent | RefusedLine | None


def send(
    lines: Iterable[str | None], times: TimeMode = TimeMode.LOG, *, line_format: LineFormat | None = None
) -> list[Item]:
    """What is sent of some lines."""
    return list(events_to_send(parsed_lines(lines, line_format=line_format), times, now=NOON))


def summary(items: list[Item]) -> list[Any]:
    return [
        (item.line, item.field) if isinstance(item, RefusedLine) else item and (item.first_line, item.event.message)
        for item in items
    ]


def levels(items: list[Item]) -> list[str]:
    return [LogEvent.Level.Name(item.event.level) for item in items if isinstance(item, OutgoingEvent)]


GOOD = '{"level":"error","message":"good"}'


@pytest.mark.parametrize(
    ("odd", "field", "expected"),
    [
        ('{"time":"0001-01-01T00:00:00+10:00"}', "eventTime", 'a time such as 2026-01-31T12:00:00Z, found "0001-'),
        ('{"time":"1764245000.x"}', "eventTime", 'found "1764245000.x"; --times arrival sends it as now'),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "line", "less deeply, found"),
        ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "line", "less deeply, found"),
        ('{"message":"cut o', "line", 'expected a JSON object, found "{"message":"cut o"'),
        (f'{{"message":"{"x" * 40}', "line", f'found "{{"message":"{"x" * 28}…"'),
    ],
    ids=lambda value: value[:30],
)
def test_an_invalid_line_is_refused_by_its_field_and_the_others_are_sent(odd: str, field: str, expected: str) -> None:
    first, refused, last = send([GOOD, odd, GOOD])
    assert summary([first, last]) == [(1, "good"), (3, "good")]
    assert isinstance(refused, RefusedLine)
    assert (refused.line, refused.field) == (2, field)
    assert expected in refused.reason


def test_an_invalid_time_does_not_matter_with_times_arrival() -> None:
    assert summary(send(['{"time":"soon","message":"m"}'], TimeMode.ARRIVAL)) == [(1, "m")]


def test_a_time_that_shifts_out_of_the_calendar_is_refused() -> None:
    lines = [f'{{"time":"{year}-01-01T00:00:00Z","message":"m"}}' for year in ("0001", "9999")]
    assert summary(send(lines, TimeMode.SHIFT)) == [(1, "eventTime"), (2, "m")]


TEXT = st.text(alphabet=st.characters(exclude_characters="\n", exclude_categories=["Cs"]))
JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists)
FIELDS = ["time", "ts", "level", "message", "status", "statusCode", "responseTime", "service", "host", "traceId", "a"]
TIMES = st.from_regex(r"\A[0-9]{1,19}(\.[0-9]*x?)?\Z|\A[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:]{8}([+-][0-9]{2}:00)?\Z")
OBJECTS = st.dictionaries(st.sampled_from(FIELDS) | st.text(), JSON | TIMES | st.dictionaries(st.text(), JSON))
LINES = (
    TEXT | TIMES | OBJECTS.map(json.dumps) | OBJECTS.map(lambda value: " ".join(f"{k}={v}" for k, v in value.items()))
)


FILE_FORMATS = (None, *FORMATS, custom_format("(?P<message>.*) (?P<time>.*) (?P<status_code>.*) (?P<response_time>.*)"))


@given(
    st.lists(LINES.map(lambda line: line.replace("\n", " ")), max_size=5),
    st.sampled_from(FILE_FORMATS),
    st.sampled_from(TimeMode),
)
def test_any_line_is_an_event_or_refused(lines: list[str], line_format: LineFormat | None, times: TimeMode) -> None:
    items = send(lines, times, line_format=line_format)
    assert sum(item.line_count for item in items if item is not None) == sum(bool(line.strip()) for line in lines)


TRACE = ["Traceback (most recent call last):", '  File "a.py", line 1, in f', "ValueError: no"]


def test_a_banner_is_an_event_and_a_stack_trace_continues_the_json_line_before_it() -> None:
    items = send(["  Welcome to the shop", GOOD, *TRACE, "", GOOD])
    assert summary(items) == [(1, "Welcome to the shop"), (2, "\n".join(["good", *TRACE])), (7, "good")]
    assert levels(items) == ["INFO", "ERROR", "ERROR"]


def test_a_long_stack_trace_does_not_make_json_lines_plain() -> None:
    frames = [f"\tat shop.Cart.total(Cart.java:{number})" for number in range(300)]
    assert summary(send([GOOD, "java.lang.IllegalStateException: no", *frames, GOOD]))[-1] == (303, "good")


def test_a_line_of_another_format_among_json_lines_is_an_event_of_its_own() -> None:
    assert summary(send([GOOD, GOOD, "ERROR: out of memory"])) == [(1, "good"), (2, "good"), (3, "out of memory")]


def test_without_a_main_format_each_line_is_parsed_by_what_fits_it() -> None:
    items = send(["Starting", "hello", "world", GOOD, "FATAL: no memory"])
    assert levels(items) == ["INFO", "INFO", "INFO", "ERROR", "FATAL"]


def test_lines_that_continue_a_refused_line_are_refused_with_it() -> None:
    items = send([GOOD, '{"level":"error","time":"soon"}', *TRACE])
    assert summary(items) == [(1, "good"), (2, "eventTime")]
    assert [item.line_count for item in items if item] == [1, 4]


def test_a_custom_pattern_matches_anywhere_and_refuses_lines_before_the_first_match() -> None:
    items = send(["banner", "10:00 ERROR no", "  more"], line_format=custom_format("ERROR (?P<message>.*)"))
    assert summary(items) == [(1, "line"), (2, "no\n  more")]


def test_a_very_long_message_is_cut_with_a_mark_and_every_line_counted() -> None:
    (line,) = send(["ERROR: boom", *["  at f()"] * 100_000])
    assert isinstance(line, OutgoingEvent)
    message = line.event.message
    assert message.startswith("boom\n  at f()\n")
    assert message.endswith(f"\n[cut, was {4 + 9 * 100_000} bytes]")
    assert MAX_EVENT_MESSAGE_BYTES - 4 <= len(message.encode()) <= MAX_EVENT_MESSAGE_BYTES
    assert (line.line_count, line.last_line) == (100_001, 100_001)


def test_only_as_much_of_an_event_is_kept_in_memory_as_is_sent() -> None:
    lines = (f"ERROR: {'x' * 100}" if number == 0 else f"  {number:0100}" for number in range(30_000))
    parsed = parsed_lines(lines)
    tracemalloc.start()
    try:
        assert len(list(parsed)) == 1
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_tick_ends_the_sample_that_decides_the_format() -> None:
    def lines() -> Iterator[str | None]:
        yield from [None, GOOD, None]
        pytest.fail("more was asked for")

    parser, _ = parse_lines(lines(), line_format=None, service="s", clock=FakeClock(NOON))
    assert parser.name == "json"


def test_a_message_of_the_longest_length_is_not_cut() -> None:
    text = "é" * (MAX_EVENT_MESSAGE_BYTES // 2)
    (line,) = send([f"ERROR: {text}"])
    assert isinstance(line, OutgoingEvent)
    assert line.event.message == text


def test_an_event_that_no_line_continued_between_two_ticks_is_complete() -> None:
    items = send(["ERROR: a", None, "  more", None, None, "ERROR: b", None])
    assert summary(items) == [None, None, (1, "a\n  more"), None, None, (3, "b")]
