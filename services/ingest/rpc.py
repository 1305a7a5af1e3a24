"""LogIngestService: requests as bytes, answers for each event."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from services.chassis.failures import InvalidRequest, MalformedMessage, Violation
from services.chassis.grpc_server import Mount
from services.ingest.batch import Batch, Batches, adjusted_events, check_size
from services.ingest.core.adjusting import Change, summed_up
from services.ingest.core.checks import Field
from services.ingest.core.json_events import JsonEvent, JsonEvents
from services.ingest.core.json_text import JsonError
from services.ingest.core.limits import Limits
from services.ingest.handover import Handover
from services.ingest.ports import UnreadableError, Wire
from services.ingest.reception import Reception
from services.ingest.worker import Gatherer
from tocsin.logs.v1.log_ingest_service_pb2 import DESCRIPTOR, IngestJsonRequest, IngestResponse

_SERVICE = DESCRIPTOR.services_by_name["LogIngestService"].full_name
_ONE_ACCEPTED = IngestResponse(accepted_count=1).SerializeToString()


class IngestRpc:
    """The rpcs, for protobuf and for JSON.

    Yes means: all in-sync replicas have the accepted events. A failure while writing does not mean that nothing was
    written: of a request that took several records some may be there, and a record may arrive after its time-out.
    Who sends again after UNAVAILABLE delivers at least once.
    """

    def __init__(
        self,
        *,
        wire: Wire,
        limits: Limits,
        reception: Reception,
        handover: Handover,
        gatherer: Gatherer,
        batches: Batches,
    ) -> None:
        self._wire = wire
        self._limits = limits
        self._reception = reception
        self._handover = handover
        self._gatherer = gatherer
        self._batches = batches

    def mount(self) -> Mount:
        """Serve the rpcs with bytes in and bytes out."""
        acts = {
            "Ingest": self.ingest,
            "IngestBatch": self.ingest_batch,
            "IngestJson": self.ingest_json,
            "IngestJsonBatch": self.ingest_json_batch,
        }
        methods: dict[str, Any] = {name: self._received(act) for name, act in acts.items()}
        handler = grpc.method_handlers_generic_handler(_SERVICE, methods)
        return Mount(_SERVICE, lambda server: server.add_generic_rpc_handlers((handler,)))

    def _received(self, act: Callable[[bytes, Any], Awaitable[bytes]]) -> Any:
        """Let a call's one request be read when there is a place for it, and not before, as gRPC does by itself."""

        async def received(_requests: Any, context: Any) -> bytes:
            return await act(await self._reception.one(context.read), context)

        return grpc.stream_unary_rpc_method_handler(received)

    async def ingest(self, request: bytes, _context: Any) -> bytes:
        """Take one event."""
        check_size(len(request), self._limits)
        try:
            batch = self._wire.single(request)
        except UnreadableError as error:
            raise MalformedMessage(str(error)) from error
        if batch is None:
            raise InvalidRequest("the request holds no event", violations=[Violation("event", "expected an event")])
        with self._handover.admit(len(request)) as hold:
            return _one_accepted(await self._gatherer.take(batch, hold))

    async def ingest_batch(self, request: bytes, _context: Any) -> bytes:
        """Take those of many events that are allowed."""
        check_size(len(request), self._limits)
        with self._handover.admit(len(request)) as hold:
            answer = await self._batches.take(Batch(request=request), hold)
        return answer.SerializeToString()

    async def ingest_json(self, request: bytes, _context: Any) -> bytes:
        """Take one event that is a JSON object."""
        with self._handover.admit(len(request)) as hold:
            body = _body(request)
            event = self._json_event(body)
            writer = self._wire.writer()
            writer.add(event.fields, event.attributes)
            batch = writer.written()
            check_size(len(batch), self._limits)
            changes = frozenset(event.changes)
            return _one_accepted(await self._gatherer.take(batch, hold, changes=changes, found=event.found))

    async def ingest_json_batch(self, request: bytes, _context: Any) -> bytes:
        """Take those of many events in a JSON list that are allowed."""
        with self._handover.admit(len(request)) as hold:
            body = _body(request)
            # Only one of the two is what was admitted.
            del request
            try:
                batch = await self._batches.from_json(body)
            except JsonError as error:
                raise _malformed(error) from error
            del body
            answer = await self._batches.take(batch, hold)
        return answer.SerializeToString()

    def _json_event(self, body: bytes) -> JsonEvent:
        try:
            event = JsonEvents(body, self._limits.max_attributes).one()
        except JsonError as error:
            raise _malformed(error) from error
        if Field.EVENT in event.found:
            expected = f"expected a JSON object, found {event.found[Field.EVENT]}"
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


def _one_accepted(changes: frozenset[Change]) -> bytes:
    adjustments = summed_up({0: changes})
    if adjustments is None:
        return _ONE_ACCEPTED
    return IngestResponse(accepted_count=1, adjusted=adjusted_events(adjustments)).SerializeToString()
