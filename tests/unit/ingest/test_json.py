"""Events as JSON: what is read, what is put right, and what is refused."""

import gzip
import json
import math
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.failures import InvalidRequest, MalformedMessage, RequestTooLarge
from services.ingest.core.json_text import JsonText, json_text
from tests.fakes.ingest import Bench, a_bench
from tests.fakes.log_events import NOW, an_event
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import AdjustedEvents, AdjustedValue, IngestJsonRequest

OWN = {"service": "payment-service", "level": "ERROR", "message": "no connection"}
CURL = (
    b'{"service":"payment-service","level":"ERROR","message":"Database connection failed",'
    b'"statusCode":500,"responseTime":5000}'
)


def with_(text: str) -> bytes:
    """An allowed event's JSON, with this text behind its last field."""
    return json.dumps(OWN)[:-1].encode() + b"," + text.encode() + b"}"


def said(adjusted: AdjustedEvents) -> set[str]:
    return {f"{value.field} {AdjustedValue.Action.Name(value.action)}" for value in adjusted.values}


@pytest.fixture
def bench() -> Bench:
    return a_bench(max_attributes=32, max_message_bytes=200)


async def test_the_users_own_curl_line_is_read(bench: Bench) -> None:
    answer = await bench.ingest_json(CURL)
    assert (answer.accepted_count, answer.HasField("adjusted")) == (1, False)
    assert list(bench.stream.events) == [
        an_event(message="Database connection failed", status_code=500, response_time=5000.0)
    ]


