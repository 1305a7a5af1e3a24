"""Ingest as a server on a free port that keeps what comes and answers as it is told."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pyarrow as pa
from grpc_status import rpc_status

from services.chassis.failures import RequestTooLarge, to_status
from services.contract.event_columns import EVENT_SCHEMA
from tocsin.logs.v1.log_event_pb2 import EventColumns, LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import (
    IngestBatchRequest,
    IngestBatchResponse,
    IngestColumnsRequest,
    IngestColumnsResponse,
)
from tocsin.rules.v1.alert_rule_pb2 import AlertRule
from tocsin.rules.v1.alert_rule_service_pb2 import ListAlertRulesRequest, ListAlertRulesResponse


@dataclass(slots=True, kw_only=True)
class IngestServer:
    """Serves IngestBatch and, if asked to, IngestColumns; accepts all but the calls that `is_away` is true for."""

    address: str = ""
    is_away: Callable[[IngestBatchRequest], bool] = lambda _request: False
    then: Callable[[], None] = lambda: None
    # Those that came as columns are here as well, in the other form.
    requests: list[IngestBatchRequest] = field(default_factory=list)
    # How many calls came with columns.
    columns_calls: int = 0
    takes_columns: bool = False
    max_events: int = 10_000
    # What rules are listed; None: the call fails.
    rules: list[AlertRule] | None = None

    @property
    def events(self) -> list[LogEvent]:
        return [event for request in self.requests for event in request.events]

    @property
    def messages(self) -> list[str]:
        return [event.message for event in self.events]

    def ingest_batch(self, request: IngestBatchRequest, context: grpc.ServicerContext) -> IngestBatchResponse:
        if self.is_away(request):
            context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        self.requests.append(request)
        self.then()
        return IngestBatchResponse(accepted_count=len(request.events))

    def ingest_columns(self, request: IngestColumnsRequest, context: grpc.ServicerContext) -> IngestColumnsResponse:
        self.columns_calls += 1
        if not self.takes_columns:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "no columns here")
        events = events_of_stream(request)
        if len(events) > self.max_events:
            context.abort_with_status(rpc_status.to_status(to_status(RequestTooLarge("too many events"))))
        response = self.ingest_batch(IngestBatchRequest(events=events), context)
        return IngestColumnsResponse(accepted_count=response.accepted_count)

    def list_rules(self, request: ListAlertRulesRequest, context: grpc.ServicerContext) -> ListAlertRulesResponse:
        """Return one rule on each page."""
        if self.rules is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "no rules here")
        index = int(request.page_token or 0)
        is_last = index + 1 >= len(self.rules)
        return ListAlertRulesResponse(
            alert_rules=self.rules[index : index + 1], next_page_token="" if is_last else str(index + 1)
        )


def events_of_stream(request: IngestColumnsRequest) -> list[LogEvent]:
    """Return the events of a stream with the contract's schema."""
    assert request.compression == EventColumns.ZSTD
    with (
        pa.CompressedInputStream(pa.BufferReader(request.stream), "zstd") as source,
        pa.ipc.open_stream(source) as reader,
    ):
        columns = reader.read_all()
    assert columns.schema == EVENT_SCHEMA
    place = columns.schema.get_field_index("event_time")
    rows = columns.set_column(place, "event_time", columns.column(place).cast(pa.int64())).to_pylist()
    return [_event_of_row(row) for row in rows]


def _event_of_row(row: dict[str, Any]) -> LogEvent:
    nanoseconds = row.pop("event_time")
    event = LogEvent(**(row | {"attributes": dict(row["attributes"])}))
    if nanoseconds is not None:
        event.event_time.FromNanoseconds(nanoseconds)
    return event


@contextmanager
def ingest_server() -> Iterator[IngestServer]:
    """Serve until the end; calls come one after another."""
    fake = IngestServer()
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    rpc = grpc.unary_unary_rpc_method_handler(
        fake.ingest_batch, IngestBatchRequest.FromString, IngestBatchResponse.SerializeToString
    )
    columns_rpc = grpc.unary_unary_rpc_method_handler(
        fake.ingest_columns, IngestColumnsRequest.FromString, IngestColumnsResponse.SerializeToString
    )
    handler = grpc.method_handlers_generic_handler(
        "tocsin.logs.v1.LogIngestService", {"IngestBatch": rpc, "IngestColumns": columns_rpc}
    )
    list_rpc = grpc.unary_unary_rpc_method_handler(
        fake.list_rules, ListAlertRulesRequest.FromString, ListAlertRulesResponse.SerializeToString
    )
    rules_handler = grpc.method_handlers_generic_handler(
        "tocsin.rules.v1.AlertRuleService", {"ListAlertRules": list_rpc}
    )
    server.add_generic_rpc_handlers((handler, rules_handler))
    fake.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield fake
    finally:
        server.stop(grace=None).wait()
