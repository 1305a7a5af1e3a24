"""Calls with many events, which share a record where several come at once.

A record has costs of its own in ingest, in Kafka and in the evaluator, and so has each use of Arrow and numpy. So calls
that come while a record is on its way to Kafka wait until it is confirmed, at most for the linger, and are then read,
checked and written together. A caller that is alone never waits.

Only calls whose events are all accepted as they are share a record. Of any other call nothing is published here: it
gets its events back, to be handled alone, so that its response speaks of its own events only. Calls that share a flush
share its failure: each may then be sent again, and is delivered at least once.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress, pairwise

import numpy as np
from opentelemetry import trace

from services.chassis import telemetry
from services.chassis.failures import MalformedMessage
from services.contract.event_columns import concat_events
from services.ingest.core.batching import JoinPolicy, record_cuts
from services.ingest.core.columns import Columns, Mask, Offsets
from services.ingest.ports import UnreadableRequestError
from services.ingest.worker.event_pipeline import EventPipeline
from services.ingest.worker.linger_queue import TenantQueues, fail
from services.ingest.worker.publisher import Reservation, end_flush_span, start_flush_span


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedCall:
    """What became of a call."""

    event_count: int
    events: Columns | None = None
    """The call's events where some are to be refused or adjusted, and none is published; None when Kafka has all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _PendingCall:
    request: bytes
    reservation: Reservation
    span: trace.Span
    outcome: asyncio.Future[JoinedCall]


class BatchJoiner:
    """Reads, checks and publishes the events of several calls together."""

    def __init__(self, pipeline: EventPipeline, policy: JoinPolicy) -> None:
        self._pipeline = pipeline
        self._waiting = TenantQueues[_PendingCall](
            linger_seconds=policy.linger_seconds,
            step=lambda _, size, added: policy.step(size=size, added_size=added, in_flight=self._in_flight),
            publish=self._read_and_publish,
        )
        self._in_flight = 0

    async def publish(self, request: bytes, reservation: Reservation) -> JoinedCall:
        """Return when Kafka has the events of a request, or with those that are not published.

        Raises MalformedMessage or the failure of the write.
        """
        outcome: asyncio.Future[JoinedCall] = asyncio.get_running_loop().create_future()
        span = trace.get_current_span()
        call = _PendingCall(request=request, reservation=reservation, span=span, outcome=outcome)
        self._waiting.add(call, len(request))
        return await outcome

    def _read_and_publish(self, calls: Sequence[_PendingCall]) -> None:
        """Never raise: whatever goes wrong is the outcome for the callers."""
        try:
            events, offsets = self._pipeline.wire.read_requests([each.request for each in calls])
            events = self._pipeline.redactor.redact(events)
            is_clean = self._clean_calls(events, offsets)
            parts = [events.slice(begin, end - begin) for begin, end in pairwise(offsets.tolist())]
            for call, part in compress(zip(calls, parts, strict=True), ~is_clean):
                call.outcome.set_result(JoinedCall(event_count=part.num_rows, events=_alone(part)))
            if is_clean.all():
                self._publish(calls, np.diff(offsets).tolist(), events)
            elif is_clean.any():
                clean = list(compress(parts, is_clean))
                self._publish(list(compress(calls, is_clean)), [each.num_rows for each in clean], concat_events(clean))
        except UnreadableRequestError as error:
            self._publish_one_by_one(calls, error)
        except Exception as error:  # noqa: BLE001  (a caller that waits must get it; the interceptor knows what to do)
            fail(calls, error)

    def _publish_one_by_one(self, calls: Sequence[_PendingCall], error: UnreadableRequestError) -> None:
        """Publish each call alone, so that one caller's unreadable bytes are not the others' failure."""
        if len(calls) == 1:
            fail(calls, MalformedMessage(str(error)))
            return
        for each in calls:
            self._read_and_publish([each])

    def _clean_calls(self, events: Columns, offsets: Offsets) -> Mask:
        result = self._pipeline.check(events)
        result = self._pipeline.checker.check_sizes(result, events)
        return result.clean_calls(offsets, self._pipeline.checker.limits.max_batch_events)

    def _publish(self, calls: Sequence[_PendingCall], counts: Sequence[int], events: Columns) -> None:
        """Publish the events of some calls, and end their outcomes when all records are confirmed or one has failed."""
        span = calls[0].span if len(calls) == 1 else start_flush_span([each.span for each in calls])
        headers = telemetry.trace_headers(trace.set_span_in_context(span))
        published = []
        self._pipeline.publisher.charge(events.num_rows)
        try:
            for begin, end in pairwise(record_cuts(events, self._pipeline.checker.limits.max_record_bytes)):
                record = self._pipeline.wire.write_record(events.slice(begin, end - begin))
                published.append(self._pipeline.publisher.publish(record, headers))
                for each in calls:
                    each.reservation.hold_until(published[-1])
        except Exception as error:
            self._end(span, calls, error)
            raise
        self._in_flight += 1

        def finish(outcomes: "asyncio.Future[list[BaseException | None]]") -> None:
            self._in_flight -= 1
            failure = next(filter(None, outcomes.result()), None)
            self._end(span, calls, failure)
            if failure is None:
                self._succeed(calls, counts)
            if not self._in_flight:
                self._waiting.flush()

        asyncio.gather(*published, return_exceptions=True).add_done_callback(finish)

    def _end(self, span: trace.Span, calls: Sequence[_PendingCall], failure: BaseException | None) -> None:
        if len(calls) > 1:
            end_flush_span(span, failure)
        if failure is not None:
            fail(calls, failure)

    def _succeed(self, calls: Sequence[_PendingCall], counts: Sequence[int]) -> None:
        self._pipeline.metrics.accepted(sum(counts))
        for call, count in zip(calls, counts, strict=True):
            if not call.outcome.done():
                call.outcome.set_result(JoinedCall(event_count=count))


def _alone(events: Columns) -> Columns:
    """Return events that share their memory with other calls' in memory of their own."""
    return events.take(np.arange(events.num_rows))
