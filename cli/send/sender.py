"""Sending events in batches, several at once, until each is accepted or refused."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import grpc

from cli.client import DEADLINE, retry_delay, violations
from cli.parsing.event import Note
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import IngestBatchRequest, IngestBatchResponse
from tocsin.logs.v1.log_ingest_service_pb2_grpc import LogIngestServiceStub

BATCH = 500
# A quarter of what ingest takes in one call (INGEST_MAX_REQUEST_BYTES), and more than any event has.
BATCH_BYTES = 1024 * 1024
# The tag and the length before an event in a request.
_FRAME_BYTES = 6
IN_FLIGHT = 4
ATTEMPTS = 8
# How many words that are no levels are remembered, and how much of each.
_WORDS = 20
_LONGEST_WORD = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An event to send, and the lines of the file that it began and ended on."""

    number: int
    last: int
    event: LogEvent
    line_count: int = 1
    notes: tuple[Note, ...] = ()
    unknown_level: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A line that is no event, or that the server did not take."""

    line: int
    field: str
    reason: str
    line_count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Lines from the first to the last, both included; to the end when the last is None."""

    first: int
    last: int | None


@dataclass(slots=True, kw_only=True)
class Tally:
    """What has become of the events so far."""

    accepted: int = 0
    lines: int = 0
    by_level: Counter[str] = field(default_factory=Counter)
    refused: list[Refusal] = field(default_factory=list)
    # How many of the accepted events there is something to be told of, and the words of their unknown levels.
    notes: Counter[Note] = field(default_factory=Counter)
    unknown_levels: Counter[str] = field(default_factory=Counter)
    # Lines that may have to be sent again: whether they were accepted is not known.
    unsent: list[Span] = field(default_factory=list)
    # The last line that was put into a call.
    last_line: int = 0
    # The oldest event time that was sent, in seconds since 1970.
    oldest: int | None = None


@dataclass(slots=True, kw_only=True)
class _Call:
    batch: list[Line]
    request: IngestBatchRequest
    answer: grpc.Future  # type: ignore[type-arg]  # generic in its stubs only
    attempt: int = 1


def send(
    channel: grpc.Channel,
    items: Iterable[Line | Refusal | None],
    *,
    progress: Callable[[Tally], None],
    tally: Tally | None = None,
) -> Tally:
    """Send every event; `progress` is called after each batch. A None sends what there is, and waits for the answers.

    A batch that the server has no room for, or that finds Kafka away, is sent again after the delay that the server
    asks for, some times. Raises grpc.RpcError when the server refuses a call for another reason or stays away; what
    was sent before, and which lines were not, stands in `tally` then.
    """
    stub = LogIngestServiceStub(channel)
    tally = Tally() if tally is None else tally
    waiting: deque[_Call] = deque()
    is_read = False
    try:
        for batch in batches(items, tally):
            if batch:
                waiting.append(_called(stub, batch))
                tally.last_line = max(tally.last_line, *(line.last for line in batch))
            _finish_all(stub, waiting, tally, progress, but=IN_FLIGHT - 1 if batch else 0)
        is_read = True
        _finish_all(stub, waiting, tally, progress)
    except (grpc.RpcError, KeyboardInterrupt) as error:
        _give_up(waiting, tally, is_patient=isinstance(error, grpc.RpcError))
        if not is_read:
            tally.unsent.append(Span(first=tally.last_line + 1, last=None))
        raise
    return tally


def batches(items: Iterable[Line | Refusal | None], tally: Tally) -> Iterator[list[Line]]:
    """Batches that are small enough for one call, and an empty one for each None; refusals are counted."""
    batch: list[Line] = []
    size = 0
    for item in items:
        if isinstance(item, Refusal):
            _refuse(item, tally)
            continue
        more = item.event.ByteSize() + _FRAME_BYTES if item else 0
        if batch and (item is None or len(batch) >= BATCH or size + more > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        if item is None:
            yield []
        else:
            batch.append(item)
            size += more
    if batch:
        yield batch


def _refuse(refusal: Refusal, tally: Tally) -> None:
    tally.lines += refusal.line_count
    tally.refused.append(refusal)


def _refusal(line: Line, name: str, reason: str) -> Refusal:
    return Refusal(line=line.number, field=name, reason=reason, line_count=line.line_count)


def _finish_all(
    stub: LogIngestServiceStub,
    waiting: deque[_Call],
    tally: Tally,
    progress: Callable[[Tally], None],
    but: int = 0,
) -> None:
    """Wait for the answers to all calls but the last few."""
    while len(waiting) > but:
        _finish(stub, waiting[0], tally)
        waiting.popleft()
        progress(tally)


def _give_up(waiting: Iterable[_Call], tally: Tally, *, is_patient: bool) -> None:
    """Count what is under way as it ends, without trying again; who is not patient ends it."""
    for call in waiting:
        if not is_patient:
            call.answer.cancel()
        try:
            _count(call.batch, call.answer.result(), tally)
        except grpc.RpcError as error:
            if _all_refused(error):
                _count_refused(call.batch, error, tally)
            else:
                tally.unsent.append(_span(call.batch))
        except grpc.FutureCancelledError:
            tally.unsent.append(_span(call.batch))


def _span(batch: list[Line]) -> Span:
    # The streams of a container's log may overlap.
    return Span(first=min(line.number for line in batch), last=max(line.last for line in batch))


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
        _note_time(line.event, tally)
        if index in refused:
            reason = refused[index]
            _refuse(_refusal(line, reason.field, reason.reason), tally)
        else:
            tally.lines += line.line_count
            tally.accepted += 1
            tally.by_level[LogEvent.Level.Name(line.event.level)] += 1
            _note(line, tally)


def _note(line: Line, tally: Tally) -> None:
    tally.notes.update(line.notes)
    word = line.unknown_level[:_LONGEST_WORD]
    if word and (word in tally.unknown_levels or len(tally.unknown_levels) < _WORDS):
        tally.unknown_levels[word] += 1


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
        _refuse(_refusal(line, wrong, reason), tally)
