"""Ingest with a topic in memory and a clock that stands."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from google.api.httpbody_pb2 import HttpBody

from services.chassis.receive_limiter import ReceiveLimiter
from services.domain.tenants import TenantLimits
from services.ingest.adapters.wire import ProtobufWire
from services.ingest.core.batching import BatchPolicy, JoinPolicy
from services.ingest.core.event_checker import EventChecker
from services.ingest.core.event_rates import EventRates
from services.ingest.core.field_checks import Limits
from services.ingest.core.redaction import Redact, redact_nothing
from services.ingest.metrics import Metrics
from services.ingest.rpc.batch_handler import BatchHandler
from services.ingest.rpc.columns_handler import ColumnsHandler
from services.ingest.rpc.log_ingest import LogIngest
from services.ingest.rpc.rate_limiter import RateLimiter
from services.ingest.worker.batch_joiner import BatchJoiner
from services.ingest.worker.batcher import Batcher
from services.ingest.worker.event_pipeline import EventPipeline
from services.ingest.worker.event_redactor import EventRedactor
from services.ingest.worker.publisher import InFlightBytes, Publisher
from tests.fakes.event_producer import MemoryProducer
from tests.fakes.log_events import NOW
from tocsin.logs.v1.log_event_pb2 import EventColumns, LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import (
    IngestBatchRequest,
    IngestBatchResponse,
    IngestColumnsRequest,
    IngestColumnsResponse,
    IngestJsonBatchRequest,
    IngestJsonBatchResponse,
    IngestJsonRequest,
    IngestJsonResponse,
    IngestRequest,
    IngestResponse,
)

WIRE = ProtobufWire()
NO_LIMITS = TenantLimits()


class StandingClock:
    """It is always NOW."""

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return 0.0


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The rpcs, called as a client would, and what stands behind them."""

    rpc: LogIngest
    producer: MemoryProducer
    in_flight: InFlightBytes
    rates: EventRates

    async def ingest(self, event: LogEvent) -> IngestResponse:
        response = await self.rpc.ingest(IngestRequest(event=event).SerializeToString(), None)
        return IngestResponse.FromString(response)

    async def ingest_batch(self, events: Sequence[LogEvent]) -> IngestBatchResponse:
        response = await self.rpc.ingest_batch(IngestBatchRequest(events=events).SerializeToString(), None)
        return IngestBatchResponse.FromString(response)

    async def ingest_columns(
        self, stream: bytes, compression: EventColumns.Compression.ValueType = EventColumns.NONE
    ) -> IngestColumnsResponse:
        request = IngestColumnsRequest(stream=stream, compression=compression)
        response = await self.rpc.ingest_columns(request.SerializeToString(), None)
        return IngestColumnsResponse.FromString(response)

    async def ingest_json(self, body: bytes) -> IngestJsonResponse:
        response = await self.rpc.ingest_json(IngestJsonRequest(body=HttpBody(data=body)).SerializeToString(), None)
        return IngestJsonResponse.FromString(response)

    async def ingest_json_batch(self, body: bytes) -> IngestJsonBatchResponse:
        request = IngestJsonBatchRequest(body=HttpBody(data=body))
        response = await self.rpc.ingest_json_batch(request.SerializeToString(), None)
        return IngestJsonBatchResponse.FromString(response)


def a_bench(*, redact: Redact = redact_nothing, rates: TenantLimits = NO_LIMITS, **changed: Any) -> Bench:
    """Build it, with the given limits changed."""
    settings: dict[str, Any] = {
        "max_batch_events": 100,
        "max_request_bytes": 2**20,
        "max_message_bytes": 64,
        "max_attributes": 2,
        "max_record_bytes": 20_000,
        "max_inflight_bytes": 2**21,
        "max_stream_bytes": 2**20,
        "linger": timedelta(milliseconds=1),
        "max_linger_events": 3,
    } | changed
    max_in_flight, max_stream_bytes, linger, max_events = (
        settings.pop(name) for name in ("max_inflight_bytes", "max_stream_bytes", "linger", "max_linger_events")
    )
    limits = Limits(**settings)
    producer, in_flight, clock = MemoryProducer(), InFlightBytes(max_in_flight), StandingClock()
    receive_limiter = ReceiveLimiter(16)
    metrics = Metrics(in_flight=lambda: in_flight.reserved, receiving=lambda: receive_limiter.receiving)
    event_rates = EventRates(rates)
    publisher = Publisher(producer, in_flight, clock, metrics, event_rates)
    pipeline = EventPipeline(
        wire=WIRE,
        redactor=EventRedactor(metrics, redact),
        checker=EventChecker(limits),
        clock=clock,
        publisher=publisher,
        metrics=metrics,
    )
    batches = BatchHandler(
        pipeline, BatchJoiner(pipeline, JoinPolicy(linger=linger, max_bytes=limits.max_record_bytes))
    )
    rpc = LogIngest(
        pipeline=pipeline,
        rate_limiter=RateLimiter(event_rates, clock),
        receive_limiter=receive_limiter,
        batcher=Batcher(pipeline, BatchPolicy(linger=linger, max_events=max_events, max_bytes=limits.max_record_bytes)),
        batches=batches,
        columns=ColumnsHandler(batches=batches, publisher=publisher, limits=limits, max_stream_bytes=max_stream_bytes),
    )
    return Bench(rpc=rpc, producer=producer, in_flight=in_flight, rates=event_rates)
