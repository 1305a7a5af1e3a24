"""LogIngestService: requests as bytes, answers for each event."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import numpy as np
import pyarrow as pa

from services.chassis import telemetry
from services.chassis.clock import Clock
from services.chassis.failures import InvalidRequest, MalformedMessage, RequestTooLarge, Violation
from services.chassis.grpc_server import Mount
from services.ingest.core.adjusting import Adjustments, Change, summed_up
from services.ingest.core.checks import MAX_RECORD_ID, Field
from services.ingest.core.columns import Columns, Numbers, sizes_of
from services.ingest.core.framing import cut, framed
from services.ingest.core.limits import Limits
from services.ingest.core.verdict import Fault, Judge, Verdict
from services.ingest.handover import Handover, all_of
from services.ingest.metrics import Metrics
from services.ingest.ports import UnreadableError, Wire
from services.ingest.worker import Gatherer
from tocsin.logs.v1.log_ingest_service_pb2 import (
    DESCRIPTOR,
    AdjustedEvents,
    AdjustedValue,
    IngestBatchResponse,
    IngestResponse,
    RefusedEvent,
)

_SERVICE = DESCRIPTOR.services_by_name["LogIngestService"].full_name
_ONE_ACCEPTED = IngestResponse(accepted_count=1).SerializeToString()
# gRPC allows 8 KiB for all of a failure's details together.
_MAX_VIOLATIONS = 25
# So many odd events are written anew before other calls have their turn.
_MAX_ADJUSTED_AT_ONCE = 500


class IngestRpc:
    """The two rpcs.

    Yes means: all in-sync replicas have the accepted events. A failure while writing does not mean that nothing was
    written: of a request that took several records some may be there, and a record may arrive after its time-out.
    Who sends again after UNAVAILABLE delivers at least once.
    """

    def __init__(
        self,
        *,
        wire: Wire,
        judge: Judge,
        limits: Limits,
        handover: Handover,
        gatherer: Gatherer,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._wire = wire
        self._judge = judge
        self._limits = limits
        self._handover = handover
        self._gatherer = gatherer
        self._clock = clock
        self._metrics = metrics

    def mount(self) -> Mount:
        """Serve both rpcs with bytes in and bytes out."""
        methods: dict[str, Any] = {
            "Ingest": grpc.unary_unary_rpc_method_handler(self.ingest),
            "IngestBatch": grpc.unary_unary_rpc_method_handler(self.ingest_batch),
        }
        handler = grpc.method_handlers_generic_handler(_SERVICE, methods)
        return Mount(_SERVICE, lambda server: server.add_generic_rpc_handlers((handler,)))

    async def ingest(self, request: bytes, _context: Any) -> bytes:
        """Take one event."""
        self._check_size(request)
        try:
            batch = self._wire.single(request)
        except UnreadableError as error:
            raise MalformedMessage(str(error)) from error
        if batch is None:
            raise InvalidRequest("the request holds no event", violations=[Violation("event", "expected an event")])
        with self._handover.admit(len(request)) as hold:
            changes = await self._gatherer.take(batch, hold)
        adjustments = summed_up({0: changes})
        if adjustments is None:
            return _ONE_ACCEPTED
        return IngestResponse(accepted_count=1, adjusted=_adjusted(adjustments)).SerializeToString()

    async def ingest_batch(self, request: bytes, _context: Any) -> bytes:
        """Take those of many events that are allowed."""
        self._check_size(request)
        with self._handover.admit(len(request)) as hold:
            frames, events = self._read(request)
            verdict = self._judge.judge(events, self._clock.now())
            frames, changed = await self._put_right(frames, verdict.to_adjust)
            sizes = framed(sizes_of(frames))
            verdict = self._judge.weigh(verdict, sizes)
            answer = self._answer(verdict, events)
            fits_one_record = len(request) == sizes.sum() <= self._limits.max_record_bytes
            is_as_it_came = fits_one_record and not verdict.missed and not changed
            batches = [request] if is_as_it_came else self._batches(frames, sizes, verdict)
            headers = telemetry.headers()
            written = []
            for batch in batches:
                written.append(self._handover.append(batch, headers))
                hold.keep_until(written[-1])
            await all_of(written)
        self._metrics.accepted(answer.accepted_count)
        self._tell_adjusted(answer, changed)
        return answer.SerializeToString()

    def _check_size(self, request: bytes) -> None:
        if len(request) > self._limits.max_request_bytes:
            raise RequestTooLarge(f"expected at most {self._limits.max_request_bytes} bytes, got {len(request)}")

    def _read(self, request: bytes) -> tuple[pa.BinaryArray, Columns]:
        try:
            frames = self._wire.frames(request)
            # Before the columns are made: a request of empty events would become fifty times as large.
            self._check_count(len(frames))
            return frames, self._wire.events(request)
        except UnreadableError as error:
            raise MalformedMessage(str(error)) from error

    async def _put_right(
        self, frames: pa.BinaryArray, rows: Sequence[int]
    ) -> tuple[pa.BinaryArray, dict[int, frozenset[Change]]]:
        """Write anew the events whose values are odd; the others stay the bytes that they are."""
        changed: dict[int, frozenset[Change]] = {}
        if not rows:
            return frames, changed
        events: list[Any] = frames.to_pylist()
        for done, index in enumerate(rows, start=1):
            events[index], changed[index] = self._wire.adjusted(events[index], self._limits.max_attributes)
            if not done % _MAX_ADJUSTED_AT_ONCE:
                await asyncio.sleep(0)
        return pa.array(events, type=frames.type), changed

    def _check_count(self, events: int) -> None:
        most = self._limits.max_batch_events
        violation = Violation("events", f"expected 1 to {most} events, got {events}")
        if not events:
            raise InvalidRequest("the request holds no events", violations=[violation])
        if events > most:
            raise RequestTooLarge("the request holds too many events", violations=[violation])

    def _answer(self, verdict: Verdict, events: Columns) -> IngestBatchResponse:
        if not verdict.missed:
            return IngestBatchResponse(accepted_count=verdict.count)
        faults = list(verdict.first_faults())
        for fault in faults:
            self._metrics.refused(fault.field)
        if len(faults) == verdict.count:
            raise _none_allowed(verdict)
        return IngestBatchResponse(
            accepted_count=verdict.count - len(faults),
            refused_count=len(faults),
            refused=_refused(faults, events),
        )

    def _batches(self, frames: pa.BinaryArray, sizes: Numbers, verdict: Verdict) -> Sequence[bytes]:
        accepted = np.logical_not(verdict.refused)
        return self._wire.batches(
            frames.filter(pa.array(accepted)), cut(sizes[accepted], self._limits.max_record_bytes)
        )

    def _tell_adjusted(self, answer: IngestBatchResponse, changed: Mapping[int, frozenset[Change]]) -> None:
        refused = {each.index for each in answer.refused}
        adjustments = summed_up({index: changes for index, changes in changed.items() if index not in refused})
        if adjustments is None:
            return
        answer.adjusted.CopyFrom(_adjusted(adjustments))
        for change, occurrence in adjustments.kinds.items():
            self._metrics.adjusted(change, occurrence.count)


def _adjusted(adjustments: Adjustments) -> AdjustedEvents:
    values = [
        AdjustedValue(
            field=change.field.value,
            action=AdjustedValue.Action.Value(change.action.name),
            count=found.count,
            indexes=found.indexes,
        )
        for change, found in adjustments.kinds.items()
    ]
    return AdjustedEvents(event_count=adjustments.event_count, values=values)


def _refused(faults: Sequence[Fault], events: Columns) -> list[RefusedEvent]:
    record_ids: list[Any] = events["record_id"].take(pa.array([fault.index for fault in faults])).to_pylist()
    return [
        RefusedEvent(
            index=fault.index,
            # Too long a record_id may be what is wrong.
            record_id=record_id[:MAX_RECORD_ID],
            field=fault.field.value,
            reason=fault.reason,
        )
        for fault, record_id in zip(faults, record_ids, strict=True)
    ]


def _none_allowed(verdict: Verdict) -> InvalidRequest:
    violations: list[Violation] = []
    for fault in verdict.faults():
        if len(violations) == _MAX_VIOLATIONS:
            break
        violations.append(Violation(_path(fault), fault.reason))
    return InvalidRequest(f"none of the {verdict.count} events is allowed", violations=violations)


def _path(fault: Fault) -> str:
    place = f"events[{fault.index}]"
    return place if fault.field is Field.EVENT else f"{place}.{fault.field.value}"