@pytest.mark.parametrize(
    ("text", "fields", "changes"),
    [
        pytest.param(
            '"status_code":"500","response_time":"1.5"', {"status_code": 500, "response_time": 1.5}, "", id="1"
        ),
        pytest.param('"statusCode":5e2', {"status_code": 500}, "", id="an integer as a double"),
        pytest.param('"statusCode":null,"host":null,"attributes":null,"x":null', {}, "", id="null is absent"),
        pytest.param(
            '"traceId":"a3ce929d0e0e4736"', {"trace_id": "0" * 16 + "a3ce929d0e0e4736"}, "traceId PADDED", id="short"
        ),
        pytest.param(
            '"statusCode":1006', {"attributes": {"status_code": "1006"}}, "statusCode KEPT_AS_ATTRIBUTE", id="1006"
        ),
        pytest.param(
            '"statusCode":"abc"', {"attributes": {"status_code": "abc"}}, "statusCode KEPT_AS_ATTRIBUTE", id="word"
        ),
        pytest.param(
            '"statusCode":"5_00","responseTime":"\\u0662\\u0660"',
            {"attributes": {"status_code": "5_00", "response_time": "\u0662\u0660"}},
            "statusCode KEPT_AS_ATTRIBUTE, responseTime KEPT_AS_ATTRIBUTE",
            id="numbers of Python only",
        ),
        pytest.param(
            '"statusCode":500.5', {"attributes": {"status_code": "500.5"}}, "statusCode KEPT_AS_ATTRIBUTE", id="half"
        ),
        pytest.param(
            '"statusCode":1e400', {"attributes": {"status_code": "1e400"}}, "statusCode KEPT_AS_ATTRIBUTE", id="1e400"
        ),
        pytest.param(
            f'"statusCode":{"9" * 5000}',
            {"attributes": {"status_code": "9" * 1024}},
            "statusCode KEPT_AS_ATTRIBUTE, attributes CUT",
            id="a huge integer",
        ),
        pytest.param(
            '"statusCode":true', {"attributes": {"status_code": "true"}}, "statusCode KEPT_AS_ATTRIBUTE", id="true"
        ),
        pytest.param(
            '"statusCode":{"a":1}', {"attributes": {"status_code.a": "1"}}, "statusCode KEPT_AS_ATTRIBUTE", id="object"
        ),
        pytest.param('"responseTime":"12ms"', {"response_time": 12.0}, "responseTime CONVERTED", id="12ms"),
        pytest.param('"responseTime":"1.5 s"', {"response_time": 1500.0}, "responseTime CONVERTED", id="seconds"),
        pytest.param('"responseTime":"2m"', {"response_time": 120_000.0}, "responseTime CONVERTED", id="minutes"),
        pytest.param('"responseTime":"250us"', {"response_time": 0.25}, "responseTime CONVERTED", id="us"),
        pytest.param('"responseTime":"250µs"', {"response_time": 0.25}, "responseTime CONVERTED", id="micro sign"),
        pytest.param('"responseTime":"250μs"', {"response_time": 0.25}, "responseTime CONVERTED", id="Greek mu"),
        pytest.param('"responseTime":"5e5ns"', {"response_time": 0.5}, "responseTime CONVERTED", id="ns"),
        pytest.param(
            '"responseTime":"-5ms"',
            {"attributes": {"response_time": "-5ms"}},
            "responseTime KEPT_AS_ATTRIBUTE",
            id="-5ms",
        ),
        pytest.param(
            '"responseTime":-1', {"attributes": {"response_time": "-1"}}, "responseTime KEPT_AS_ATTRIBUTE", id="-1"
        ),
        pytest.param(
            '"responseTime":NaN', {"attributes": {"response_time": "NaN"}}, "responseTime KEPT_AS_ATTRIBUTE", id="NaN"
        ),
        pytest.param(
            '"responseTime":-Infinity',
            {"attributes": {"response_time": "-Infinity"}},
            "responseTime KEPT_AS_ATTRIBUTE",
            id="-Infinity",
        ),
        pytest.param(
            f'"responseTime":"{"9" * 300_000}x"',
            {"attributes": {"response_time": "9" * 1024}},
            "responseTime KEPT_AS_ATTRIBUTE, attributes CUT",
            id="many digits and no unit",
        ),
        pytest.param(
            '"responseTime":[1]',
            {"attributes": {"response_time": "[1]"}},
            "responseTime KEPT_AS_ATTRIBUTE",
            id="a list",
        ),
        pytest.param('"host":5', {"host": "5"}, "host CONVERTED", id="a number for a text"),
        pytest.param(
            '"host":{"name":"h"}', {"attributes": {"host.name": "h"}}, "host KEPT_AS_ATTRIBUTE", id="host as ECS has it"
        ),
        pytest.param('"recordId":false', {"record_id": "false"}, "recordId CONVERTED", id="false for a text"),
        pytest.param(
            '"attributes":["a"]', {"attributes": {"attributes": '["a"]'}}, "attributes KEPT_AS_ATTRIBUTE", id="no map"
        ),
        pytest.param(
            '"colour":"x","attributes":{"a":1,"b":true,"c":{"d":1.10}}',
            {"attributes": {"colour": "x", "a": "1", "b": "true", "c.d": "1.10"}},
            "",
            id="what the contract does not name",
        ),
        pytest.param(
            '"user":{"id":7,"tags":["a",{"b":[1e3,null,false,{},[]]}]}',
            {"attributes": {"user.id": "7", "user.tags": '["a",{"b":[1e3,null,false,{},[]]}]'}},
            "",
            id="objects and lists",
        ),
        pytest.param('"x":1,"x":2', {"attributes": {"x": "2"}}, "attributes LEFT_OUT", id="a key twice"),
        pytest.param('"host":"a","host":"b"', {"host": "b"}, "host LEFT_OUT", id="a field twice"),
        pytest.param(
            '"statusCode":500,"status_code":501', {"status_code": 501}, "statusCode LEFT_OUT", id="in both spellings"
        ),
        pytest.param('"statusCode":500,"status_code":null', {"status_code": 500}, "", id="null in one of them"),
        pytest.param(
            '"status_code":5,"status_code":501', {"status_code": 501}, "statusCode LEFT_OUT", id="twice in one"
        ),
        pytest.param(
            '"a.b":1,"a":{"b":2}', {"attributes": {"a.b": "1"}}, "attributes LEFT_OUT", id="one dotted name twice"
        ),
        pytest.param('"x":{}', {"attributes": {"x": "{}"}}, "", id="an empty object"),
        pytest.param(
            '"x":' + '{"a":' * 9 + "1" + "}" * 9,
            {"attributes": {"x.a.a.a.a.a.a.a": '{"a":{"a":1}}'}},
            "",
            id="deep objects",
        ),
        pytest.param('"x":' + "[" * 10 + "]" * 10, {"attributes": {"x": "[" * 8 + "…" + "]" * 8}}, "", id="deep lists"),
        pytest.param(
            f'"x":["{"y" * 2000}",1,2]', {"attributes": {"x": '["' + "y" * 1022}}, "attributes CUT", id="a long list"
        ),
        pytest.param(
            f'"{"k" * 200}":{{"{"l" * 200}":1}}', {"attributes": {"k" * 128: "1"}}, "attributes CUT", id="long keys"
        ),
        pytest.param('"x":"\\ud83d\\udd14"', {"attributes": {"x": "🔔"}}, "", id="a surrogate pair"),
        pytest.param('"x":"a\\ud83d"', {"attributes": {"x": "a\ufffd"}}, "attributes CONVERTED", id="half of one"),
        pytest.param('"host":"\\uDC00b"', {"host": "\ufffdb"}, "host CONVERTED", id="the other half"),
        pytest.param('"host":"a\\u0000b"', {"host": "a\0b"}, "", id="NUL"),
        pytest.param('"host":"a\tb"', {"host": "a\tb"}, "", id="a bare tab"),
        pytest.param('"eventTime":"2016-12-31T23:59:60Z"', {"event_time": (1483228800, 0)}, "", id="a leap second"),
        pytest.param(
            '"eventTime":"2017-01-01T00:59:60+01:00"', {"event_time": (1483228800, 0)}, "", id="and with a zone"
        ),
        pytest.param(
            '"event_time":"2026-03-01t11:30:00.123456789-00:30"',
            {"event_time": (1772366400, 123456789)},
            "",
            id="nanoseconds",
        ),
        pytest.param('"timestamp":"2026-03-01T12:00:00Z"', {"event_time": (1772366400, 0)}, "", id="timestamp"),
        pytest.param('"@timestamp":"2026-03-01T12:00:00Z"', {"event_time": (1772366400, 0)}, "", id="@timestamp"),
        pytest.param(
            '"time":1772366400.5', {"event_time": (1772366400, 500000000)}, "eventTime CONVERTED", id="seconds"
        ),
        pytest.param('"time":1772366400123', {"event_time": (1772366400, 123000000)}, "eventTime CONVERTED", id="pino"),
        pytest.param(
            '"time":"1772366400123456"', {"event_time": (1772366400, 123456000)}, "eventTime CONVERTED", id="micros"
        ),
        pytest.param(
            '"time":1772366400123456789', {"event_time": (1772366400, 123456789)}, "eventTime CONVERTED", id="nanos"
        ),
        pytest.param(
            '"time":"12ms","@timestamp":"2026-03-01T12:00:00Z"',
            {"event_time": (1772366400, 0), "attributes": {"time": "12ms"}},
            "",
            id="the first that is a time",
        ),
        pytest.param(
            '"time":0.25,"timestamp":[1]',
            {"attributes": {"time": "0.25", "timestamp": "[1]"}},
            "eventTime KEPT_AS_ATTRIBUTE",
            id="a time that takes time",
        ),
        pytest.param(
            '"eventTime":"2026-03-01T12:00:00Z","time":"x"',
            {"event_time": (1772366400, 0), "attributes": {"time": "x"}},
            "",
            id="beside the own one",
        ),
    ],
)
async def test_a_value_is_read_or_put_right(bench: Bench, text: str, fields: dict[str, Any], changes: str) -> None:
    when = fields.pop("event_time", None)
    expected = an_event(**fields)
    if when:
        expected.event_time.MergeFrom(Timestamp(seconds=when[0], nanos=when[1]))
    single = await bench.ingest_json(with_(text))
    batch = await bench.ingest_json_batch(b"[" + with_(text) + b"," + json.dumps(OWN).encode() + b"]")
    assert list(bench.stream.events) == [expected, expected, an_event()]
    wanted = set(changes.split(", ")) - {""}
    assert said(single.adjusted) == said(batch.adjusted) == wanted
    assert batch.adjusted.event_count == bool(wanted)


