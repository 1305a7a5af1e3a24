"""Each format is recognised and parsed; custom patterns, JSON, W3C, access logs."""

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

import pytest

from cli.parsing.event import ParseNote
from cli.parsing.file_parser import FileParser
from cli.parsing.format_types import LineFormat
from cli.parsing.formats import CONTAINER_FORMATS, FORMATS, custom_format
from services.domain.level import Level
from tests.unit.cli.parsing.log_lines import NOON, event_of, events_of


@pytest.mark.parametrize("line_format", [*FORMATS, *CONTAINER_FORMATS], ids=lambda one: one.name)
def test_a_format_is_recognised_by_its_own_example(line_format: LineFormat) -> None:
    name = line_format.name
    lines = [line_format.example, "2026-11-27 10:00:00 192.0.2.1 GET /cart 503 12"][: 2 if name == "w3c" else 1]
    parser = FileParser(lines, line_format=None, service="s", now=lambda: NOON)
    assert name in parser.name.split("/")


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
def test_a_long_line_that_nearly_fits_is_read_once(start: str, part: str) -> None:
    line = start + part * 200_000 + '"'
    for line_format in FORMATS:
        line_format.for_new_file().parse(line)
    assert events_of([line])


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


@pytest.mark.parametrize("zone", [UTC, ZoneInfo("Europe/Berlin")])
def test_seconds_since_1970_tell_the_zone_of_the_time_beside_them(zone: tzinfo) -> None:
    line = "- 1117838570 2005.06.03 R02 2005-06-03-15.42.50.675872 R02 RAS KERNEL INFO parity error corrected"
    (event,) = events_of([line], zone=zone)
    assert event.event_time == datetime(2005, 6, 3, 22, 42, 50, 675872, tzinfo=UTC)


def test_an_entry_of_the_journal_with_many_fields_is_an_event() -> None:
    fields = "".join(f',"_FIELD_{number}":"x"' for number in range(40))
    event = event_of(f'{{"MESSAGE":"boom","PRIORITY":"3","__REALTIME_TIMESTAMP":"1795773600123456"{fields}}}')
    assert (event.level, event.message) == (Level.ERROR, "boom")
    assert event.event_time == datetime(2026, 11, 27, 10, 0, 0, 123456, tzinfo=UTC)
    assert len(event.attributes) == 32
    assert event.notes == {ParseNote.ATTRIBUTES_LEFT_OUT}


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
def test_of_several_names_for_a_field_the_clearest_whose_value_fits_wins(pairs: str, field: str, value: object) -> None:
    assert getattr(event_of(f"{{{pairs}}}"), field) == value


def test_a_custom_pattern_names_fields_and_attributes() -> None:
    pattern = r"(?P<level>\w)/(?P<service>\w+) took (?P<response_seconds>[\d.]+): (?P<message>.*) u=(?P<user>\w+)"
    event = event_of("E/shop took 1.5: failed u=ann", line_format=custom_format(pattern))
    assert (event.level, event.service, event.response_time) == (Level.ERROR, "shop", 1500.0)
    assert event.attributes == {"user": "ann"}


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "not a regular expression"),
        ("(?<message>.*)", r"a named group is \(\?P<name>\.\.\.\)"),
        ("(?P<level>.*)", "named message"),
    ],
)
def test_a_bad_custom_pattern_is_refused_with_its_reason(pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        custom_format(pattern)


def test_json_lines_know_the_names_that_loggers_use() -> None:
    event = event_of(
        '{"msg":"m","severity":"err","ts":1700000000,"service":{"name":"s"},"statusCode":504,"a":{"b":true},"n":null}'
    )
    assert (event.message, event.level, event.service, event.status_code) == ("m", Level.ERROR, "s", 504)
    assert event.event_time == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert event.attributes == {"a.b": "true"}


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
