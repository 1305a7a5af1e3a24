"""Both rpcs over gRPC, with a real topic behind."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from confluent_kafka import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha import reflection_pb2
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

from tests.fakes.log_events import an_event, events_in, record_of
from tests.integration.ingest.conftest import Running, Start
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import IngestBatchRequest, IngestRequest

pytestmark = pytest.mark.integration

Records = Callable[[], list[Message]]
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


def events_of(messages: list[Message]) -> list[LogEvent]:
    return [event for message in messages for event in events_in(message.value() or b"")]


def details_of(error: grpc.aio.AioRpcError) -> dict[str, object]:
    metadata = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    kinds = (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo)
    found: dict[str, object] = {}
    for detail in status.details:
        for kind in kinds:
            if detail.Is(kind.DESCRIPTOR):
                found[kind.DESCRIPTOR.name] = kind.FromString(detail.value)
    return found


async def test_a_batch_reaches_the_topic_as_one_record_of_columns(ingest: Running, records: Records) -> None:
    request = IngestBatchRequest(events=[an_event(record_id=str(index)) for index in range(500)])
    response = await ingest.stub.IngestBatch(request)
    assert (response.accepted_count, response.refused_count) == (500, 0)
    (record,) = records()
    assert record.value() == record_of(*request.events)
    assert record.key() is None


async def test_a_batch_is_accepted_in_part(ingest: Running, records: Records) -> None:
    events = [an_event(record_id="a"), an_event(record_id="b", level=0), an_event(record_id="c")]
    response = await ingest.stub.IngestBatch(IngestBatchRequest(events=events))
    assert (response.accepted_count, response.refused_count) == (2, 1)
    assert (response.refused[0].index, response.refused[0].record_id, response.refused[0].field) == (1, "b", "level")
    assert events_of(records()) == [events[0], events[2]]


async def test_a_request_of_four_mebibytes_goes_in_several_records(ingest: Running, records: Records) -> None:
    events = [an_event(record_id=str(index), message="x" * 32_000) for index in range(130)]
    request = IngestBatchRequest(events=events)
    assert 4_100_000 < request.ByteSize() <= 4 * 1024 * 1024
    assert (await ingest.stub.IngestBatch(request)).accepted_count == 130
    found = records()
    assert len(found) == 5
    assert {event.record_id for event in events_of(found)} == {event.record_id for event in events}


async def test_large_calls_at_once_are_accepted_or_told_to_retry(start: Start, kafka: str, topics: str) -> None:
    request = IngestBatchRequest(events=[an_event(message="x" * 32_000)] * 130)
    limits = {"max_receiving": "2", "max_inflight_bytes": str(9 * 1024 * 1024)}
    async with start(kafka, topics, **limits) as ingest:
        calls = [ingest.stub.IngestBatch(request) for _ in range(64)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        _, metrics = await ingest.get("/metrics")
    assert "tocsin_ingest_receiving 0.0" in metrics
    refused = [each for each in outcomes if isinstance(each, grpc.aio.AioRpcError)]
    assert {each.code() for each in refused} <= {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert all("RetryInfo" in details_of(each) for each in refused)
    assert len(refused) < len(outcomes)


async def test_a_refused_batch_names_each_field(ingest: Running, records: Records) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await ingest.stub.IngestBatch(IngestBatchRequest(events=[an_event(message="", service="")]))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    details = details_of(refused.value)
    assert details["ErrorInfo"].reason == "INVALID_REQUEST"  # type: ignore[attr-defined]
    fields = [each.field for each in details["BadRequest"].field_violations]  # type: ignore[attr-defined]
    assert fields == ["events[0].service", "events[0].message"]
    assert records() == []


async def test_the_longest_list_of_violations_reaches_the_caller(ingest: Running) -> None:
    wrong = LogEvent(record_id="r" * 129, event_time=Timestamp(seconds=-1))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await ingest.stub.IngestBatch(IngestBatchRequest(events=[wrong] * 1_000))
    details = details_of(refused.value)
    assert len(details["BadRequest"].field_violations) == 25  # type: ignore[attr-defined]


async def test_bytes_that_are_not_a_message_are_malformed(ingest: Running) -> None:
    for method in ("Ingest", "IngestBatch"):
        call: Any = ingest.channel.unary_unary(f"/tocsin.logs.v1.LogIngestService/{method}")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(b"\x0a\x04\x1a\x02\xff\xfe")
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert details_of(refused.value)["ErrorInfo"].reason == "MALFORMED_MESSAGE"  # type: ignore[attr-defined]


async def test_single_events_go_together_and_each_caller_is_answered(
    start: Start, kafka: str, topics: str, records: Records
) -> None:
    async with start(kafka, topics, linger="1s", max_linger_events="3") as ingest:
        requests = [IngestRequest(event=an_event(record_id=name)) for name in ("a", "b", "c")]
        requests[1].event.service = ""
        responses = await asyncio.gather(*map(ingest.stub.Ingest, requests), return_exceptions=True)
    assert [getattr(response, "accepted_count", None) for response in responses] == [1, None, 1]
    assert isinstance(responses[1], grpc.aio.AioRpcError)
    assert responses[1].code() is grpc.StatusCode.INVALID_ARGUMENT
    (record,) = records()
    assert {event.record_id for event in events_of([record])} == {"a", "c"}


async def test_the_record_of_a_batch_continues_its_callers_trace(ingest: Running, records: Records) -> None:
    await ingest.stub.IngestBatch(IngestBatchRequest(events=[an_event()]), metadata=(("traceparent", PARENT),))
    (record,) = records()
    assert _traceparent(record).split("-")[1] == TRACE


async def test_the_record_of_single_events_continues_one_trace_and_links_all(
    start: Start, kafka: str, topics: str, records: Records
) -> None:
    async with start(kafka, topics, linger="1s", max_linger_events="2") as ingest:
        request, others = IngestRequest(event=an_event()), PARENT.replace("0af7", "ffff")
        await asyncio.gather(
            *(ingest.stub.Ingest(request, metadata=(("traceparent", parent),)) for parent in (PARENT, others))
        )
        (span,) = [each for each in ingest.spans if each.name == "log-events flush"]
    assert {_trace_id(link.context.trace_id) for link in span.links} == {TRACE, TRACE.replace("0af7", "ffff")}
    (record,) = records()
    assert _traceparent(record).split("-")[1:3] == [
        _trace_id(_context(span).trace_id),
        f"{_context(span).span_id:016x}",
    ]


@pytest.mark.parametrize("flags", ["00", "01"])
async def test_the_span_of_single_events_has_a_recorded_call_as_its_parent(
    start: Start, kafka: str, topics: str, records: Records, flags: str
) -> None:
    async with start(kafka, topics, linger="1s", max_linger_events="2") as ingest:
        first = asyncio.create_task(_ingest_as(ingest, f"{PARENT[:-2]}{flags}"))
        async with asyncio.timeout(10):
            while "tocsin_ingest_in_flight_bytes 0.0" in (await ingest.get("/metrics"))[1]:
                pass
        await asyncio.gather(first, _ingest_as(ingest, PARENT.replace("0af7", "ffff")))
        (flush,) = [each for each in ingest.spans if each.name == "log-events flush"]
        calls = [_context(each) for each in ingest.spans if each.name.endswith("LogIngestService/Ingest")]
    assert flush.parent is not None
    expected = TRACE if flags == "01" else TRACE.replace("0af7", "ffff")
    assert [call.span_id for call in calls if _trace_id(call.trace_id) == expected] == [flush.parent.span_id]
    (record,) = records()
    assert _traceparent(record).split("-")[1::2] == [expected, "01"]


async def test_health_and_metrics_are_on_the_admin_port(ingest: Running) -> None:
    status, text = await ingest.get("/health")
    assert (status, json.loads(text)["dependencies"]) == (200, {"kafka": "UP"})
    await ingest.stub.IngestBatch(IngestBatchRequest(events=[an_event(), an_event(level=0)]))
    _, metrics = await ingest.get("/metrics")
    assert "tocsin_ingest_events_accepted_total 1.0" in metrics
    assert 'tocsin_ingest_events_refused_total{reason="level"} 1.0' in metrics
    assert 'tocsin_ingest_events_refused_total{reason="service"} 0.0' in metrics
    assert "tocsin_ingest_in_flight_bytes 0.0" in metrics


async def test_secrets_do_not_reach_the_topic(
    start: Start, kafka: str, topics: str, records: Records, tmp_path: Path
) -> None:
    patterns = tmp_path / "patterns"
    patterns.write_text("ids: id-[0-9]+\n")
    async with start(kafka, topics, redact="emails,passwords", redact_patterns_file=str(patterns)) as ingest:
        await ingest.stub.Ingest(IngestRequest(event=an_event(message="by anna@example.com")))
        events = [an_event(message="id-4711 left"), an_event(attributes={"db.password": "hunter2"}), an_event()]
        await ingest.stub.IngestBatch(IngestBatchRequest(events=events))
        _, metrics = await ingest.get("/metrics")
    # In any order: the calls may be in records of two partitions.
    assert sorted(events_of(records()), key=str) == sorted(
        [
            an_event(message="by [redacted:emails]"),
            an_event(message="[redacted:ids] left"),
            an_event(attributes={"db.password": "[redacted:passwords]"}),
            an_event(),
        ],
        key=str,
    )
    for name in ("emails", "ids", "passwords"):
        assert f'tocsin_ingest_values_redacted_total{{name="{name}"}} 1.0' in metrics


@pytest.mark.parametrize(
    ("method", "services"),
    [
        pytest.param(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            {"tocsin.logs.v1.LogIngestService"},
            id="its own port lists its own services",
        ),
        pytest.param(
            "/tocsin.edge.ServerReflection/ServerReflectionInfo",
            {
                "tocsin.logs.v1.LogIngestService",
                "tocsin.rules.v1.AlertRuleService",
                "tocsin.alerts.v1.AlertService",
                "tocsin.catalog.v1.CatalogService",
                "tocsin.catalog.v1.LearnedEdgeService",
                "tocsin.changes.v1.ChangeService",
                "tocsin.explanations.v1.ExplanationService",
                "tocsin.incidents.v1.IncidentService",
                "tocsin.reports.v1.ReportService",
                "tocsin.access.v1.AccessService",
                "tocsin.silences.v1.SilenceService",
                "tocsin.oncall.v1.OnCallService",
                "tocsin.routing.v1.RoutingService",
                "tocsin.notifications.v1.NotificationService",
                "tocsin.rules.v1.RuleStatisticsService",
            },
            id="the edge lists those of the whole mesh",
        ),
    ],
)
async def test_reflection_lists_services(ingest: Running, method: str, services: set[str]) -> None:
    call = ingest.channel.stream_stream(
        method,
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    responses = call(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    response = await anext(aiter(responses))
    listed = {service.name for service in response.list_services_response.service}
    assert {name for name in listed if name.startswith("tocsin.")} == services
    assert "grpc.health.v1.Health" in listed


async def _ingest_as(ingest: Running, traceparent: str) -> None:
    await ingest.stub.Ingest(IngestRequest(event=an_event()), metadata=(("traceparent", traceparent),))


def _traceparent(record: Message) -> str:
    headers = dict(record.headers() or ())
    value = headers["traceparent"]
    assert isinstance(value, bytes)
    return value.decode()


def _trace_id(number: int) -> str:
    return f"{number:032x}"


def _context(span: ReadableSpan) -> SpanContext:
    context = span.get_span_context()
    assert context is not None
    return context


async def test_a_tenant_beyond_its_rate_waits_for_up_to_a_second_and_is_then_refused(
    start: Start, kafka: str, topics: str
) -> None:
    async with start(kafka, topics, tenant_events_per_second="10") as ingest:
        await ingest.stub.IngestBatch(IngestBatchRequest(events=[an_event()] * 15))
        # Half a second is too early for the next one.
        response = await ingest.stub.IngestBatch(IngestBatchRequest(events=[an_event()] * 300))
        assert response.accepted_count == 300
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ingest.stub.Ingest(IngestRequest(event=an_event()))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    details: dict[str, Any] = details_of(refused.value)
    assert details["ErrorInfo"].reason == "TENANT_LIMIT_REACHED"
    assert dict(details["ErrorInfo"].metadata)["limit"] == "events_per_second"
    assert 0 < details["RetryInfo"].retry_delay.seconds <= 29
