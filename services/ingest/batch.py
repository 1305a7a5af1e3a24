"""Many events of one call: judged together, put right where that is needed, and handed over in records."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from services.chassis import telemetry
from services.chassis.clock import Clock
from services.chassis.failures import InvalidRequest, MalformedMessage, RequestTooLarge, Violation
from services.domain.event_fields import MAX_RECORD_ID
from services.ingest.core.adjusting import Adjustments, Change, summed_up
from services.ingest.core.checks import Demand, Field
from services.ingest.core.columns import Columns, Numbers, sizes_of
from services.ingest.core.framing import cut, framed
from services.ingest.core.json_events import JsonEvents
from services.ingest.core.limits import Limits
from services.ingest.core.verdict import Fault, Findings, Judge, Verdict, reason
from services.ingest.handover import Handover, Hold, all_of
from services.ingest.metrics import Metrics
from services.ingest.ports import UnreadableError, Wire
from tocsin.logs.v1.log_ingest_service_pb2 import AdjustedEvents, AdjustedValue, IngestBatchResponse, RefusedEvent

# gRPC allows 8 KiB for all of a failure's details together.
_MAX_VIOLATIONS = 25
# So many events are read from JSON, or written anew, before other calls have their turn.
_AT_ONCE = 250
_AN_OBJECT = Demand(Field.EVENT, "a JSON object")


@dataclass(slots=True, kw_only=True)
class Batch:
    """An IngestBatchRequest as bytes, and what is known of it when it was made from something else."""

    request: bytes
    changed: dict[int, set[Change]] = field(default_factory=dict)
    findings: dict[tuple[int, Field], str] = field(default_factory=dict)


class Batches:
    """Takes those of many events that are allowed."""

    def __init__(
        self, *, wire: Wire, judge: Judge, limits: Limits, handover: Handover, clock: Clock, metrics: Metrics
    ) -> None:
        self._wire = wire
        self._judge = judge
        self._limits = limits
        self._handover = handover
        self._clock = clock
        self._metrics = metrics
        self._reading = asyncio.Lock()

    async def from_json(self, body: bytes) -> Batch:
        """Read a batch from JSON; one at a time, since what is being read takes several times its text's memory."""
        batch, writer = Batch(request=b""), self._wire.writer()
        async with self._reading:
            for index, event in enumerate(JsonEvents(body, self._limits.max_attributes).each()):
                self._check_count(index + 1)
                writer.add(event.fields, event.attributes)
                if event.changes:
                    batch.changed[index] = event.changes
                for where, found in event.found.items():
                    batch.findings[index, where] = found
                if index % _AT_ONCE == _AT_ONCE - 1:
                    await asyncio.sleep(0)
            batch.request = writer.written()
        check_size(len(batch.request), self._limits)
        return batch

    async def take(self, batch: Batch, hold: Hold) -> IngestBatchResponse:
        """Return when Kafka has the allowed events; raise InvalidRequest where none is, or the stream's failure."""
        frames, events = self._read(batch.request)
        verdict = self._verdict(events, batch.findings)
        frames = await self._put_right(frames, verdict.to_adjust, batch.changed)
        sizes = framed(sizes_of(frames))
        verdict = self._judge.weigh(verdict, sizes)
        answer = self._answer(verdict, events, batch.findings)
        written = []
        headers = telemetry.trace_headers()
        for record in self._records(batch, frames, sizes, verdict):
            written.append(self._handover.append(record, headers))
            hold.keep_until(written[-1])
        await all_of(written)
        self._metrics.accepted(answer.accepted_count)
        self._tell_adjusted(answer, batch.changed)
        return answer

    def _read(self, request: bytes) -> tuple[pa.BinaryArray, Columns]:
        try:
            frames = self._wire.frames(request)
            # Before the columns are made: a request of empty events would become fifty times as large.
            self._check_count(len(frames))
            return frames, self._wire.events(request)
        except UnreadableError as error:
            raise MalformedMessage(str(error)) from error

    def _check_count(self, events: int) -> None:
        most = self._limits.max_batch_events
        violation = Violation("events", f"expected 1 to {most} events, got {events}")
        if not events:
            raise InvalidRequest("the request holds no events", violations=[violation])
        if events > most:
            raise RequestTooLarge("the request holds too many events", violations=[violation])

    def _verdict(self, events: Columns, findings: Findings) -> Verdict:
        verdict = self._judge.judge(events, self._clock.now())
        no_objects = [index for index, where in findings if where is Field.EVENT]
        if not no_objects:
            return verdict
        rows = np.zeros(verdict.count, dtype=np.bool_)
        rows[no_objects] = True
        return verdict.without(_AN_OBJECT, rows)

    async def _put_right(
        self, frames: pa.BinaryArray, rows: Sequence[int], changed: dict[int, set[Change]]
    ) -> pa.BinaryArray:
        """Write anew the events whose values are odd; the others stay the bytes that they are."""
        if not rows:
            return frames
        events: list[Any] = frames.to_pylist()
        for done, index in enumerate(rows, start=1):
            events[index], changes = self._wire.adjusted(events[index], self._limits.max_attributes)
            changed.setdefault(index, set()).update(changes)
            if not done % _AT_ONCE:
                await asyncio.sleep(0)
        return pa.array(events, type=frames.type)

    def _answer(self, verdict: Verdict, events: Columns, findings: Findings) -> IngestBatchResponse:
        if not verdict.missed:
            return IngestBatchResponse(accepted_count=verdict.count)
        faults = list(verdict.first_faults())
        for fault in faults:
            self._metrics.refused(fault.field)
        if len(faults) == verdict.count:
            raise _none_allowed(verdict, findings)
        return IngestBatchResponse(
            accepted_count=verdict.count - len(faults),
            refused_count=len(faults),
            refused=_refused(faults, events, findings),
        )

    def _records(self, batch: Batch, frames: pa.BinaryArray, sizes: Numbers, verdict: Verdict) -> Sequence[bytes]:
        """Keep the bytes that came where all of them are allowed events and fit one record; else cut the events out."""
        most = self._limits.max_record_bytes
        if not verdict.missed and not verdict.to_adjust and len(batch.request) == sizes.sum() <= most:
            return [batch.request]
        accepted = np.logical_not(verdict.refused)
        return self._wire.batches(frames.filter(pa.array(accepted)), cut(sizes[accepted], most))

    def _tell_adjusted(self, answer: IngestBatchResponse, changed: Mapping[int, set[Change]]) -> None:
        refused = {each.index for each in answer.refused}
        adjustments = summed_up({index: changes for index, changes in changed.items() if index not in refused})
        if adjustments is None:
            return
        answer.adjusted.CopyFrom(adjusted_events(adjustments))
        for change, occurrence in adjustments.kinds.items():
            self._metrics.adjusted(change, occurrence.count)


