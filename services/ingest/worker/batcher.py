"""Single events, which wait a few milliseconds for others so that they go to Kafka together."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress, pairwise

import pyarrow as pa
from opentelemetry import trace

from services.chassis import telemetry
from services.chassis.failures import Failure, InvalidRequest, MalformedMessage, Violation
from services.ingest.core.adjusted_rows import read_rows, replace_rows
from services.ingest.core.adjustments import Adjustment, adjust
from services.ingest.core.batching import BatchPolicy, record_cuts
from services.ingest.core.columns import Columns
from services.ingest.core.event_checker import CheckResult
from services.ingest.core.field_checks import EventField
from services.ingest.core.refusals import FoundValues, reason_of
from services.ingest.core.service_restriction import restrict_services
from services.ingest.ports import UnreadableRequestError
from services.ingest.worker.event_pipeline import EventPipeline
from services.ingest.worker.linger_queue import TenantQueues, fail
from services.ingest.worker.publisher import Reservation, end_flush_span, start_flush_span

_NOTHING_FOUND: Mapping[EventField, str] = {}
_ALL_SERVICES: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class _PendingEvent:
    """One caller: a batch of one event, and where the outcome goes."""

    batch: bytes
    reservation: Reservation
    span: trace.Span
    outcome: asyncio.Future[frozenset[Adjustment]]
    adjustments: frozenset[Adjustment]
    found_values: Mapping[EventField, str]
    # The only ones whose events the caller may send; empty: all.
    services: frozenset[str]


class Batcher:
    """Checks and publishes single events together, and gives each caller the outcome of its own event."""

    def __init__(self, pipeline: EventPipeline, policy: BatchPolicy) -> None:
        self._pipeline = pipeline
        self._waiting = TenantQueues[_PendingEvent](
            linger_seconds=policy.linger_seconds,
            step=lambda events, size, added: policy.step(events=events, size=size, added_size=added),
            publish=self._flush,
        )

    async def publish(
        self,
        batch: bytes,
        reservation: Reservation,
        *,
        adjustments: frozenset[Adjustment] = frozenset(),
        found_values: Mapping[EventField, str] = _NOTHING_FOUND,
        services: frozenset[str] = _ALL_SERVICES,
    ) -> frozenset[Adjustment]:
        """Return when Kafka has the one event of the batch; raise InvalidRequest or the failure of the write.

        `adjustments` were made, and `found_values` were found, when the batch was made. The caller may send events of
        these `services` only, if there are any. Returns all adjustments.
        """
        outcome: asyncio.Future[frozenset[Adjustment]] = asyncio.get_running_loop().create_future()
        self._waiting.add(
            _PendingEvent(
                batch=batch,
                reservation=reservation,
                span=trace.get_current_span(),
                outcome=outcome,
                adjustments=adjustments,
                found_values=found_values,
                services=services,
            ),
            len(batch),
        )
        return await outcome

    def _flush(self, events: Sequence[_PendingEvent]) -> None:
        self._pipeline.metrics.flushed(len(events))
        self._check_and_publish(events)

    def _check_and_publish(self, events: Sequence[_PendingEvent]) -> None:
        """Never raise: whatever goes wrong is the outcome for those whose events these are."""
        try:
            accepted, columns = self._accepted(events)
            for begin, end in pairwise(record_cuts(columns, self._pipeline.checker.limits.max_record_bytes)):
                self._publish(accepted[begin:end], columns.slice(begin, end - begin))
        except UnreadableRequestError:
            self._publish_one_by_one(events)
        except Exception as error:  # noqa: BLE001  (a caller that waits must get it; the interceptor knows what to do)
            fail(events, error)

    def _publish_one_by_one(self, events: Sequence[_PendingEvent]) -> None:
        """Publish each event alone, so that one caller's unreadable bytes are not the others' failure."""
        if len(events) == 1:
            fail(events, MalformedMessage("the event cannot be read"))
            return
        for each in events:
            self._check_and_publish([each])

    def _accepted(self, events: Sequence[_PendingEvent]) -> tuple[Sequence[_PendingEvent], Columns]:
        """Fail the refused events, and return the others, adjusted where their values do not fit."""
        columns = self._pipeline.redactor.redact(
            self._pipeline.wire.read_events(b"".join([each.batch for each in events]))
        )
        result = self._pipeline.check(columns)
        events, columns = self._adjusted(events, columns, result.to_adjust)
        result = self._pipeline.checker.check_sizes(result, columns)
        result, found_services = _restricted(result, events, columns)
        if not result.failed:
            return events, columns
        found_values = {
            (index, field): found for index, each in enumerate(events) for field, found in each.found_values.items()
        } | found_services
        for index, failure in _failures(result, columns, found_values).items():
            fail([events[index]], failure)
        for failed in result.first_failed_checks():
            self._pipeline.metrics.refused(failed.field)
        accepted = ~result.refused
        return list(compress(events, accepted.tolist())), columns.filter(pa.array(accepted))

    def _adjusted(
        self, events: Sequence[_PendingEvent], columns: Columns, rows: Sequence[int]
    ) -> tuple[Sequence[_PendingEvent], Columns]:
        if not rows:
            return events, columns
        changed, adjusted = list(events), []
        for index, fields in zip(rows, read_rows(columns, rows), strict=True):
            fitting, made = adjust(fields, self._pipeline.checker.limits.max_attributes)
            adjusted.append(fitting)
            changed[index] = replace(events[index], adjustments=events[index].adjustments | made)
        # What was kept as an attribute may be a secret.
        return changed, self._pipeline.redactor.redact(replace_rows(columns, rows, adjusted))

    def _publish(self, events: Sequence[_PendingEvent], columns: Columns) -> None:
        """Publish the events of one record, and end their outcomes when it is confirmed or failed."""
        span = start_flush_span([each.span for each in events])
        headers = telemetry.trace_headers(trace.set_span_in_context(span))
        self._pipeline.publisher.charge(len(events))
        try:
            published = self._pipeline.publisher.publish(self._pipeline.wire.write_record(columns), headers)
        except Failure as failure:
            end_flush_span(span, failure)
            fail(events, failure)
            return
        for each in events:
            each.reservation.hold_until(published)

        def finish(done: asyncio.Future[None]) -> None:
            failure = done.exception()
            end_flush_span(span, failure)
            if failure is None:
                self._succeed(events)
            else:
                fail(events, failure)

        published.add_done_callback(finish)

    def _succeed(self, events: Sequence[_PendingEvent]) -> None:
        self._pipeline.metrics.accepted(len(events))
        for each in events:
            for adjustment in each.adjustments:
                self._pipeline.metrics.adjusted(adjustment, 1)
            if not each.outcome.done():
                each.outcome.set_result(each.adjustments)


def _restricted(
    result: CheckResult, events: Sequence[_PendingEvent], columns: Columns
) -> tuple[CheckResult, dict[tuple[int, EventField], str]]:
    """Refuse the events of services that their callers' keys do not allow."""
    found: dict[tuple[int, EventField], str] = {}
    restricted = [index for index, each in enumerate(events) if each.services]
    for services in {events[index].services for index in restricted}:
        indexes = [index for index in restricted if events[index].services == services]
        result, more = restrict_services(result, columns, services, indexes=indexes)
        found |= more
    return result, found


def _failures(result: CheckResult, columns: Columns, found_values: FoundValues) -> dict[int, Failure]:
    violations: dict[int, list[Violation]] = {}
    for failed in result.failed_checks():
        violations.setdefault(failed.index, []).append(
            Violation(failed.field.value, reason_of(failed, columns, found_values))
        )
    return {index: InvalidRequest("the event is not allowed", violations=found) for index, found in violations.items()}
