from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.lines.formats import FORMATS, PLAIN, custom
from cli.lines.json_lines import parsed_json
from cli.lines.reading import detect, parsed
from cli.lines.values import level_of, time_of
from cli.source import read
from services.domain.level import Level

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DATA = Path(__file__).parents[4] / "shared" / "data"

LINES = [
    pytest.param(
        "openstack",
        "nova-api.log.1.2017-05-16_13:53:08 2017-05-16 00:00:00.008 25746 INFO nova.osapi_compute.wsgi.server [r]"
        ' 10.11.10.1 "GET /v2 HTTP/1.1" status: 200 len: 1893 time: 0.25',
        {"service": "nova-api", "level": Level.INFO, "status_code": 200, "response_time": 250.0},
        id="openstack",
    ),
    pytest.param(
        "bluegene",
        "- 1117838570 2005.06.03 R02-M1-N0 2005-06-03-15.42.50.675872 R02-M1-N0 RAS KERNEL FATAL parity error",
        {"service": "KERNEL", "level": Level.FATAL, "host": "R02-M1-N0", "message": "parity error"},
        id="bluegene",
    ),
    pytest.param(
        "apache-error",
        "[Sun Dec 04 04:47:44 2005] [error] mod_jk child in error state 6",
        {"level": Level.ERROR, "message": "mod_jk child in error state 6"},
        id="apache",
    ),
    pytest.param(
        "access",
        '10.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /x HTTP/1.0" 503 2326 "-" "curl"',
        {"status_code": 503, "event_time": datetime(2000, 10, 10, 20, 55, 36, tzinfo=UTC)},
        id="access",
    ),
    pytest.param(
        "postgresql",
        "2026-11-23 11:00:00.123 UTC [42] FATAL:  the database system is starting up",
        {"level": Level.FATAL, "message": "the database system is starting up"},
        id="postgresql",
    ),
    pytest.param(
        "redis",
        "42:M 23 Nov 2026 11:00:00.123 # WARNING overcommit_memory is set to 0!",
        {"level": Level.WARN, "event_time": datetime(2026, 11, 23, 11, 0, 0, 123000, tzinfo=UTC)},
        id="redis",
    ),
    pytest.param(
        "log4j",
        "[2026-11-23 11:00:00,123] ERROR Disk failed (kafka.server.LogDirFailureHandler)",
        {"level": Level.ERROR, "message": "Disk failed", "attributes": {"logger": "kafka.server.LogDirFailureHandler"}},
        id="kafka",
    ),
    pytest.param(
        "syslog",
        "Dec 24 10:00:00 web-1 sshd[42]: Failed password for root",
        {"service": "sshd", "host": "web-1", "event_time": datetime(2025, 12, 24, 10, tzinfo=UTC)},
        id="syslog of last year",
    ),
    pytest.param(
        "time-level", "2026-11-23T11:00:00Z [warning] slow", {"level": Level.WARN, "message": "slow"}, id="time, level"
    ),
    pytest.param(
        "time-level",
        "2026-11-23 11:00:00,123 - app.db - ERROR - boom",
        {"level": Level.ERROR, "message": "boom", "attributes": {"logger": "app.db"}},
        id="python, with the logger",
    ),
    pytest.param(
        "time-level",
        "2026-11-23 11:00:00,123 ERROR boom",
        {"level": Level.ERROR, "message": "boom", "attributes": {}},
        id="python, without",
    ),
    pytest.param(
        "python",
        "CRITICAL:app.db:boom",
        {"level": Level.FATAL, "message": "boom", "attributes": {"logger": "app.db"}},
        id="python's basicConfig",
    ),
    pytest.param(
        "time-level",
        "17/06/09 20:10:40 WARN executor.Executor: slow",
        {"level": Level.WARN, "event_time": datetime(2017, 6, 9, 20, 10, 40, tzinfo=UTC)},
        id="spark",
    ),
    pytest.param(
        "time-level",
        "14:05:11.123 [http-nio-1 x] ERROR c.e.App - boom",
        {
            "level": Level.ERROR,
            "event_time": datetime(2026, 11, 22, 14, 5, 11, 123000, tzinfo=UTC),
            "attributes": {"thread": "http-nio-1 x"},
        },
        id="logback, of yesterday",
    ),
    pytest.param(
        "klog",
        "E0102 15:04:05.678901       1 reflector.go:138] Failed to watch",
        {
            "level": Level.ERROR,
            "message": "Failed to watch",
            "event_time": datetime(2026, 1, 2, 15, 4, 5, 678901, tzinfo=UTC),
        },
        id="klog",
    ),
    pytest.param(
        "logfmt",
        r'ts=2026-11-23T11:00:00Z level=error msg="it is \"broken\"" service=shop n=3',
        {"level": Level.ERROR, "message": 'it is "broken"', "service": "shop", "attributes": {"n": "3"}},
        id="logfmt",
    ),
    pytest.param(
        "syslog-5424",
        r'<35>1 2026-11-23T11:00:00.003Z web-1 sshd 42 - [a@1 b="\]"][c@1] no route',
        {"level": Level.ERROR, "service": "sshd", "host": "web-1", "message": "no route"},
        id="syslog of RFC 5424",
    ),
    pytest.param(
        "syslog", "<34>Oct 11 22:14:15 web-1 su: failed", {"level": Level.FATAL, "service": "su"}, id="syslog, priority"
    ),
    pytest.param("level-first", "ERROR: no space left", {"level": Level.ERROR, "message": "no space left"}, id="level"),
]


