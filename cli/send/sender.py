"""Send events to ingest in batches, several at once, until each event is accepted or refused."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import grpc

from cli.client import RPC_TIMEOUT_S, failure_reason_of, field_violations, retry_delay_of
from cli.parsing.event import ParseNote
from cli.send.events import OutgoingEvent, RefusedLine
from services.chassis.backoff import Backoff
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import (
    IngestBatchRequest,
    IngestBatchResponse,
    IngestColumnsRequest,
    IngestColumnsResponse,
)
from tocsin.logs.v1.log_ingest_service_pb2_grpc import LogIngestServiceStub

MAX_BATCH_EVENTS = 2000
# In calls of IngestBatch, where columns are not taken.
MAX_ROW_BATCH_EVENTS = 500
# A quarter of what ingest takes in one call (INGEST_MAX_REQUEST_BYTES), and more than any event has.
MAX_BATCH_BYTES = 1024 * 1024
# The tag and the length before an event in a request.
_FRAME_BYTES = 6
MAX_CALLS_IN_FLIGHT = 4
MAX_ATTEMPTS = 8
# Where the server has accepted events, and is away without saying for how long: a restart of Envoy, say.
_BACKOFF = Backoff(first_delay=timedelta(seconds=1))
# How many different unknown levels are reported, and how much of each.
_MAX_UNKNOWN_LEVELS = 20
_MAX_UNKNOWN_LEVEL = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class LineRange:
    """Lines from the first to the last, both included; to the end of the file when the last is None."""

    first: int
    last: int | None


@dataclass(slots=True, kw_only=True)
class SendSummary:
    """What became of the events so far."""

    accepted: int = 0
    lines: int = 0
    by_level: Counter[str] = field(default_factory=Counter)
    refused: list[RefusedLine] = field(default_factory=list)
    # By how many of the accepted events.
    notes: Counter[ParseNote] = field(default_factory=Counter)
    unknown_levels: Counter[str] = field(default_factory=Counter)
    # Lines that may have to be sent again: whether they were accepted is not known.
    unsent: list[LineRange] = field(default_factory=list)
    # The last line that was put into a call.
    last_line: int = 0
    # Whether no line is left that is in no batch yet.
    is_read_to_end: bool = False
    # How many of the accepted events no rule evaluates any more.
    too_late: int = 0

    def add_accepted(self, sent: OutgoingEvent) -> None:
        """Count an event that the server took."""
        self.lines += sent.line_count
        self.accepted += 1
        self.too_late += sent.is_too_late
        self.by_level[LogEvent.Level.Name(sent.event.level)] += 1
        self.notes.update(sent.notes)
        text = sent.unknown_level[:_MAX_UNKNOWN_LEVEL]
        if text and (text in self.unknown_levels or len(self.unknown_levels) < _MAX_UNKNOWN_LEVELS):
            self.unknown_levels[text] += 1

    def add_refused(self, refused: RefusedLine) -> None:
        """Count a line that is not an event, or that the server refused."""
        self.lines += refused.line_count
        self.refused.append(refused)


@dataclass(slots=True, kw_only=True)
class _Call:
    batch: list[OutgoingEvent]
    request: IngestColumnsRequest | IngestBatchRequest
    response: grpc.Future  # type: ignore[type-arg]  # generic in its stubs only
    attempt: int = 1


class _Caller:
    """Starts calls: with columns, until the server does not take them."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = LogIngestServiceStub(channel)
        self._takes_columns = True
        # How many calls may be in flight: one, until it is known whether the server takes columns.
        self.max_in_flight = 1

    def start(self, batch: list[OutgoingEvent]) -> list[_Call]:
        """Start the calls for a batch: one with columns, else as many as its size needs."""
        if self._takes_columns:
            # Slow to import, and not needed by the other commands.
            from cli.send.columns import columns_request  # noqa: PLC0415

            return [self._start(batch, columns_request([sent.event for sent in batch]))]
        return [
            self._start(part, IngestBatchRequest(events=[sent.event for sent in part]))
            for part in (batch[at : at + MAX_ROW_BATCH_EVENTS] for at in range(0, len(batch), MAX_ROW_BATCH_EVENTS))
        ]

    def start_without_columns(self, batch: list[OutgoingEvent]) -> list[_Call]:
        """Start calls for a batch that was refused as columns, and send all others without columns too."""
        self._takes_columns = False
        return self.start(batch)

    def start_again(self, call: _Call) -> None:
        call.attempt += 1
        call.response = self._respond(call.request)

    def _start(self, batch: list[OutgoingEvent], request: IngestColumnsRequest | IngestBatchRequest) -> _Call:
        return _Call(batch=batch, request=request, response=self._respond(request))

    def _respond(self, request: IngestColumnsRequest | IngestBatchRequest) -> grpc.Future:  # type: ignore[type-arg]
        if isinstance(request, IngestColumnsRequest):
            return self._stub.IngestColumns.future(request, timeout=RPC_TIMEOUT_S)
        return self._stub.IngestBatch.future(request, timeout=RPC_TIMEOUT_S)