@pytest.mark.parametrize("level", ["error", "Error", "ERROR", 5, "5"])
async def test_levels_are_read_in_any_case_and_as_numbers(bench: Bench, level: object) -> None:
    await bench.ingest_json(json.dumps(OWN | {"level": level}).encode())
    assert list(bench.stream.events) == [an_event()]


@pytest.mark.parametrize(
    ("changed", "field", "found"),
    [
        ({"level": "LOUD"}, "level", 'found "LOUD"'),
        ({"level": "é" * 100}, "level", 'found "' + "\\u00e9" * 9),
        ({"level": ["ERROR"]}, "level", "found a list"),
        ({"level": 0}, "level", "found 0"),
        ({"level": True}, "level", "found true"),
        ({"level": None}, "level", "expected one of TRACE, DEBUG, INFO, WARN, ERROR, FATAL"),
        ({"service": {"name": "a"}}, "service", "found an object"),
        ({"message": ""}, "message", "expected 1 to 200 bytes"),
        ({"eventTime": "yesterday"}, "eventTime", 'found "yesterday"'),
        ({"eventTime": "2026-03-01T12:00:00"}, "eventTime", "found"),
        ({"eventTime": "2026-02-30T12:00:00Z"}, "eventTime", "found"),
        ({"eventTime": "2026-03-01T24:00:00Z"}, "eventTime", "found"),
        ({"eventTime": "2026-03-01T12:60:00Z"}, "eventTime", "found"),
        ({"eventTime": "2026-03-01T12:00:61Z"}, "eventTime", "found"),
        ({"eventTime": "2026-03-01T12:00:00+24:00"}, "eventTime", "found"),
        ({"eventTime": "2026-03-01T12:00:00-00:60"}, "eventTime", "found"),
        ({"eventTime": "17_0000_0000"}, "eventTime", "found"),
        ({"eventTime": math.inf}, "eventTime", "found Infinity"),
        ({"eventTime": 10**5000}, "eventTime", "found 1000"),
        ({"eventTime": {}}, "eventTime", "found an object"),
        ({"eventTime": "1e5000000"}, "eventTime", 'found "1e5000000"'),
        ({"eventTime": "1e-5000000"}, "eventTime", "found"),
        ({"eventTime": "NaN"}, "eventTime", 'found "NaN"'),
        ({"eventTime": "2026-03-01T12:11:00Z"}, "eventTime", "ten minutes ahead"),
        ({"timestamp": "2026-03-01T12:11:00Z"}, "eventTime", "ten minutes ahead"),
    ],
)
async def test_what_refuses_an_event_names_its_field(
    bench: Bench, changed: dict[str, Any], field: str, found: str
) -> None:
    sent = (
        json.dumps(OWN | changed).encode()
        if changed.get("eventTime") != 10**5000
        else with_(f'"eventTime":1{"0" * 5000}')
    )
    with pytest.raises(InvalidRequest) as refused:
        await bench.ingest_json(sent)
    assert [violation.field for violation in refused.value.violations] == [field]
    assert found in refused.value.violations[0].description
    answer = await bench.ingest_json_batch(b"[" + json.dumps(OWN).encode() + b"," + sent + b"]")
    assert [(each.index, each.field) for each in answer.refused] == [(1, field)]
    assert found in answer.refused[0].reason


