import gzip
import json
import os
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.parsing.format_types import LineFormat
from cli.parsing.formats import FORMATS, custom
from cli.parsing.multiline import MAX_MESSAGE_BYTES
from cli.parsing.splitting import MAX_LINE_BYTES, split
from cli.send.log_file import Source, Times, read, service_of, timed
from cli.send.sender import Line, Refusal
from tests.fakes.clock import FakeClock
from tocsin.logs.v1.log_event_pb2 import LogEvent

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
CLOCK = FakeClock(NOW)


def lines_of(*lines: str | None, **chosen: Any) -> list[Line | Refusal | None]:
    _, reads = read(iter(lines), **{"kind": None, "service": "s", "clock": CLOCK} | chosen)
    return list(timed(reads, Times.LOG, now=NOW))


def summary(items: list[Line | Refusal | None]) -> list[Any]:
    return [
        (item.line, item.field) if isinstance(item, Refusal) else item and (item.number, item.event.message)
        for item in items
    ]


GOOD = '{"level":"error","message":"good"}'


@pytest.mark.parametrize(
    ("odd", "field", "expected"),
    [
        ('{"time":"0001-01-01T00:00:00+10:00"}', "eventTime", "a time such as"),
        ('{"time":"1764245000.x"}', "eventTime", "a time such as"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "line", "less deeply"),
        ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "line", "less deeply"),
        ('{"message":"cut o', "line", "a JSON object"),
    ],
    ids=lambda value: value[:30],
)
def test_an_odd_line_is_refused_by_its_field_and_the_others_are_sent(odd: str, field: str, expected: str) -> None:
    first, refused, last = lines_of(GOOD, odd, GOOD)
    assert summary([first, last]) == [(1, "good"), (3, "good")]
    assert isinstance(refused, Refusal)
    assert (refused.line, refused.field) == (2, field)
    assert expected in refused.reason


def test_a_time_that_is_none_does_not_matter_where_the_time_of_arrival_is_sent() -> None:
    _, reads = read(iter(['{"time":"soon","message":"m"}']), kind=None, service="s", clock=CLOCK)
    assert summary(list(timed(reads, Times.ARRIVAL, now=NOW))) == [(1, "m")]


def test_a_time_that_shifts_out_of_the_calendar_is_refused() -> None:
    lines = [f'{{"time":"{year}-01-01T00:00:00Z","message":"m"}}' for year in ("0001", "9999")]
    _, reads = read(iter(lines), kind=None, service="s", clock=CLOCK)
    assert summary(list(timed(reads, Times.SHIFT, now=NOW))) == [(1, "eventTime"), (2, "m")]


TEXT = st.text(alphabet=st.characters(exclude_characters="\n", exclude_categories=["Cs"]))
JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists)
FIELDS = ["time", "ts", "level", "message", "status", "statusCode", "responseTime", "service", "host", "traceId", "a"]
TIMES = st.from_regex(r"\A[0-9]{1,19}(\.[0-9]*x?)?\Z|\A[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:]{8}([+-][0-9]{2}:00)?\Z")
OBJECTS = st.dictionaries(st.sampled_from(FIELDS) | st.text(), JSON | TIMES | st.dictionaries(st.text(), JSON))
LINES = (
    TEXT | TIMES | OBJECTS.map(json.dumps) | OBJECTS.map(lambda value: " ".join(f"{k}={v}" for k, v in value.items()))
)

KINDS = (None, *FORMATS, custom("(?P<message>.*) (?P<time>.*) (?P<status_code>.*) (?P<response_time>.*)"))


@given(
    st.lists(LINES.map(lambda line: line.replace("\n", " ")), max_size=5),
    st.sampled_from(KINDS),
    st.sampled_from(Times),
)
def test_whatever_a_line_holds_it_is_an_event_or_refused(
    lines: list[str], kind: LineFormat | None, times: Times
) -> None:
    _, reads = read(iter(lines), kind=kind, service="s", clock=CLOCK)
    items = [item for item in timed(reads, times, now=NOW) if item is not None]
    assert sum(item.line_count for item in items) == sum(bool(line.strip()) for line in lines)


TRACE = ["Traceback (most recent call last):", '  File "a.py", line 1, in f', "ValueError: no"]


def test_a_banner_is_an_event_and_a_stack_trace_continues_the_json_line_before_it() -> None:
    items = lines_of("  Welcome to the shop", GOOD, *TRACE, "", GOOD)
    assert summary(items) == [(1, "Welcome to the shop"), (2, "\n".join(["good", *TRACE])), (7, "good")]
    levels = [LogEvent.Level.Name(item.event.level) for item in items if isinstance(item, Line)]
    assert levels == ["INFO", "ERROR", "ERROR"]


def test_a_long_stack_trace_does_not_make_json_lines_plain() -> None:
    frames = [f"\tat shop.Cart.total(Cart.java:{number})" for number in range(300)]
    assert summary(lines_of(GOOD, "java.lang.IllegalStateException: no", *frames, GOOD))[-1] == (303, "good")


def test_a_line_of_another_format_among_json_lines_is_an_event_of_its_own() -> None:
    assert summary(lines_of(GOOD, GOOD, "ERROR: out of memory")) == [(1, "good"), (2, "good"), (3, "out of memory")]


def test_where_no_format_is_found_each_line_is_read_by_what_fits_it() -> None:
    items = lines_of("Starting", "hello", "world", GOOD, "FATAL: no memory")
    levels = [LogEvent.Level.Name(item.event.level) for item in items if isinstance(item, Line)]
    assert levels == ["INFO", "INFO", "INFO", "ERROR", "FATAL"]


