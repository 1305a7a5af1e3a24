"""Which lines continue the event before them."""

from datetime import UTC, datetime

import pytest

from cli.parsing.event import ParseNote
from services.domain.level import Level
from tests.unit.cli.parsing.log_lines import events_and_lines, events_of, parsed_lines


def test_lines_that_do_not_fit_continue_the_event_before_them() -> None:
    lines = ["ERROR: boom", "  at f()", "", "  at g()", "ERROR: again"]
    found = [(event.message, parsed.first_line, parsed.line_count) for event, parsed in events_and_lines(lines)]
    assert found == [("boom\n  at f()\n  at g()", 1, 3), ("again", 5, 1)]


ACCESS = '198.51.100.1 - - [27/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 1 "-" "-"'


def test_no_line_of_an_access_log_continues_another() -> None:
    first, second = events_of([ACCESS, "(something else)"])
    assert "something" not in first.message
    assert second.message == "(something else)"
    assert second.notes == {ParseNote.NO_TIME, ParseNote.NO_LEVEL}


def test_parts_of_a_line_are_joined_within_their_stream() -> None:
    lines = [
        "2026-11-27T10:00:00.1Z stdout P ERROR: one ",
        "2026-11-27T10:00:00.2Z stderr F WARN: other",
        "2026-11-27T10:00:00.3Z stdout P and ",
        "2026-11-27T10:00:00.4Z stdout F half",
        '{"log":"ERROR: two ","stream":"stdout","time":"2026-11-27T10:00:01Z"}',
        '{"log":"halves\\n","stream":"stdout","time":"2026-11-27T10:00:01Z"}',
    ]
    events = events_of(lines)
    assert [event.message for event in events] == ["one and half", "other", "two halves"]
    assert [event.level for event in events] == [Level.ERROR, Level.WARN, Level.ERROR]


def test_a_stack_trace_in_a_container_continues_within_its_stream() -> None:
    lines = [
        "2026-11-27T10:00:00.1Z stderr F ERROR: boom",
        "2026-11-27T10:00:00.1Z stderr F \tat shop.Cart.total(Cart.java:1)",
        "2026-11-27T10:00:00.1Z stdout F INFO: fine",
        "2026-11-27T10:00:00.1Z stderr F \tat shop.Cart.main(Cart.java:2)",
    ]
    assert {event.message for event in events_of(lines)} == {
        "boom\n\tat shop.Cart.total(Cart.java:1)\n\tat shop.Cart.main(Cart.java:2)",
        "fine",
    }


def test_a_blank_line_of_a_container_continues_an_event_or_is_one() -> None:
    lines = [f"2026-11-27T10:00:00.1Z stdout F {text}" for text in ("", "ERROR: boom", "", "  more")]
    assert [event.message for event in events_of(lines)] == ["(blank line)", "boom\n\n  more"]


def test_only_a_bounded_number_of_streams_of_one_file_stay_open() -> None:
    lines = [f"web-{number}  | ERROR: boom" for number in range(1000)]
    parsed = events_and_lines(lines)
    assert next(parsed)[1].first_line == 1
    assert len(list(parsed)) == 999


def test_an_unfinished_part_becomes_an_event_after_two_ticks() -> None:
    line = "2026-11-27T10:00:00.1Z stderr P ERROR: half"
    parsed = list(parsed_lines([line, None, None, None, None]))
    assert [one is not None for one in parsed] == [False, False, True, False, False]
    assert [event.message for event in events_of([line, None, None, None, None])] == ["half"]


def test_a_line_that_begins_with_a_date_in_an_unknown_form_continues_nothing() -> None:
    lines = ["2026-11-27 10:00:00 ERROR boom"] * 3 + ["27/11/2026 10:00 ERROR more"]
    *_, last = events_of(lines)
    assert (last.level, last.message) == (Level.ERROR, "27/11/2026 10:00 ERROR more")