@pytest.mark.parametrize("body", [b"{}", b"null", b'{"svc":"a","levl":"ERROR","mesage":"m"}'])
async def test_what_is_missing_is_named(bench: Bench, body: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await bench.ingest_json(body)
    assert [violation.field for violation in refused.value.violations] == ["service", "level", "message"]


async def test_one_bad_event_never_refuses_its_batch(bench: Bench) -> None:
    batch = [OWN, None, [OWN], "text", 5, {}, OWN | {"recordId": "r" * 200, "level": "LOUD"}, OWN]
    answer = await bench.ingest_json_batch(json.dumps(batch).encode())
    assert (answer.accepted_count, answer.refused_count) == (2, 6)
    assert [(each.index, each.field, each.reason, each.record_id) for each in answer.refused] == [
        (1, "event", "expected a JSON object, found null", ""),
        (2, "event", "expected a JSON object, found a list", ""),
        (3, "event", 'expected a JSON object, found "text"', ""),
        (4, "event", "expected a JSON object, found 5", ""),
        (5, "service", "expected 1 to 256 characters", ""),
        (6, "level", 'expected one of TRACE, DEBUG, INFO, WARN, ERROR, FATAL, found "LOUD"', "r" * 128),
    ]


async def test_when_no_event_of_a_batch_is_allowed_each_field_is_named(bench: Bench) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await bench.ingest_json_batch(b'[[{}],{"service":"a","message":"m","level":"?"}]')
    assert [(each.field, each.description[:24]) for each in refused.value.violations] == [
        ("events[0]", "expected a JSON object, "),
        ("events[1].level", "expected one of TRACE, D"),
    ]


async def test_an_object_alone_is_a_batch_of_one(bench: Bench) -> None:
    assert (await bench.ingest_json_batch(CURL)).accepted_count == 1


async def test_a_message_that_is_an_object_is_kept_as_its_json(bench: Bench) -> None:
    answer = await bench.ingest_json(json.dumps(OWN | {"message": {"a": [1, "é"]}}).encode())
    assert said(answer.adjusted) == {"message CONVERTED"}
    assert bench.stream.events[0].message == '{"a":[1,"é"]}'


async def test_attributes_beyond_the_limit_are_left_out_and_said(bench: Bench) -> None:
    answer = await bench.ingest_json(json.dumps(OWN | {f"k{n}": n for n in range(33)} | {"o": {"p": 1}}).encode())
    assert said(answer.adjusted) == {"attributes LEFT_OUT"}
    assert dict(bench.stream.events[0].attributes) == {f"k{n}": str(n) for n in range(32)}


async def test_a_byte_order_mark_is_passed_over(bench: Bench) -> None:
    assert (await bench.ingest_json(b"\xef\xbb\xbf" + CURL)).accepted_count == 1
    assert (await bench.ingest_json_batch(b"\xef\xbb\xbf [" + CURL + b"]\r\n")).accepted_count == 1


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", "line 1, column 1: expecting value"),
        (b"\n ", "line 2, column 2: expecting value"),
        (b'{"service":"a",\n"level":', "line 2, column 9: expecting value"),
        (b'{"a":1,}', "line 1, column 8: "),
        (b'{"service":"a" "level":"ERROR"}', "line 1, column 16: "),
        (CURL + b" and more", "expected nothing more"),
        (b"service=a", "line 1, column 1"),
        (b'{"service":"a\xff"}', "byte 14 is not UTF-8"),
        (gzip.compress(CURL), "byte 2 is not UTF-8"),
        (b'{"a":' * 20_000, "nested too deep"),
    ],
)
async def test_what_is_no_json_is_refused_with_the_place(bench: Bench, body: bytes, where: str) -> None:
    for call in (bench.ingest_json, bench.ingest_json_batch):
        with pytest.raises(MalformedMessage) as refused:
            await call(body)
        ((field, description),) = [(each.field, each.description) for each in refused.value.violations]
        assert (field, description.startswith("not valid JSON: ")) == ("body", True)
        assert where in description
        assert description in refused.value.text
    assert bench.budget.taken == 0


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"[{}", "line 1, column 4: expected ',' or ']'"),
        (b"[{},]", "line 1, column 5: expecting value"),
        (b"[{} {}]", "line 1, column 5: expected ',' or ']'"),
        (b"[] x", "line 1, column 4: expected nothing more"),
        (b"[" * 100_000, "nested too deep"),
    ],
)
async def test_what_is_no_list_is_refused_with_the_place(bench: Bench, body: bytes, where: str) -> None:
    with pytest.raises(MalformedMessage, match="body") as refused:
        await bench.ingest_json_batch(body)
    assert where in refused.value.violations[0].description