def test_what_continues_a_refused_line_is_refused_with_it() -> None:
    items = lines_of(GOOD, '{"level":"error","time":"soon"}', *TRACE)
    assert summary(items) == [(1, "good"), (2, "eventTime")]
    assert [item.line_count for item in items if item] == [1, 4]


def test_a_custom_pattern_is_searched_for_anywhere_and_refuses_what_comes_before_the_first_match() -> None:
    items = lines_of("banner", "10:00 ERROR no", "  more", kind=custom("ERROR (?P<message>.*)"))
    assert summary(items) == [(1, "line"), (2, "no\n  more")]


def test_a_message_of_very_many_lines_is_cut_with_a_mark_and_every_line_counted() -> None:
    (line,) = lines_of("ERROR: boom", *["  at f()"] * 100_000)
    assert isinstance(line, Line)
    message = line.event.message
    assert message.startswith("boom\n  at f()\n")
    assert message.endswith(f"\n[cut, was {4 + 9 * 100_000} bytes]")
    assert MAX_MESSAGE_BYTES - 4 <= len(message.encode()) <= MAX_MESSAGE_BYTES
    assert (line.line_count, line.last) == (100_001, 100_001)


def test_only_as_much_of_an_event_is_held_as_is_sent() -> None:
    lines = (f"ERROR: {'x' * 100}" if number == 0 else f"  {number:0100}" for number in range(30_000))
    _, reads = read(lines, kind=None, service="s", clock=CLOCK)
    tracemalloc.start()
    try:
        assert len(list(reads)) == 1
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_the_format_is_found_from_what_is_there_when_a_moment_has_passed() -> None:
    def lines() -> Iterator[str | None]:
        yield from [None, GOOD, None]
        pytest.fail("more was asked for")

    reader, _ = read(lines(), kind=None, service="s", clock=CLOCK)
    assert reader.name == "json"


def test_a_message_of_the_longest_length_is_not_cut() -> None:
    text = "é" * (MAX_MESSAGE_BYTES // 2)
    (line,) = lines_of(f"ERROR: {text}")
    assert isinstance(line, Line)
    assert line.event.message == text


def test_an_event_that_nothing_was_added_to_for_a_moment_is_handed_on() -> None:
    items = lines_of("ERROR: a", None, "  more", None, None, "ERROR: b", None)
    assert summary(items) == [None, None, (1, "a\n  more"), None, None, (3, "b")]


def content(file: Path) -> list[str | None]:
    with closing(Source(file)) as source:
        return list(source.lines())


def test_gzip_is_read_as_what_it_holds(tmp_path: Path) -> None:
    file = tmp_path / "app.log"
    file.write_bytes(gzip.compress(b"a\nb\n") + gzip.compress(b"c\n" * 100_000))
    assert content(file) == ["a", "b", *["c"] * 100_000]


def test_gzip_that_is_cut_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    file = tmp_path / "app.log.gz"
    file.write_bytes(gzip.compress(b"a\n" * 100_000, compresslevel=0)[:-100])
    with closing(Source(file)) as source:
        assert len(list(source.lines())) > 90_000
        assert source.error is not None
        assert "cut off" in str(source.error)


@pytest.mark.parametrize("packed", [bytes, gzip.compress])
def test_binary_data_is_refused(tmp_path: Path, packed: Callable[[bytes], bytes]) -> None:
    file = tmp_path / "app.log"
    file.write_bytes(packed(b"\x7fELF\x00\x01\n"))
    with pytest.raises(OSError, match="binary data"):
        content(file)


def test_lines_end_where_they_end_however_the_blocks_are_cut() -> None:
    blocks = [b"\xef\xbb\xbfa", None, b"b\r\n\nc\xff", b"\nd"]
    assert list(split(blocks)) == [None, "ab", "", "c\ufffd", "d"]


def test_a_line_without_end_is_cut() -> None:
    (line,) = split([b"x" * 100_000] * 30)
    assert line is not None
    assert len(line) == MAX_LINE_BYTES


def test_standard_input_says_when_a_moment_has_passed_and_stops_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stdin, os.fdopen(writing, "wb", buffering=0) as stdout:
        monkeypatch.setattr("sys.stdin", TextIOWrapper(stdin))
        monkeypatch.setattr("cli.send.log_file.TICK", 0.01)
        stops = [False]
        source = Source(Path("-"), is_stopped=lambda: stops[0])
        lines = source.lines()
        stdout.write(b"a\nb")
        assert next(lines) == "a"
        assert next(lines) is None
        stops[0] = True
        assert list(lines) == ["b"]
        assert not source.is_whole


@pytest.mark.parametrize(
    ("name", "service"),
    [
        ("catalog.log", "catalog"),
        ("syslog", "syslog"),
        ("syslog.1", "syslog"),
        ("txt-import.txt", "txt-import"),
        ("shop.jsonl", "shop"),
        ("shop.ndjson.gz", "shop"),
        ("app.log.1", "app"),
        ("app.log.12.gz", "app"),
        ("app.log-20260101", "app"),
        ("app-2026-01-01.log", "app"),
        ("app.log.2026-01-01_13:53:08", "app"),
        ("app-2.log", "app-2"),
        ("OpenStack_2k.log", "OpenStack_2k"),
        (".log", ".log"),
        ("stdin", "stdin"),
        (f"shop-7d9f_default_cart-{'0a' * 32}.log", "cart"),
    ],
)
def test_a_service_is_named_after_its_file(name: str, service: str) -> None:
    assert service_of(name) == service