def test_a_statement_of_postgresql_on_lines_of_its_own_keeps_its_level() -> None:
    lines = ["2026-11-27 10:00:00 UTC [42] ERROR:  boom", "2026-11-27 10:00:00 UTC [42] STATEMENT:  ", "\tSELECT 1"]
    assert [(event.level, event.message) for event in events_of(lines)] == [
        (Level.ERROR, "boom"),
        (Level.DEBUG, "\n\tSELECT 1"),
    ]


def test_a_line_without_a_time_gets_that_of_the_line_before_it() -> None:
    lines = ["2026-11-27 10:00:00 ERROR boom", "WARN: more"]
    first, second = events_of(lines)
    assert second.event_time == first.event_time
    assert second.notes == {ParseNote.NO_TIME}


def test_a_line_without_a_time_that_comes_after_a_tick_gets_none() -> None:
    lines = ["2026-11-27 10:00:00 ERROR boom", None, "WARN: more"]
    assert [event.event_time is None for event in events_of(lines)] == [False, True]


@pytest.mark.parametrize(
    ("level", "levels"), [("INFO", [Level.INFO, Level.ERROR]), ("ERROR", [Level.ERROR]), ("WARNING", [Level.WARN])]
)
@pytest.mark.parametrize(
    "crash",
    [
        ["Traceback (most recent call last):", '  File "a.py", line 1, in f', "ValueError: no"],
        ['Exception in thread "main" java.lang.X: no', "\tat a.B.c(B.java:1)"],
        ["thread 'main' panicked at src/main.rs:1:", "no"],
    ],
    ids=lambda crash: crash[0][:9],
)
def test_a_crash_does_not_continue_a_line_that_reports_no_problem(
    level: str, levels: list[Level], crash: list[str]
) -> None:
    events = events_of([*["2026-11-27 10:00:00 INFO fine"] * 3, f"2026-11-27 10:00:00 {level} last", *crash])
    assert [event.level for event in events[3:]] == levels
    assert events[-1].message.endswith("\n".join(crash))


TRACES = {
    "Python": [
        "Traceback (most recent call last):",
        '  File "a.py", line 1, in f',
        "KeyError: 'total'",
        "",
        "During handling of the above exception, another exception occurred:",
        "",
        "Traceback (most recent call last):",
        '  File "a.py", line 2, in g',
        "shop.db.OperationalError: (2006, 'gone')",
    ],
    "Ruby": ["[a-b] ArgumentError (boom):", "[a-b] app/a.rb:3:in `f'", "/app/b.rb:4:in 'X#g'", "app/c.rb:5:in `h'"],
    "Go": [
        "goroutine 17 [running]:",
        "main.(*Server).handle(0xc0000, {0x1, 0x2})",
        "\t/app/main.go:42 +0x1d",
        "net/http.(*conn).serve.func1()",
        "created by net/http.(*Server).Serve in goroutine 1",
        "exit status 2",
    ],
}


@pytest.mark.parametrize("trace", TRACES)
def test_traces_that_are_longer_than_the_rest_stay_with_their_events(trace: str) -> None:
    lines = ["2026-11-27 10:00:00,123 INFO fine", "2026-11-27 10:00:01,123 ERROR boom", *TRACES[trace]]
    events = events_of(lines * 20)
    assert [event.level for event in events] == [Level.INFO, Level.ERROR] * 20
    assert {event.message for event in events[1::2]} == {"\n".join(["boom", *filter(None, TRACES[trace])])}


def test_an_indented_line_with_time_and_level_is_an_event() -> None:
    lines = [
        "==> Vault server started! Log data will stream in below:",
        "    2026-11-27T10:00:00.123Z [INFO]  core: fine",
        "    2026-11-27T10:00:01.123Z [ERROR] core: boom",
        "      2026-11-27 is no line of its own",
    ]
    _, fine, boom = events_of(lines)
    assert (fine.level, boom.level) == (Level.INFO, Level.ERROR)
    assert boom.event_time == datetime(2026, 11, 27, 10, 0, 1, 123000, tzinfo=UTC)
    assert boom.message.endswith("no line of its own")