@pytest.mark.parametrize("body", [b"[{}]", b'"text"', b"5", b"true"])
async def test_one_event_is_one_object(bench: Bench, body: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await bench.ingest_json(body)
    assert [violation.field for violation in refused.value.violations] == ["body"]


async def test_a_batch_is_bounded_as_one_of_protobuf_is(bench: Bench) -> None:
    with pytest.raises(InvalidRequest, match="no events"):
        await bench.ingest_json_batch(b"[]")
    with pytest.raises(RequestTooLarge) as refused:
        await bench.ingest_json_batch(b"[" + b",".join([CURL] * 101) + b"]")
    assert refused.value.violations[0].field == "events"
    small = a_bench(max_request_bytes=200)
    with pytest.raises(RequestTooLarge):
        await small.ingest_json_batch(b"[" + b",".join([CURL] * 5) + b"]")
    with pytest.raises(RequestTooLarge):
        await small.ingest_json(json.dumps(OWN | {"message": "m" * 200}).encode())
    assert small.budget.taken == bench.budget.taken == 0


async def test_many_events_are_read_with_pauses_and_in_order() -> None:
    bench = a_bench(max_batch_events=2_000, max_record_bytes=900_000)
    answer = await bench.ingest_json_batch(json.dumps([OWN | {"recordId": str(n)} for n in range(600)]).encode())
    assert answer.accepted_count == 600
    assert [event.record_id for event in bench.stream.events] == [str(n) for n in range(600)]


async def test_bytes_that_are_no_request_are_malformed(bench: Bench) -> None:
    for call in (bench.rpc.ingest_json, bench.rpc.ingest_json_batch):
        with pytest.raises(MalformedMessage):
            await call(b"\x0a\xff", None)
    with pytest.raises(MalformedMessage):
        await bench.rpc.ingest_json(IngestJsonRequest().SerializeToString(), None)


texts = st.text(st.characters(codec="utf-8"), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=12,
)
names = texts | st.sampled_from(
    [name for each in LogEvent.DESCRIPTOR.fields for name in (each.name, each.json_name)] + ["time", "timestamp"]
)
required = {"service", "level", "message", "eventTime", "event_time"}


@given(st.lists(st.dictionaries(names, values, max_size=8), min_size=1, max_size=3))
async def test_no_other_field_refuses_an_event(given_events: list[dict[str, Any]]) -> None:
    bench = a_bench(max_message_bytes=200)
    events = [OWN | {name: value for name, value in each.items() if name not in required} for each in given_events]
    for event in events:
        event.pop("time", None)
        event.pop("timestamp", None)
    answer = await bench.ingest_json_batch(json.dumps(events).encode())
    assert answer.accepted_count == len(events)


@given(values)
def test_json_is_written_as_it_was_read(value: Any) -> None:
    text = json.dumps(value)
    written = json_text(JsonText(text.encode()).one(), None)
    assert "…" in written or json.dumps(json.loads(written)) == text


async def test_what_protobuf_writes_as_json_is_read_as_the_same_event(bench: Bench) -> None:
    event = an_event(
        record_id="r", status_code=204, response_time=1.25, host="h", trace_id="a1" * 16, attributes={"a": "b"}
    )
    event.event_time.FromDatetime(NOW)
    for keeps_names in (True, False):
        answer = await bench.ingest_json(
            json.dumps(MessageToDict(event, preserving_proto_field_name=keeps_names)).encode()
        )
        assert not answer.HasField("adjusted")
    assert list(bench.stream.events) == [event, event]
