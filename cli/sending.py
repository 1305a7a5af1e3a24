"""Sending events in batches, several at once, until each is accepted or refused."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice

import grpc

from cli.client import DEADLINE, retry_delay, violations
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import IngestBatchRequest, IngestBatchResponse
from tocsin.logs.v1.log_ingest_service_pb2_grpc import LogIngestServiceStub

BATCH = 500
IN_FLIGHT = 4
ATTEMPTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An event to send, and the line of the file that it began on."""

    number: int
    event: LogEvent
    line_count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A line that the server did not take."""

    line: int
    field: str
    reason: str


@dataclass(slots=True, kw_only=True)
class Tally:
    """What has become of the events so far."""

    accepted: int = 0
    lines: int = 0
    by_level: Counter[str] = field(default_factory=Counter)
    refused: list[Refusal] = field(default_factory=list)
    # The oldest event time that was sent, in seconds since 1970.
    oldest: int | None = None


@dataclass(slots=True, kw_only=True)
class _Call:
    batch: list[Line]
    request: IngestBatchRequest
    answer: grpc.Future  # type: ignore[type-arg]  # generic in its stubs only
    attempt: int = 1


def send(channel: grpc.Channel, lines: Iterable[Line], *, progress: Callable[[Tally], None]) -> Tally:
    """Send every event; `progress` is called after each batch.

    A batch that the server has no room for, or that finds Kafka away, is sent again after the delay that the server
    asks for, some times. Raises grpc.RpcError when the server refuses a call for another reason or stays away.
    """
    stub = LogIngestServiceStub(channel)
    tally = Tally()
    waiting: deque[_Call] = deque()
    source = iter(lines)
    while batch := list(islice(source, BATCH)):
        waiting.append(_called(stub, batch))
        if len(waiting) >= IN_FLIGHT:
            _finish(stub, waiting.popleft(), tally)
            progress(tally)
    while waiting:
        _finish(stub, waiting.popleft(), tally)
        progress(tally)
    return tally


def _called(stub: LogIngestServiceStub, batch: list[Line]) -> _Call:
    request = IngestBatchRequest(events=[line.event for line in batch])
    return _Call(batch=batch, request=request, answer=stub.IngestBatch.future(request, timeout=DEADLINE))


def _finish(stub: LogIngestServiceStub, call: _Call, tally: Tally) -> None:
    """Wait for an answer and count it."""
    while True:
        try:
            _count(call.batch, call.answer.result(), tally)
        except grpc.RpcError as error:
            if _all_refused(error):
                _count_refused(call.batch, error, tally)
                return
            delay = retry_delay(error)
            if delay is None or call.attempt >= ATTEMPTS:
                raise
            time.sleep(delay)
            call.attempt += 1
            call.answer = stub.IngestBatch.future(call.request, timeout=DEADLINE)
        else:
            return


def _all_refused(error: grpc.RpcError) -> bool:
    return error.code() is grpc.StatusCode.INVALID_ARGUMENT and bool(violations(error))


def _count(batch: list[Line], answer: IngestBatchResponse, tally: Tally) -> None:
    refused = {refusal.index: refusal for refusal in answer.refused}
    for index, line in enumerate(batch):
        tally.lines += line.line_count
        _note_time(line.event, tally)
        if index in refused:
            reason = refused[index]
            tally.refused.append(Refusal(line=line.number, field=reason.field, reason=reason.reason))
        else:
            tally.accepted += 1
            tally.by_level[LogEvent.Level.Name(line.event.level)] += 1


def _note_time(event: LogEvent, tally: Tally) -> None:
    if event.HasField("event_time"):
        seconds = event.event_time.seconds
        tally.oldest = seconds if tally.oldest is None else min(tally.oldest, seconds)


def _count_refused(batch: list[Line], error: grpc.RpcError, tally: Tally) -> None:
    """A batch without one good event is refused as a whole, with a violation named "events[3].service" for each."""
    reasons: dict[int, tuple[str, str]] = {}
    for name, description in violations(error):
        place, _, inner = name.removeprefix("events[").partition("].")
        if place.isdigit():
            reasons.setdefault(int(place), (inner, description))
    for index, line in enumerate(batch):
        wrong, reason = reasons.get(index, ("event", "refused together with the whole batch"))
        tally.lines += line.line_count
        tally.refused.append(Refusal(line=line.number, field=wrong, reason=reason))
