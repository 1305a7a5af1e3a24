"""Which format a file has, which lines go on with the one before, and what is told of what was not understood."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.parsing.event import Note
from cli.parsing.file_parser import Reader
from cli.parsing.format_types import LineFormat
from cli.parsing.formats import FORMATS, TRANSPORTS, custom
from cli.send.log_file import read
from services.domain.level import Level
from tests.fakes.clock import FakeClock
from tests.unit.cli.reading import NOW as NOON
from tests.unit.cli.reading import event_of, events_of

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DATA = Path(__file__).parents[4] / "shared" / "data"

CLOCK = FakeClock(NOW)


def reader_of(*lines: str) -> Reader:
    return Reader(lines, kind=None, service="s", now=CLOCK.now)


@pytest.mark.parametrize("kind", [*FORMATS, *TRANSPORTS], ids=lambda kind: kind.name)
def test_a_format_is_recognised_by_its_own_example(kind: LineFormat) -> None:
    lines = [kind.example, "2026-11-27 10:00:00 192.0.2.1 GET /cart 503 12"][: 2 if kind.name == "w3c" else 1]
    assert kind.name in reader_of(*lines).name.split("/")


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("start", "part"),
    [
        ("2026-11-23 10:00:00 ", "-"),
        ("2026-11-23 10:00:00 ", "a"),
        ("2026-11-23 10:00:00 ", "[a] "),
        ("2026-11-23 10:00:00 ERROR ", "a."),
        ("2026-11-23 10:00:00 UTC [1] ", "user=a,db="),
        ('a a a [x] "GET ', "x"),
        ('a a a [27/Nov/2026:10:00:00 +0000] "GET ', "\\\\"),
        ("a - ", "a "),
        ("level=x ", "a=b "),
        ("level=x ", "a "),
        ("<1>1 - - - - - ", "[a"),
        ("", "a "),
        ("", "a."),
        ("", "\x1b["),
        ("", "\x1b]"),
        ("", "{"),
        ("#Fields: ", "a "),
        ("a-1 ", " "),
        ("at=x ", '"'),
        ("at=x ", "::a"),
        ("", "a.b("),
        ("a.b(", ")"),
        ("", "a:1"),
        ("", "Error,"),
        ("2026-11-27 10:00:00 ", "a  "),
        ("2026-11-27 10:00:00 ", "a[1]"),
    ],
)
def test_a_long_line_that_fits_nearly_is_gone_through_once(start: str, part: str) -> None:
    line = start + part * 200_000 + '"'
    for kind in FORMATS:
        kind.fresh().found(line)
    assert events_of([line])


def test_a_format_that_is_asked_for_refuses_what_comes_before_its_first_line() -> None:
    (json,) = (kind for kind in FORMATS if kind.name == "json")
    for lines in ([], ["banner", "hello"]):
        _, reads = read(iter([*lines, "orphan"]), kind=json, service="s", clock=CLOCK)
        (item,) = reads
        assert item is not None
        assert (item.event.field, item.event.expected) == ("line", "a JSON object")


def test_what_fits_no_format_is_plain() -> None:
    assert reader_of("hello", "world", "").name == "plain"


def test_lines_that_do_not_fit_continue_the_event_before_them() -> None:
    lines = ["ERROR: boom", "  at f()", "", "  at g()", "ERROR: again"]
    _, (first, second) = read(iter(lines), kind=None, service="s", clock=CLOCK)
    assert (first.event.message, first.first_line, first.line_count) == ("boom\n  at f()\n  at g()", 1, 3)
    assert (second.event.message, second.first_line, second.line_count) == ("again", 5, 1)


ACCESS = '198.51.100.1 - - [27/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 1 "-" "-"'


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ('192.0.2.1 - - [27/Nov/2026:10:00:01 +0000] "" 400 0 "-" "-"', 400),
        ('192.0.2.1 - - [27/Nov/2026:10:00:01 +0000] "-" 408 - "-" "-"', 408),
        (r'192.0.2.1 - - [27/Nov/2026:10:00:01 +0000] "\x16\x03" 400 1 "-" "-"', 400),
        (r'192.0.2.1 - - [27/Nov/2026:10:00:01 +0000] "GET /?q=\"a\" HTTP/1.1" 503 1 "-" "-"', 503),
        ('192.0.2.1 - - [27/Nov/2026:10:00:01 +0000] "M-SEARCH * HTTP/1.1" 405 1 "-" "-"', 405),
        ('192.0.2.1 - Jo Doe [27/Nov/2026:10:00:01 +0000] "GET / HTTP/1.1" 401 1 "-" "-"', 401),
        ('2001:db8::1 - - [27/Nov/2026:10:00:01 +0000] "GET / HTTP/1.1" 503 1 "-" "-"', 503),
        ('192.0.2.1 - - [27/Nov/2026:10:00:01 +0000] "GET / HTTP/1.1', None),
        ("192.0.2.1 - - [27/Nov/2026:10:00:01 +0000] (unreadable)", None),
    ],
)
def test_a_request_of_any_form_is_an_event_of_its_own(line: str, status: int | None) -> None:
    _, second = events_of([ACCESS, line])
    assert second.status_code == status
    assert second.event_time == datetime(2026, 11, 27, 10, 0, 1, tzinfo=UTC)


def test_no_line_of_an_access_log_goes_on_with_another() -> None:
    first, second = events_of([ACCESS, "(something else)"])
    assert "something" not in first.message
    assert (second.message, second.notes) == ("(something else)", {Note.NO_TIME, Note.NO_LEVEL})


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


def test_a_stack_trace_in_a_container_goes_on_within_its_stream() -> None:
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


def test_a_blank_line_of_a_container_goes_on_or_is_told_as_one() -> None:
    lines = [f"2026-11-27T10:00:00.1Z stdout F {text}" for text in ("", "ERROR: boom", "", "  more")]
    assert [event.message for event in events_of(lines)] == ["(blank line)", "boom\n\n  more"]


def test_many_streams_in_one_file_are_held_within_a_bound() -> None:
    lines = [f"web-{number}  | ERROR: boom" for number in range(1000)]
    _, reads = read(iter(lines), kind=None, service="s", clock=CLOCK)
    assert next(reads).first_line == 1
    assert len(list(reads)) == 999


def test_an_unfinished_part_is_handed_on_after_a_moment() -> None:
    line = "2026-11-27T10:00:00.1Z stderr P ERROR: half"
    _, reads = read(iter([line, None, None, None, None]), kind=None, service="s", clock=CLOCK)
    assert [item and item.event.message for item in reads] == [None, None, "half", None, None]


def test_an_entry_of_the_journal_with_many_fields_is_taken() -> None:
    fields = "".join(f',"_FIELD_{number}":"x"' for number in range(40))
    event = event_of(f'{{"MESSAGE":"boom","PRIORITY":"3","__REALTIME_TIMESTAMP":"1795773600123456"{fields}}}')
    assert (event.level, event.message) == (Level.ERROR, "boom")
    assert event.event_time == datetime(2026, 11, 27, 10, 0, 0, 123456, tzinfo=UTC)
    assert len(event.attributes) == 32
    assert event.notes == {Note.ATTRIBUTES_LEFT_OUT}


@pytest.mark.parametrize(
    ("pair", "field", "value", "note"),
    [
        ('"traceId":"a3ce929d0e0e4736"', "trace_id", "0" * 16 + "a3ce929d0e0e4736", Note.TRACE_ID_PADDED),
        ('"traceId":"0AF76519-16CD-43DD-8448-EB211C80319C"', "trace_id", "0af7651916cd43dd8448eb211c80319c", None),
        ('"traceId":"x"', "attributes", {"trace_id": "x"}, Note.TRACE_ID_KEPT),
        ('"status":503', "status_code", 503, None),
        ('"status":"503"', "status_code", 503, None),
        ('"status":1006', "attributes", {"status_code": "1006"}, Note.STATUS_KEPT),
        ('"status":"ok"', "attributes", {"status": "ok"}, None),
        ('"statusCode":99999999999999', "attributes", {"status_code": "99999999999999"}, Note.STATUS_KEPT),
        ('"responseTime":"12ms"', "response_time", 12.0, Note.DURATION_CONVERTED),
        ('"responseTime":"1.5s"', "response_time", 1500.0, Note.DURATION_CONVERTED),
        ('"responseTime":"250µs"', "response_time", 0.25, Note.DURATION_CONVERTED),
        ('"responseTime":12', "response_time", 12.0, None),
        ('"request_time":0.5', "response_time", 500.0, None),
        ('"event":{"duration":12000000}', "response_time", 12.0, None),
        ('"responseTime":1e999', "attributes", {"response_time": "Infinity"}, Note.DURATION_KEPT),
        ('"responseTime":-1', "attributes", {"response_time": "-1"}, Note.DURATION_KEPT),
        ('"responseTime":"soon"', "attributes", {"response_time": "soon"}, Note.DURATION_KEPT),
        (f'"recordId":"{"k" * 129}"', "record_id", "k" * 128, Note.TEXT_CUT),
        (f'"host":"{"k" * 300}"', "host", "k" * 256, Note.TEXT_CUT),
        (f'"a":"{"k" * 1025}"', "attributes", {"a": "k" * 1024}, Note.TEXT_CUT),
        (f'"{"k" * 129}":1', "attributes", {"k" * 128: "1"}, Note.TEXT_CUT),
        (r'"a":"\ud800"', "attributes", {"a": "\ufffd"}, Note.TEXT_REPLACED),
        ('"a":"\ufffd"', "attributes", {"a": "\ufffd"}, Note.TEXT_REPLACED),
        (r'"\udfff":"a"', "attributes", {"\ufffd": "a"}, Note.TEXT_REPLACED),
        ('"priority":"high"', "attributes", {"priority": "high"}, None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_an_odd_value_at_the_side_does_not_refuse_an_event(
    pair: str, field: str, value: object, note: Note | None
) -> None:
    event = event_of(f'{{"level":"ERROR","time":"2026-11-27T10:00:00Z","message":"boom",{pair}}}')
    assert (event.level, event.message) == (Level.ERROR, "boom")
    assert getattr(event, field) == value
    assert event.notes == ({note} if note else set())


@pytest.mark.parametrize(
    ("pairs", "field", "value"),
    [
        ('"time":"0.123","timestamp":"2026-11-27T10:00:00Z"', "event_time", datetime(2026, 11, 27, 10, tzinfo=UTC)),
        ('"level":"http","severity":"error"', "level", Level.ERROR),
        ('"duration":"12ms"', "response_time", 12.0),
        ('"duration":0.012', "attributes", {"duration": "0.012"}),
        ('"level":400,"level_name":"WARNING"', "level", Level.WARN),
        ('"message":"short","msg":"other"', "attributes", {"msg": "other"}),
    ],
)
def test_of_several_names_for_a_field_the_surest_whose_value_fits_counts(pairs: str, field: str, value: object) -> None:
    assert getattr(event_of(f"{{{pairs}}}"), field) == value


def test_what_begins_with_a_date_of_an_unknown_spelling_is_a_line_of_its_own() -> None:
    lines = ["2026-11-27 10:00:00 ERROR boom"] * 3 + ["27/11/2026 10:00 ERROR more"]
    *_, last = events_of(lines)
    assert (last.level, last.message) == (Level.ERROR, "27/11/2026 10:00 ERROR more")


def test_what_only_looks_like_a_time_in_a_line_does_not_refuse_it() -> None:
    assert event_of("the shop was closed on 2026-13-45 10:00:00, said one").notes == {Note.NO_TIME, Note.NO_LEVEL}


def test_an_unknown_level_is_told_with_its_word() -> None:
    event = event_of('{"level":"sev5","time":"2026-11-27T10:00:00Z","message":"boom"}')
    assert (event.level, event.unknown_level, event.notes) == (Level.INFO, "sev5", {Note.UNKNOWN_LEVEL})


def test_a_statement_of_postgresql_on_lines_of_its_own_keeps_its_level() -> None:
    lines = ["2026-11-27 10:00:00 UTC [42] ERROR:  boom", "2026-11-27 10:00:00 UTC [42] STATEMENT:  ", "\tSELECT 1"]
    assert [(event.level, event.message) for event in events_of(lines)] == [
        (Level.ERROR, "boom"),
        (Level.DEBUG, "\n\tSELECT 1"),
    ]


def test_a_line_without_a_level_is_told() -> None:
    assert event_of('{"time":"2026-11-27T10:00:00Z","path":"/","status":503}').notes == set()
    assert event_of("Nov 27 10:00:00 web-1 shop[42]: started").notes == {Note.NO_LEVEL}
    assert event_of(ACCESS).notes == set()


def test_a_graver_priority_of_syslog_counts_more_than_the_text() -> None:
    assert event_of("<11>Nov 27 10:00:00 web-1 shop[42]: INFO done").level is Level.ERROR
    assert event_of("<14>Nov 27 10:00:00 web-1 shop[42]: ERROR boom").level is Level.ERROR


def test_a_record_of_syslog_without_a_message_has_none() -> None:
    event = event_of("<11>1 2026-11-27T10:00:00.003Z web-1 shop 42 - -")
    assert (event.service, event.level, event.message) == ("shop", Level.ERROR, "")


def test_a_line_without_a_time_happened_with_the_one_before_it() -> None:
    lines = ["2026-11-27 10:00:00 ERROR boom", "WARN: more"]
    first, second = events_of(lines)
    assert second.event_time == first.event_time
    assert second.notes == {Note.NO_TIME}


def test_a_line_without_a_time_that_comes_later_happened_as_it_arrives() -> None:
    lines = ["2026-11-27 10:00:00 ERROR boom", None, "WARN: more"]
    _, reads = read(iter(lines), kind=None, service="s", clock=CLOCK)
    assert [item.event.event_time is None for item in reads if item] == [False, True]


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
def test_a_crash_is_no_part_of_a_line_that_told_of_none(level: str, levels: list[Level], crash: list[str]) -> None:
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


@pytest.mark.parametrize(
    "before",
    ["2026-11-27T10:00:00Z", "Nov 27 10:00:00 web-1 shop[42]:", "2026-11-27T10:00:00Z stdout F", "Nov 27 10:00:00"],
)
def test_a_time_that_a_line_tells_of_is_not_when_it_happened(before: str) -> None:
    event = event_of(f"{before} certificate expires 2027-01-01T00:00:00Z")
    assert event.event_time == datetime(2026, 11, 27, 10, 0, tzinfo=UTC)
    assert event.message == "certificate expires 2027-01-01T00:00:00Z"


def test_an_indented_line_that_says_time_and_level_is_an_event() -> None:
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


def test_the_last_resort_finds_a_time_and_a_level_in_any_line() -> None:
    event = event_of("the shop (at 2026-11-27 10:00:00) says: ERROR in cart")
    assert (event.level, event.event_time) == (Level.ERROR, datetime(2026, 11, 27, 10, tzinfo=UTC))


def test_a_sentence_before_a_time_or_a_level_stays_in_the_message() -> None:
    lines = ["2026-11-27 10:00:00 INFO fine", "Caused by: no answer since 2026-11-27 09:00:00"]
    (event,) = events_of(lines)
    assert event.message == "fine\nCaused by: no answer since 2026-11-27 09:00:00"
    assert event_of("2026-11-27 10:00:00 a user typed ERROR twice").message == "a user typed ERROR twice"


def test_a_custom_pattern_names_fields_and_attributes() -> None:
    kind = custom(r"(?P<level>\w)/(?P<service>\w+) took (?P<response_seconds>[\d.]+): (?P<message>.*) u=(?P<user>\w+)")
    event = event_of("E/shop took 1.5: failed u=ann", kind=kind)
    assert (event.level, event.service, event.response_time) == (Level.ERROR, "shop", 1500.0)
    assert event.attributes == {"user": "ann"}


@pytest.mark.parametrize(("pattern", "said"), [("(", "not a regular expression"), ("(?P<level>.*)", "named message")])
def test_a_bad_custom_pattern_is_refused_with_its_reason(pattern: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        custom(pattern)


def test_json_lines_know_the_names_that_loggers_use() -> None:
    event = event_of(
        '{"msg":"m","severity":"err","ts":1700000000,"service":{"name":"s"},"statusCode":504,"a":{"b":true},"n":null}'
    )
    assert (event.message, event.level, event.service, event.status_code) == ("m", Level.ERROR, "s", 504)
    assert event.event_time == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert event.attributes == {"a.b": "true"}


def test_now_is_asked_for_each_line() -> None:
    clock = FakeClock(NOON)

    def lines() -> Iterator[str | None]:
        yield "11:59:00.000 [main] ERROR c.e.App - boom"
        yield None
        clock.advance(timedelta(hours=1))
        yield "12:59:30.000 [main] ERROR c.e.App - boom"

    _, reads = read(lines(), kind=None, service="s", clock=clock)
    times = [item.event.event_time for item in reads if item]
    assert times == [datetime(2026, 11, 27, 11, 59, tzinfo=UTC), datetime(2026, 11, 27, 12, 59, 30, tzinfo=UTC)]


def test_fields_of_w3c_are_those_that_the_file_names() -> None:
    lines = [
        "#Software: Microsoft Internet Information Services 10.0",
        "#Fields: date time c-ip cs-method cs-uri-stem sc-status time-taken",
        "2026-11-27 10:00:00 192.0.2.1 GET /cart 503 12",
        "2026-11-27 10:00:01 192.0.2.1 GET - 200 -",
    ]
    *_, third, fourth = events_of(lines)
    assert (third.status_code, third.response_time, third.level) == (503, 12.0, Level.INFO)
    assert third.event_time == datetime(2026, 11, 27, 10, tzinfo=UTC)
    assert (fourth.status_code, fourth.response_time) == (200, None)
    assert events_of([lines[2]])[0].status_code is None


@given(st.lists(st.text(alphabet=st.characters(exclude_characters="\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"))))
def test_every_line_is_in_exactly_one_event_or_blank(lines: list[str]) -> None:
    for kind in (*FORMATS, None):
        _, found = read(iter(lines), kind=kind, service="s", clock=CLOCK)
        assert sum(item.line_count for item in found) == sum(bool(line.strip()) for line in lines)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real logs are not here")
@pytest.mark.parametrize(
    ("name", "kind"),
    [("OpenStack_2k.log", "openstack"), ("BGL_2k.log", "bluegene"), ("Apache_2k.log", "time-level")],
)
def test_each_line_of_a_real_log_is_one_event_with_a_time(name: str, kind: str) -> None:
    lines = (DATA / name).read_text().splitlines()
    reader, reads = read(iter(lines), kind=None, service="s", clock=CLOCK)
    items = list(reads)
    assert reader.name == kind
    assert len(items) == len(lines) == 2000
    assert all(item.event.event_time and not item.event.notes for item in items)
