"""Values of optional fields never refuse an event: they are adjusted, and the response says so."""

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.chassis.failures import InvalidRequest
from services.ingest.core.adjustments import Adjustment, AdjustmentAction, OptionalFields, adjust, summarize
from services.ingest.core.event_checker import EventChecker
from services.ingest.core.field_checks import EventField, Limits
from tests.fakes.ingest import WIRE, Bench, a_bench
from tests.fakes.log_events import NOW, an_event, any_events
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import AdjustedEvents, AdjustedValue, IngestBatchRequest

SHORT = "a3ce929d0e0e4736"
PADDED = "0" * 16 + SHORT
MANY = {f"k{number:02}": "v" for number in range(33)}


@pytest.mark.parametrize(
    ("sent", "written", "action"),
    [
        pytest.param({"trace_id": SHORT}, {"trace_id": PADDED}, "traceId PADDED", id="64 bits"),
        pytest.param({"trace_id": "A1" * 16}, {"trace_id": "a1" * 16}, "traceId CONVERTED", id="capitals"),
        pytest.param(
            {"trace_id": "0af76519-16cd-43dd-8448-eb211c80319c"},
            {"trace_id": "0af7651916cd43dd8448eb211c80319c"},
            "traceId CONVERTED",
            id="a UUID",
        ),
        pytest.param(
            {"trace_id": "Root=1-67"}, {"attributes": {"trace_id": "Root=1-67"}}, "traceId KEPT_AS_ATTRIBUTE", id="text"
        ),
        pytest.param(
            {"trace_id": "é" * 16}, {"attributes": {"trace_id": "é" * 16}}, "traceId KEPT_AS_ATTRIBUTE", id="letters"
        ),
        pytest.param(
            {"status_code": 1006}, {"attributes": {"status_code": "1006"}}, "statusCode KEPT_AS_ATTRIBUTE", id="1006"
        ),
        pytest.param(
            {"status_code": 0}, {"attributes": {"status_code": "0"}}, "statusCode KEPT_AS_ATTRIBUTE", id="no status"
        ),
        pytest.param(
            {"response_time": -1.0},
            {"attributes": {"response_time": "-1"}},
            "responseTime KEPT_AS_ATTRIBUTE",
            id="negative",
        ),
        pytest.param(
            {"response_time": math.nan},
            {"attributes": {"response_time": "NaN"}},
            "responseTime KEPT_AS_ATTRIBUTE",
            id="not a number",
        ),
        pytest.param(
            {"response_time": math.inf},
            {"attributes": {"response_time": "Infinity"}},
            "responseTime KEPT_AS_ATTRIBUTE",
            id="infinite",
        ),
        pytest.param(
            {"response_time": -math.inf},
            {"attributes": {"response_time": "-Infinity"}},
            "responseTime KEPT_AS_ATTRIBUTE",
            id="infinitely little",
        ),
        pytest.param({"host": "ü" * 257}, {"host": "ü" * 256}, "host CUT", id="a long host"),
        pytest.param({"record_id": "r" * 129}, {"record_id": "r" * 128}, "recordId CUT", id="a long record id"),
        pytest.param(
            {"attributes": {"k" * 129: "v" * 1025}},
            {"attributes": {"k" * 128: "v" * 1024}},
            "attributes CUT",
            id="a long attribute",
        ),
        pytest.param({"attributes": {"": "v"}}, {"attributes": {"_": "v"}}, "attributes CONVERTED", id="no key"),
        pytest.param(
            {"attributes": MANY},
            {"attributes": {key: "v" for key in MANY if key != "k32"}},
            "attributes LEFT_OUT",
            id="33 attributes",
        ),
    ],
)
async def test_an_optional_field_never_refuses(sent: dict[str, Any], written: dict[str, Any], action: str) -> None:
    bench = a_bench(max_attributes=32)
    field, done = action.split()
    expected = AdjustedEvents(
        event_count=1,
        values=[AdjustedValue(field=field, action=AdjustedValue.Action.Value(done), count=1, indexes=[0])],
    )
    single = await bench.ingest(an_event(**sent))
    assert (single.accepted_count, single.adjusted) == (1, expected)
    expected.values[0].indexes[0] = 1
    batch = await bench.ingest_batch([an_event(), an_event(**sent)])
    assert (batch.accepted_count, batch.refused_count, batch.adjusted) == (2, 0, expected)
    assert list(bench.producer.events) == [an_event(**written), an_event(), an_event(**written)]