def send_events(
    channel: grpc.Channel,
    items: Iterable[OutgoingEvent | RefusedLine | None],
    *,
    on_progress: Callable[[SendSummary], None],
    summary: SendSummary | None = None,
) -> SendSummary:
    """Send every event, and report progress after each batch. A tick (None) flushes, and waits for the responses.

    A batch for which the server has no memory, or finds Kafka away, is sent again after the delay that the server asks
    for, up to MAX_ATTEMPTS times; so is one of which no answer came after others had been accepted, which may then
    arrive twice. Raises grpc.RpcError when the server refuses a call for another reason or stays away; `summary` then
    holds what was sent before, and which lines were not.
    """
    caller = _Caller(channel)
    summary = SendSummary() if summary is None else summary
    calls: deque[_Call] = deque()
    try:
        for batch in batch_events(items, summary):
            if batch:
                calls.extend(caller.start(batch))
                summary.last_line = max(summary.last_line, *(sent.last_line for sent in batch))
            _finish_calls(caller, calls, summary, on_progress, max_open=caller.max_in_flight - 1 if batch else 0)
        _finish_calls(caller, calls, summary, on_progress)
    except (grpc.RpcError, KeyboardInterrupt) as error:
        _abandon_calls(calls, summary, is_cancelled=isinstance(error, KeyboardInterrupt))
        if not summary.is_read_to_end:
            summary.unsent.append(LineRange(first=summary.last_line + 1, last=None))
        raise
    return summary


def batch_events(
    items: Iterable[OutgoingEvent | RefusedLine | None], summary: SendSummary
) -> Iterator[list[OutgoingEvent]]:
    """Return batches that are small enough for one call, and an empty one for each tick; count refused lines."""
    batch: list[OutgoingEvent] = []
    size = 0
    for item in items:
        if isinstance(item, RefusedLine):
            summary.add_refused(item)
            continue
        event_bytes = item.event.ByteSize() + _FRAME_BYTES if item else 0
        if batch and (item is None or len(batch) >= MAX_BATCH_EVENTS or size + event_bytes > MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        if item is None:
            yield []
        else:
            batch.append(item)
            size += event_bytes
    summary.is_read_to_end = True
    if batch:
        yield batch


def _finish_calls(
    caller: _Caller,
    calls: deque[_Call],
    summary: SendSummary,
    on_progress: Callable[[SendSummary], None],
    max_open: int = 0,
) -> None:
    """Wait for the responses to the oldest calls until only `max_open` are left."""
    while len(calls) > max_open:
        instead = _finish_call(caller, calls[0], summary)
        caller.max_in_flight = MAX_CALLS_IN_FLIGHT
        calls.popleft()
        calls.extendleft(reversed(instead))
        on_progress(summary)


def _finish_call(caller: _Caller, call: _Call, summary: SendSummary) -> list[_Call]:
    """Wait for the response to a call; return calls that were started instead, where columns are not taken."""
    while True:
        try:
            _count_response(call.batch, call.response.result(), summary)
        except grpc.RpcError as error:
            if isinstance(call.request, IngestColumnsRequest) and _are_columns_not_taken(error):
                return caller.start_without_columns(call.batch)
            if _is_whole_batch_refused(error):
                _count_refused_batch(call.batch, error, summary)
                return []
            delay = _delay_before_next(error, call.attempt, summary)
            if delay is None or call.attempt >= MAX_ATTEMPTS:
                raise
            time.sleep(delay)
            caller.start_again(call)
        else:
            return []


def _delay_before_next(error: grpc.RpcError, attempt: int, summary: SendSummary) -> float | None:
    """Return after how many seconds a call may be made again; None when that does not help."""
    asked_s = retry_delay_of(error)
    if asked_s is None and error.code() is grpc.StatusCode.UNAVAILABLE and summary.accepted:
        return _BACKOFF.delay(attempt - 1).total_seconds()
    return asked_s


def _are_columns_not_taken(error: grpc.RpcError) -> bool:
    """Return whether a server of a former version has answered, or one whose limits are below those of a batch."""
    return error.code() is grpc.StatusCode.UNIMPLEMENTED or failure_reason_of(error) == "REQUEST_TOO_LARGE"


def _abandon_calls(calls: Iterable[_Call], summary: SendSummary, *, is_cancelled: bool) -> None:
    """Count the calls in flight as they end, or cancel them; nothing is tried again."""
    for call in calls:
        if is_cancelled:
            call.response.cancel()
        try:
            _count_response(call.batch, call.response.result(), summary)
        except grpc.RpcError as error:
            if _is_whole_batch_refused(error):
                _count_refused_batch(call.batch, error, summary)
            else:
                summary.unsent.append(_lines_of(call.batch))
        except grpc.FutureCancelledError:
            summary.unsent.append(_lines_of(call.batch))


def _lines_of(batch: list[OutgoingEvent]) -> LineRange:
    # The streams of a container's log may overlap.
    return LineRange(first=min(sent.first_line for sent in batch), last=max(sent.last_line for sent in batch))


def _count_response(
    batch: list[OutgoingEvent], response: IngestColumnsResponse | IngestBatchResponse, summary: SendSummary
) -> None:
    refusals = {refusal.index: refusal for refusal in response.refused}
    for index, sent in enumerate(batch):
        if index in refusals:
            summary.add_refused(_refused_line(sent, refusals[index].field, refusals[index].reason))
        else:
            summary.add_accepted(sent)


def _is_whole_batch_refused(error: grpc.RpcError) -> bool:
    return error.code() is grpc.StatusCode.INVALID_ARGUMENT and bool(field_violations(error))


def _count_refused_batch(batch: list[OutgoingEvent], error: grpc.RpcError, summary: SendSummary) -> None:
    """Count a batch without one good event, which is refused with a violation such as "events[3].service" for each."""
    reasons: dict[int, tuple[str, str]] = {}
    for name, description in field_violations(error):
        index, _, event_field = name.removeprefix("events[").partition("].")
        if index.isdigit():
            reasons.setdefault(int(index), (event_field, description))
    for place, sent in enumerate(batch):
        event_field, reason = reasons.get(place, ("event", "refused together with the whole batch"))
        summary.add_refused(_refused_line(sent, event_field, reason))


def _refused_line(sent: OutgoingEvent, event_field: str, reason: str) -> RefusedLine:
    return RefusedLine(line=sent.first_line, field=event_field, reason=reason, line_count=sent.line_count)
