"""Requests as JSON: what is accepted, what is refused, and what the response says."""

import gzip
import json
import math
from typing import Any

import pytest

from services.chassis.failures import InvalidRequest, MalformedMessage, RequestTooLarge
from tests.fakes.ingest import Bench, a_bench
from tests.fakes.log_events import an_event
from tests.unit.ingest.json_bodies import CURL, OWN, with_members
from tocsin.logs.v1.log_ingest_service_pb2 import IngestJsonRequest


@pytest.fixture
def bench() -> Bench:
    return a_bench(max_attributes=32, max_message_bytes=200)


async def test_the_curl_line_of_the_readme_is_read(bench: Bench) -> None:
    response = await bench.ingest_json(CURL)
    assert (response.accepted_count, response.HasField("adjusted")) == (1, False)
    assert list(bench.producer.events) == [
        an_event(message="Database connection failed", status_code=500, response_time=5000.0)
    ]


@pytest.mark.parametrize("level", ["error", "Error", "ERROR", 5, "5"])
async def test_levels_are_read_in_any_case_and_as_numbers(bench: Bench, level: object) -> None:
    await bench.ingest_json(json.dumps(OWN | {"level": level}).encode())
    assert list(bench.producer.events) == [an_event()]


@pytest.mark.parametrize(
    ("changed", "field", "found"),
    [
        ({"level": "LOUD"}, "level", 'found "LOUD"'),
        ({"level": "é" * 100}, "level", 'found "' + "\\u00e9" * 9),
        ({"level": ["ERROR"]}, "level", "found a list"),
        ({"level": 0}, "level", "found 0"),
        ({"level": True}, "level", "found true"),
        ({"level": None}, "level", "expected one of TRACE, DEBUG, INFO, WARN, ERROR, FATAL, found null"),
        ({"service": {"name": "a"}}, "service", "found an object"),
        ({"message": ""}, "message", "expected 1 to 200 bytes, found an empty string"),
        ({"message": None}, "message", "expected 1 to 200 bytes, found null"),
        ({"message": "é" * 101}, "message", "expected 1 to 200 bytes, found 202 bytes"),
        ({"service": ""}, "service", "expected 1 to 256 characters, found an empty string"),
        ({"service": None}, "service", "expected 1 to 256 characters, found null"),
        ({"service": "é" * 257}, "service", "expected 1 to 256 characters, found 257 characters"),
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
        ({"eventTime": "2026-03-01T12:11:00Z"}, "eventTime", "ten minutes ahead of now, found 2026-03-01T12:11:00Z"),
        ({"timestamp": "2026-03-01T12:11:00Z"}, "eventTime", "ten minutes ahead of now, found 2026-03-01T12:11:00Z"),
    ],
)
async def test_a_refusal_names_its_field(bench: Bench, changed: dict[str, Any], field: str, found: str) -> None:
    sent = (
        json.dumps(OWN | changed).encode()
        if changed.get("eventTime") != 10**5000
        else with_members(f'"eventTime":1{"0" * 5000}')
    )
    with pytest.raises(InvalidRequest) as refused:
        await bench.ingest_json(sent)
    assert [violation.field for violation in refused.value.violations] == [field]
    assert found in refused.value.violations[0].description
    response = await bench.ingest_json_batch(b"[" + json.dumps(OWN).encode() + b"," + sent + b"]")
    assert [(each.index, each.field) for each in response.refused] == [(1, field)]
    assert found in response.refused[0].reason