async def test_an_event_that_fits_is_not_adjusted(bench: Bench) -> None:
    assert not (await bench.ingest(an_event())).HasField("adjusted")
    assert not (await bench.ingest_batch([an_event()])).HasField("adjusted")


async def test_a_refused_event_is_not_adjusted(bench: Bench) -> None:
    response = await bench.ingest_batch([an_event(), an_event(service="", trace_id=SHORT)])
    assert not response.HasField("adjusted")
    assert response.refused[0].field == "service"


async def test_an_event_that_is_refused_for_its_size_is_not_reported_as_adjusted(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench(max_record_bytes=1_000)
    large = an_event(trace_id=SHORT, attributes={"a": "x" * 1_000})
    response = await bench.ingest_batch([an_event(), large])
    assert not response.HasField("adjusted")
    assert response.refused[0].field == "event"
    with pytest.raises(InvalidRequest):
        await bench.ingest(large)


async def test_attributes_do_not_make_an_event_too_large(bench: Bench) -> None:
    large = an_event(attributes={"a": "x" * 30_000, "b": "y"})
    assert (await bench.ingest(large)).accepted_count == 1
    assert (await bench.ingest_batch([large])).accepted_count == 1
    assert {len(event.attributes["a"]) for event in bench.producer.events} == {1024}


async def test_the_first_ten_indexes_are_listed_and_all_events_are_counted() -> None:
    response = await a_bench(max_batch_events=2_000, max_record_bytes=900_000).ingest_batch(
        [an_event(trace_id=SHORT, status_code=1006)] * 1_100
    )
    assert response.adjusted.event_count == 1_100
    assert [(value.field, value.count, list(value.indexes)) for value in response.adjusted.values] == [
        ("statusCode", 1_100, list(range(10))),
        ("traceId", 1_100, list(range(10))),
    ]


def test_values_kept_from_fields_come_before_the_attributes() -> None:
    fields = OptionalFields(
        record_id="", status_code=7, response_time=None, host="", trace_id="", attributes={"a": "1", "status_code": "x"}
    )
    adjusted, made = adjust(fields, 2)
    assert adjusted.attributes == {"status_code": "7", "a": "1"}
    assert made == {
        Adjustment(EventField.STATUS_CODE, AdjustmentAction.KEPT_AS_ATTRIBUTE),
        Adjustment(EventField.ATTRIBUTES, AdjustmentAction.LEFT_OUT),
    }


def test_without_adjustments_there_is_no_summary() -> None:
    assert summarize({}) is None
    assert summarize({3: frozenset()}) is None


LIMITS = Limits(
    max_batch_events=100, max_request_bytes=2**20, max_message_bytes=64, max_attributes=2, max_record_bytes=20_000
)


@settings(max_examples=60)
@given(st.lists(any_events, min_size=1, max_size=4))
def test_published_events_pass_all_checks_and_are_not_adjusted_again(events: list[LogEvent]) -> None:
    async def scenario() -> list[LogEvent]:
        bench = a_bench()
        try:
            await bench.ingest_batch(events)
        except InvalidRequest:
            return []
        return list(bench.producer.events)

    if written := asyncio.run(scenario()):
        columns = WIRE.read_events(IngestBatchRequest(events=written).SerializeToString())
        result = EventChecker(LIMITS).check(columns, NOW)
        assert (result.failed, result.to_adjust) == ((), [])
