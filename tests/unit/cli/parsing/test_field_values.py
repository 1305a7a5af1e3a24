"""Invalid values are converted, cut or kept, and noted; they never refuse an event."""

import pytest

from cli.parsing.event import ParseNote
from services.domain.level import Level
from tests.unit.cli.parsing.log_lines import event_of


@pytest.mark.parametrize(
    ("pair", "field", "value", "note"),
    [
        ('"traceId":"a3ce929d0e0e4736"', "trace_id", "0" * 16 + "a3ce929d0e0e4736", ParseNote.TRACE_ID_PADDED),
        ('"traceId":"0AF76519-16CD-43DD-8448-EB211C80319C"', "trace_id", "0af7651916cd43dd8448eb211c80319c", None),
        ('"traceId":"x"', "attributes", {"trace_id": "x"}, ParseNote.TRACE_ID_KEPT),
        ('"status":503', "status_code", 503, None),
        ('"status":"503"', "status_code", 503, None),
        ('"status":1006', "attributes", {"status_code": "1006"}, ParseNote.STATUS_KEPT),
        ('"status":"ok"', "attributes", {"status": "ok"}, None),
        ('"statusCode":99999999999999', "attributes", {"status_code": "99999999999999"}, ParseNote.STATUS_KEPT),
        ('"responseTime":"12ms"', "response_time", 12.0, ParseNote.DURATION_CONVERTED),
        ('"responseTime":"1.5s"', "response_time", 1500.0, ParseNote.DURATION_CONVERTED),
        ('"responseTime":"250µs"', "response_time", 0.25, ParseNote.DURATION_CONVERTED),
        ('"responseTime":12', "response_time", 12.0, None),
        ('"request_time":0.5', "response_time", 500.0, None),
        ('"event":{"duration":12000000}', "response_time", 12.0, None),
        ('"responseTime":1e999', "attributes", {"response_time": "Infinity"}, ParseNote.DURATION_KEPT),
        ('"responseTime":-1', "attributes", {"response_time": "-1"}, ParseNote.DURATION_KEPT),
        ('"responseTime":"soon"', "attributes", {"response_time": "soon"}, ParseNote.DURATION_KEPT),
        (f'"recordId":"{"k" * 129}"', "record_id", "k" * 128, ParseNote.TEXT_CUT),
        (f'"host":"{"k" * 300}"', "host", "k" * 256, ParseNote.TEXT_CUT),
        (f'"a":"{"k" * 1025}"', "attributes", {"a": "k" * 1024}, ParseNote.TEXT_CUT),
        (f'"{"k" * 129}":1', "attributes", {"k" * 128: "1"}, ParseNote.TEXT_CUT),
        (r'"a":"\ud800"', "attributes", {"a": "\ufffd"}, ParseNote.TEXT_REPLACED),
        ('"a":"\ufffd"', "attributes", {"a": "\ufffd"}, ParseNote.TEXT_REPLACED),
        (r'"\udfff":"a"', "attributes", {"\ufffd": "a"}, ParseNote.TEXT_REPLACED),
        ('"priority":"high"', "attributes", {"priority": "high"}, None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_an_invalid_value_of_a_side_field_does_not_refuse_an_event(
    pair: str, field: str, value: object, note: ParseNote | None
) -> None:
    event = event_of(f'{{"level":"ERROR","time":"2026-11-27T10:00:00Z","message":"boom",{pair}}}')
    assert (event.level, event.message) == (Level.ERROR, "boom")
    assert getattr(event, field) == value
    assert event.notes == ({note} if note else set())


def test_a_text_that_only_looks_like_a_time_does_not_refuse_a_line() -> None:
    assert event_of("the shop was closed on 2026-13-45 10:00:00, said one").notes == {
        ParseNote.NO_TIME,
        ParseNote.NO_LEVEL,
    }


def test_an_unknown_level_is_noted_with_its_text() -> None:
    event = event_of('{"level":"sev5","time":"2026-11-27T10:00:00Z","message":"boom"}')
    assert (event.level, event.unknown_level) == (Level.INFO, "sev5")
    assert event.notes == {ParseNote.UNKNOWN_LEVEL}


ACCESS = '198.51.100.1 - - [27/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 1 "-" "-"'


def test_a_line_without_a_level_is_noted() -> None:
    assert event_of('{"time":"2026-11-27T10:00:00Z","path":"/","status":503}').notes == set()
    assert event_of("Nov 27 10:00:00 web-1 shop[42]: started").notes == {ParseNote.NO_LEVEL}
    assert event_of(ACCESS).notes == set()


def test_a_higher_priority_of_syslog_wins_over_the_text() -> None:
    assert event_of("<11>Nov 27 10:00:00 web-1 shop[42]: INFO done").level is Level.ERROR
    assert event_of("<14>Nov 27 10:00:00 web-1 shop[42]: ERROR boom").level is Level.ERROR


def test_a_record_of_syslog_without_a_message_has_none() -> None:
    event = event_of("<11>1 2026-11-27T10:00:00.003Z web-1 shop 42 - -")
    assert (event.service, event.level, event.message) == ("shop", Level.ERROR, "")