@pytest.mark.parametrize("body", [b"{}", b"null", b'{"svc":"a","levl":"ERROR","mesage":"m"}'])
async def test_missing_fields_are_named(bench: Bench, body: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await bench.ingest_json(body)
    assert [(each.field, each.description) for each in refused.value.violations] == [
        ("service", "expected 1 to 256 characters, found nothing"),
        ("level", "expected one of TRACE, DEBUG, INFO, WARN, ERROR, FATAL, found nothing"),
        ("message", "expected 1 to 200 bytes, found nothing"),
    ]
    response = await bench.ingest_json_batch(b"[" + json.dumps(OWN).encode() + b"," + body + b"]")
    found = "found null" if body == b"null" else "found nothing"
    assert [each.reason.rpartition(", ")[2] for each in response.refused] == [found]


async def test_one_bad_event_never_refuses_its_batch(bench: Bench) -> None:
    batch = [OWN, None, [OWN], "text", 5, {}, OWN | {"recordId": "r" * 200, "level": "LOUD"}, OWN]
    response = await bench.ingest_json_batch(json.dumps(batch).encode())
    assert (response.accepted_count, response.refused_count) == (2, 6)
    assert [(each.index, each.field, each.reason, each.record_id) for each in response.refused] == [
        (1, "event", "expected a JSON object, found null", ""),
        (2, "event", "expected a JSON object, found a list", ""),
        (3, "event", 'expected a JSON object, found "text"', ""),
        (4, "event", "expected a JSON object, found 5", ""),
        (5, "service", "expected 1 to 256 characters, found nothing", ""),
        (6, "level", 'expected one of TRACE, DEBUG, INFO, WARN, ERROR, FATAL, found "LOUD"', "r" * 128),
    ]


async def test_when_all_events_of_a_batch_are_refused_each_field_is_named(bench: Bench) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await bench.ingest_json_batch(b'[[{}],{"service":"a","message":"m","level":"?"}]')
    assert [(each.field, each.description[:24]) for each in refused.value.violations] == [
        ("events[0]", "expected a JSON object, "),
        ("events[1].level", "expected one of TRACE, D"),
    ]


async def test_an_object_alone_is_a_batch_of_one(bench: Bench) -> None:
    assert (await bench.ingest_json_batch(CURL)).accepted_count == 1


async def test_a_byte_order_mark_is_skipped(bench: Bench) -> None:
    assert (await bench.ingest_json(b"\xef\xbb\xbf" + CURL)).accepted_count == 1
    assert (await bench.ingest_json_batch(b"\xef\xbb\xbf [" + CURL + b"]\r\n")).accepted_count == 1


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", "line 1, column 1: expected an object or a list, found nothing"),
        (b"\n ", "line 2, column 2: expected an object or a list, found nothing"),
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
async def test_text_that_is_not_json_is_refused_with_the_place(bench: Bench, body: bytes, where: str) -> None:
    for call in (bench.ingest_json, bench.ingest_json_batch):
        with pytest.raises(MalformedMessage) as refused:
            await call(body)
        ((field, description),) = [(each.field, each.description) for each in refused.value.violations]
        assert (field, description.startswith("not valid JSON: ")) == ("body", True)
        assert where in description
        assert description in refused.value.text
    assert bench.in_flight.reserved == 0


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
async def test_a_broken_list_is_refused_with_the_place(bench: Bench, body: bytes, where: str) -> None:
    with pytest.raises(MalformedMessage, match="body") as refused:
        await bench.ingest_json_batch(body)
    assert where in refused.value.violations[0].description


@pytest.mark.parametrize("body", [b"[{}]", b'"text"', b"5", b"true"])
async def test_one_event_must_be_one_object(bench: Bench, body: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await bench.ingest_json(body)
    assert [violation.field for violation in refused.value.violations] == ["body"]


async def test_a_batch_has_the_limits_of_a_protobuf_batch(bench: Bench) -> None:
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
    assert small.in_flight.reserved == bench.in_flight.reserved == 0


async def test_many_events_are_read_with_pauses_and_in_order() -> None:
    bench = a_bench(max_batch_events=2_000, max_record_bytes=900_000)
    response = await bench.ingest_json_batch(json.dumps([OWN | {"recordId": str(n)} for n in range(600)]).encode())
    assert response.accepted_count == 600
    assert [event.record_id for event in bench.producer.events] == [str(n) for n in range(600)]


async def test_bytes_that_are_not_a_request_are_malformed(bench: Bench) -> None:
    for call in (bench.rpc.ingest_json, bench.rpc.ingest_json_batch):
        with pytest.raises(MalformedMessage):
            await call(b"\x0a\xff", None)
    with pytest.raises(MalformedMessage):
        await bench.rpc.ingest_json(IngestJsonRequest().SerializeToString(), None)
