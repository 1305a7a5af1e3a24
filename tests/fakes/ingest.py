"""Ingest with a topic in memory and a clock that stands."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from google.api.httpbody_pb2 import HttpBody

from services.ingest.adapters.wire import ProtobufWire
from services.ingest.batch import Batches
from services.ingest.core.budget import Budget
from services.ingest.core.gathering import Gathering
from services.ingest.core.limits import Limits
from services.ingest.core.verdict import Judge
from services.ingest.handover import Handover
from services.ingest.metrics import Metrics
from services.ingest.reception import Reception
from services.ingest.rpc import IngestRpc
from services.ingest.worker import Gatherer
from tests.fakes.event_stream import MemoryStream
from tests.fakes.log_events import NOW
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import (
    IngestBatchRequest,
    IngestBatchResponse,
    IngestJsonBatchRequest,
    IngestJsonBatchResponse,
    IngestJsonRequest,
    IngestJsonResponse,
    IngestRequest,
    IngestResponse,
)

WIRE = ProtobufWire()


class StandingClock:
    """It is always NOW."""

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return 0.0


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The rpcs, called as a client would, and what stands behind them."""

    rpc: IngestRpc
    stream: MemoryStream
    budget: Budget

    async def ingest(self, event: LogEvent) -> IngestResponse:
        answer = await self.rpc.ingest(IngestRequest(event=event).SerializeToString(), None)
        return IngestResponse.FromString(answer)

    async def ingest_batch(self, events: Sequence[LogEvent]) -> IngestBatchResponse:
        answer = await self.rpc.ingest_batch(IngestBatchRequest(events=events).SerializeToString(), None)
        return IngestBatchResponse.FromString(answer)

    async def ingest_json(self, body: bytes) -> IngestJsonResponse:
        answer = await self.rpc.ingest_json(IngestJsonRequest(body=HttpBody(data=body)).SerializeToString(), None)
        return IngestJsonResponse.FromString(answer)

    async def ingest_json_batch(self, body: bytes) -> IngestJsonBatchResponse:
        request = IngestJsonBatchRequest(body=HttpBody(data=body))
        answer = await self.rpc.ingest_json_batch(request.SerializeToString(), None)
        return IngestJsonBatchResponse.FromString(answer)


def a_bench(**changed: Any) -> Bench:
    """Build it, with the given limits changed."""
    settings: dict[str, Any] = {
        "max_batch_events": 100,
        "max_request_bytes": 2**20,
        "max_message_bytes": 64,
        "max_attributes": 2,
        "max_record_bytes": 20_000,
        "max_inflight_bytes": 2**21,
        "gather": timedelta(milliseconds=1),
        "gather_events": 3,
    } | changed
    inflight, wait, together = (settings.pop(name) for name in ("max_inflight_bytes", "gather", "gather_events"))
    limits = Limits(**settings)
    stream, budget, clock, judge = MemoryStream(), Budget(inflight), StandingClock(), Judge(limits)
    reception = Reception(16)
    metrics = Metrics(in_flight=lambda: budget.taken, receiving=lambda: reception.count)
    handover = Handover(stream, budget, clock, metrics)
    policy = Gathering(wait=wait, max_events=together, max_bytes=limits.max_record_bytes)
    gatherer = Gatherer(
        wire=WIRE, judge=judge, limits=limits, handover=handover, policy=policy, clock=clock, metrics=metrics
    )
    batches = Batches(wire=WIRE, judge=judge, limits=limits, handover=handover, clock=clock, metrics=metrics)
    rpc = IngestRpc(
        wire=WIRE, limits=limits, reception=reception, handover=handover, gatherer=gatherer, batches=batches
    )
    return Bench(rpc=rpc, stream=stream, budget=budget)