@pytest.mark.parametrize(("name", "line", "expected"), LINES)
def test_a_line_is_recognised_and_read(name: str, line: str, expected: dict[str, object]) -> None:
    kind = detect([line])
    event = parsed(line, kind, service="default", now=NOW)
    assert kind.name == name
    assert event is not None
    assert {field: getattr(event, field) for field in expected} == expected


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("start", "part"),
    [
        ("2026-11-23 10:00:00 ", "-"),
        ("2026-11-23 10:00:00 ", "a"),
        ('a a a [x] "GET ', "x"),
        ("level=x ", "a=b "),
        ("<1>1 - - - - - ", "[a"),
        ("", "a "),
    ],
)
def test_a_long_line_that_fits_nearly_is_gone_through_once(start: str, part: str) -> None:
    assert detect([start + part * 200_000 + '"']) is PLAIN


def test_what_fits_no_format_is_plain() -> None:
    assert detect(["hello", "world", ""]) is PLAIN


def test_lines_that_do_not_fit_continue_the_event_before_them() -> None:
    lines = ["ERROR: boom", "  at f()", "", "  at g()", "ERROR: again"]
    _, (first, second) = read(iter(lines), kind=detect(lines[:1]), service="s", now=NOW)
    assert (first.event.message, first.first_line, first.line_count) == ("boom\n  at f()\n  at g()", 1, 3)
    assert (second.event.message, second.first_line, second.line_count) == ("again", 5, 1)


def test_a_custom_pattern_names_fields_and_attributes() -> None:
    kind = custom(r"(?P<level>\w)/(?P<service>\w+) took (?P<response_seconds>[\d.]+): (?P<message>.*) u=(?P<user>\w+)")
    event = parsed("E/shop took 1.5: failed u=ann", kind, service="", now=NOW)
    assert event is not None
    assert (event.level, event.service, event.response_time) == (Level.ERROR, "shop", 1500.0)
    assert event.attributes == {"user": "ann"}


@pytest.mark.parametrize(("pattern", "said"), [("(", "not a regular expression"), ("(?P<level>.*)", "named message")])
def test_a_bad_custom_pattern_is_refused_with_its_reason(pattern: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        custom(pattern)


def test_json_lines_know_the_names_that_loggers_use() -> None:
    line = (
        '{"msg":"m","severity":"err","ts":1700000000,"service":{"name":"s"},"statusCode":504,"a":{"b":true},"n":null}'
    )
    event = parsed_json(line, service="", now=NOW)
    assert event is not None
    assert (event.message, event.level, event.service, event.status_code) == ("m", Level.ERROR, "s", 504)
    assert event.event_time == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert event.attributes == {"a.b": "true"}


def test_levels_are_known_in_any_case() -> None:
    assert [level_of(word) for word in ("warning", "Err", "NOTICE", "?")] == [Level.WARN, Level.ERROR, Level.INFO, None]


@pytest.mark.parametrize(
    ("number", "level"),
    [
        ("60", Level.FATAL),
        ("50", Level.ERROR),
        ("35", Level.INFO),
        ("10", Level.TRACE),
        ("3", Level.ERROR),
        ("99", None),
    ],
)
def test_levels_are_known_by_the_numbers_of_pino_and_syslog(number: str, level: Level | None) -> None:
    assert level_of(number) == level


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("2026-07-01 12:00:00", 10),
        ("2026-01-01 12:00:00", 11),
        ("2026-01-01 12:00:00.5 CET", 11),
        ("01/Jul/2026:12:00:00 +0000", 12),
        ("2026-07-01T12:00:00Z", 12),
        ("Jul  1 12:00:00", 10),
        ("11:59:00", 10),
    ],
)
def test_a_time_without_a_zone_is_in_the_zone_that_was_asked_for(text: str, hour: int) -> None:
    moment = time_of(text, now=NOW, zone=ZoneInfo("Europe/Berlin"))
    assert moment is not None
    assert (moment.tzinfo, moment.hour) == (UTC, hour)


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
def test_a_number_is_the_time_since_1970_in_its_unit(unit: int) -> None:
    assert time_of(str(1_700_000_000 * unit), now=NOW) == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


def test_29_february_is_that_of_the_last_leap_year() -> None:
    assert time_of("Feb 29 12:00:00", now=NOW) == datetime(2024, 2, 29, 12, tzinfo=UTC)


def test_a_time_that_is_none_is_none() -> None:
    for text in ("not a time", "1764245000.x", "²" * 10, "0001-01-01T00:00:00+10:00", "2026-01-01 12:00:00 XYZ"):
        assert time_of(text, now=NOW) is None, text


@given(st.lists(st.text(alphabet=st.characters(exclude_characters="\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"))))
def test_every_line_is_in_exactly_one_event_or_blank(lines: list[str]) -> None:
    for kind in (*FORMATS, PLAIN):
        _, found = read(iter(lines), kind=kind, service="s", now=NOW)
        assert sum(item.line_count for item in found) == sum(bool(line.strip()) for line in lines)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real logs are not here")
@pytest.mark.parametrize(
    ("name", "kind"),
    [("OpenStack_2k.log", "openstack"), ("BGL_2k.log", "bluegene"), ("Apache_2k.log", "apache-error")],
)
def test_each_line_of_a_real_log_is_one_event_with_a_time(name: str, kind: str) -> None:
    lines = (DATA / name).read_text().splitlines()
    found = detect(lines[:200])
    assert found.name == kind
    items = list(read(iter(lines), kind=found, service="s", now=NOW)[1])
    assert len(items) == len(lines) == 2000
    assert all(item.event.event_time for item in items)