def check_size(size: int, limits: Limits) -> None:
    """Raise RequestTooLarge where a request's events are more bytes than allowed."""
    if size > limits.max_request_bytes:
        raise RequestTooLarge(f"expected at most {limits.max_request_bytes} bytes, got {size}")


def adjusted_events(adjustments: Adjustments) -> AdjustedEvents:
    """Say in the contract's words what was put right."""
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


def _refused(faults: Sequence[Fault], events: Columns, findings: Findings) -> list[RefusedEvent]:
    record_ids: list[Any] = events["record_id"].take(pa.array([fault.index for fault in faults])).to_pylist()
    return [
        RefusedEvent(
            index=fault.index,
            record_id=record_id[:MAX_RECORD_ID],
            field=fault.field.value,
            reason=reason(fault, findings),
        )
        for fault, record_id in zip(faults, record_ids, strict=True)
    ]


def _none_allowed(verdict: Verdict, findings: Findings) -> InvalidRequest:
    violations: list[Violation] = []
    for fault in verdict.faults():
        if len(violations) == _MAX_VIOLATIONS:
            break
        violations.append(Violation(_path(fault), reason(fault, findings)))
    return InvalidRequest(f"none of the {verdict.count} events is allowed", violations=violations)


def _path(fault: Fault) -> str:
    place = f"events[{fault.index}]"
    return place if fault.field is Field.EVENT else f"{place}.{fault.field.value}"
