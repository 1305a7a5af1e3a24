"""LogIngestService: requests as bytes, and an outcome for each event."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from services.chassis.callers import current_caller
from services.chassis.failures import InvalidRequest, MalformedMessage, Violation
from services.chassis.grpc_server import Mount
from services.chassis.receive_limiter import ReceiveLimiter
from services.ingest.core.adjustments import Adjustment, summarize
from services.ingest.core.field_checks import EventField
from services.ingest.core.json_columns import read_event
from services.ingest.core.json_events import JsonEvent, JsonEvents
from services.ingest.core.json_text import JsonError
from services.ingest.ports import UnreadableRequestError
from services.ingest.rpc.batch_handler import BatchHandler, check_size
from services.ingest.rpc.columns_handler import ColumnsHandler
from services.ingest.rpc.outcomes import adjusted_events
from services.ingest.rpc.rate_limiter import RateLimiter
from services.ingest.worker.batcher import Batcher
from services.ingest.worker.event_pipeline import EventPipeline
from tocsin.logs.v1.log_ingest_service_pb2 import DESCRIPTOR, IngestJsonRequest, IngestResponse

_SERVICE = DESCRIPTOR.services_by_name["LogIngestService"].full_name
_ONE_ACCEPTED = IngestResponse(accepted_count=1).SerializeToString()


class LogIngest:
    """The rpcs, for protobuf and for JSON.

    OK means that all in-sync replicas have the accepted events. A failure while writing does not mean that nothing was
    written: of a request that took several records some may be there, and a record may arrive after its timeout.
    A client that sends again after UNAVAILABLE delivers at least once.
    """

    def __init__(
        self,
        *,
        pipeline: EventPipeline,
        rate_limiter: RateLimiter,
        receive_limiter: ReceiveLimiter,
        batcher: Batcher,
        batches: BatchHandler,
        columns: ColumnsHandler,
    ) -> None:
        self._pipeline = pipeline
        self._limits = pipeline.checker.limits
        self._rate_limiter = rate_limiter
        self._receive_limiter = receive_limiter
        self._batcher = batcher
        self._batches = batches
        self._columns = columns

    def mount(self) -> Mount:
        """Serve the rpcs with bytes in and bytes out."""
        rpcs = {
            "Ingest": self.ingest,
            "IngestBatch": self.ingest_batch,
            "IngestColumns": self.ingest_columns,
            "IngestJson": self.ingest_json,
            "IngestJsonBatch": self.ingest_json_batch,
        }
        methods: dict[str, Any] = {name: self._received(rpc) for name, rpc in rpcs.items()}
        handler = grpc.method_handlers_generic_handler(_SERVICE, methods)
        return Mount(_SERVICE, lambda server: server.add_generic_rpc_handlers((handler,)))

    def _received(self, rpc: Callable[[bytes, Any], Awaitable[bytes]]) -> Any:
        """Receive a call's one request when its tenant may send and a slot is free, and not before, as gRPC would.

        What Envoy has sent as a whole already, as most single events, needs no slot.
        """

        async def receive_and_call(_requests: Any, context: Any) -> bytes:
            async def receive() -> bytes:
                is_here: bool = getattr(context, "has_whole_body", False)
                request = await self._receive_limiter.receive(context.read, is_here=is_here)
                self._rate_limiter.check()
                return await rpc(request, context)

            return await self._rate_limiter.run(receive)

        return grpc.stream_unary_rpc_method_handler(receive_and_call)

    async def ingest(self, request: bytes, _context: Any) -> bytes:
        check_size(len(request), self._limits)
        try:
            batch = self._pipeline.wire.read_single(request)
        except UnreadableRequestError as error:
            raise MalformedMessage(str(error)) from error
        if batch is None:
            raise InvalidRequest(
                "the request holds no event", violations=[Violation("event", "expected an event, found nothing")]
            )
        with self._pipeline.publisher.reserve(len(request)) as reservation:
            services = current_caller().services
            return _one_accepted(await self._batcher.publish(batch, reservation, services=services))

    async def ingest_batch(self, request: bytes, _context: Any) -> bytes:
        check_size(len(request), self._limits)
        with self._pipeline.publisher.reserve(len(request)) as reservation:
            response = await self._batches.publish(request, reservation)
        return response.SerializeToString()

    async def ingest_columns(self, request: bytes, _context: Any) -> bytes:
        check_size(len(request), self._limits)
        # IngestColumnsResponse has the same fields.
        return (await self._columns.publish(request)).SerializeToString()

    async def ingest_json(self, request: bytes, _context: Any) -> bytes:
        with self._pipeline.publisher.reserve(len(request)) as reservation:
            event = self._json_event(_body(request))
            writer = self._pipeline.wire.new_batch()
            writer.add(event.fields, event.attributes)
            batch = writer.to_bytes()
            check_size(len(batch), self._limits)
            adjustments = await self._batcher.publish(
                batch,
                reservation,
                adjustments=frozenset(event.adjustments),
                found_values=event.found_values,
                services=current_caller().services,
            )
            return _one_accepted(adjustments)

    async def ingest_json_batch(self, request: bytes, _context: Any) -> bytes:
        with self._pipeline.publisher.reserve(len(request)) as reservation:
            body = _body(request)
            # Only one of the two has a reservation.
            del request
            try:
                events = await self._batches.read_json(body)
            except JsonError as error:
                raise _malformed(error) from error
            del body
            response = await self._batches.publish_events(events, reservation)
        return response.SerializeToString()

    def _json_event(self, body: bytes) -> JsonEvent:
        usual = read_event(body, self._limits.max_attributes)
        if usual is not None:
            return usual
        try:
            event = JsonEvents(body, self._limits.max_attributes).one()
        except JsonError as error:
            raise _malformed(error) from error
        if EventField.EVENT in event.found_values:
            expected = (
                f"expected a JSON object, found {event.found_values[EventField.EVENT]}; /api/logs/batch takes lists"
            )
            raise InvalidRequest(f"body: {expected}", violations=[Violation("body", expected)])
        return event


def _body(request: bytes) -> bytes:
    try:
        body: bytes = IngestJsonRequest.FromString(request).body.data
    except DecodeError as error:
        raise MalformedMessage("not an HttpBody") from error
    return body


def _malformed(error: JsonError) -> MalformedMessage:
    return MalformedMessage(f"body: {error}", violations=[Violation("body", str(error))])


def _one_accepted(adjustments: frozenset[Adjustment]) -> bytes:
    summary = summarize({0: adjustments})
    if summary is None:
        return _ONE_ACCEPTED
    return IngestResponse(accepted_count=1, adjusted=adjusted_events(summary)).SerializeToString()
