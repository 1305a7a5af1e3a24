"""Many events of one call: checked together, adjusted where that is needed, and published in records."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pyarrow as pa

from services.chassis import telemetry
from services.chassis.callers import current_caller
from services.chassis.failures import InvalidRequest, MalformedMessage, RequestTooLarge, Violation
from services.contract.event_columns import EVENT_SCHEMA
from services.ingest.core.adjusted_rows import read_rows, replace_rows
from services.ingest.core.adjustments import Adjustment, OptionalFields, adjust, summarize
from services.ingest.core.batching import record_cuts
from services.ingest.core.columns import Columns
from services.ingest.core.event_checker import CheckResult
from services.ingest.core.field_checks import EventField, Limits, Requirement
from services.ingest.core.json_columns import read_columns
from services.ingest.core.json_events import JsonEvents
from services.ingest.core.refusals import FoundValues
from services.ingest.core.service_restriction import restrict_services
from services.ingest.ports import UnreadableRequestError
from services.ingest.rpc.outcomes import adjusted_events, all_refused, refused_events
from services.ingest.worker.batch_joiner import BatchJoiner
from services.ingest.worker.event_pipeline import EventPipeline
from services.ingest.worker.publisher import Reservation, all_published
from tocsin.logs.v1.log_ingest_service_pb2 import IngestBatchResponse

# So many events are read from JSON, or adjusted, before other calls have their turn.
_EVENTS_PER_TURN = 250
# A request of empty events becomes thirty times as large as columns: the events of a larger one are counted before.
_MAX_UNCOUNTED_BYTES = 512 * 1024
_AN_OBJECT = Requirement(EventField.EVENT, "a JSON object")


@dataclass(slots=True, kw_only=True)
class IncomingEvents:
    """Events as columns, and what is known of them from reading them."""

    events: Columns
    adjustments: dict[int, set[Adjustment]] = field(default_factory=dict)
    found_values: FoundValues = field(default_factory=dict)
    record: bytes | None = None
    """The record that they are as they came, which is written where none is refused, adjusted or masked."""


class BatchHandler:
    """Publishes those of many events that are allowed."""

    def __init__(self, pipeline: EventPipeline, joiner: BatchJoiner) -> None:
        self._pipeline = pipeline
        self._joiner = joiner
        self._limits = pipeline.checker.limits
        self._reading = asyncio.Lock()

    async def read_json(self, body: bytes) -> IncomingEvents:
        """Read a batch from JSON; one at a time, since it takes several times its text's memory while it is read.

        Raises JsonError where the text is not JSON, InvalidRequest or RequestTooLarge for a number or size that is not
        allowed.
        """
        async with self._reading:
            # The limit is that of the same events in protobuf, which are hardly ever larger than their JSON.
            if len(body) <= self._limits.max_request_bytes:
                events = read_columns(
                    body,
                    EVENT_SCHEMA,
                    max_events=self._limits.max_batch_events,
                    max_attributes=self._limits.max_attributes,
                )
                if events is not None:
                    return IncomingEvents(events=events)
            return await self._read_json_by_value(body)

    async def _read_json_by_value(self, body: bytes) -> IncomingEvents:
        adjustments: dict[int, set[Adjustment]] = {}
        found_values: dict[tuple[int, EventField], str] = {}
        writer = self._pipeline.wire.new_batch()
        for index, event in enumerate(JsonEvents(body, self._limits.max_attributes).each()):
            self.check_count(index + 1)
            writer.add(event.fields, event.attributes)
            if event.adjustments:
                adjustments[index] = event.adjustments
            for event_field, found in event.found_values.items():
                found_values[index, event_field] = found
            if index % _EVENTS_PER_TURN == _EVENTS_PER_TURN - 1:
                await asyncio.sleep(0)
        request = writer.to_bytes()
        check_size(len(request), self._limits)
        return IncomingEvents(events=self._read(request), adjustments=adjustments, found_values=found_values)

    async def publish(self, request: bytes, reservation: Reservation) -> IngestBatchResponse:
        """Return when Kafka has the allowed events; raise InvalidRequest where none is, or the failure of the write."""
        # The events of a key that may not send those of all services are not joined with others'.
        if len(request) > _MAX_UNCOUNTED_BYTES or current_caller().services:
            return await self.publish_events(IncomingEvents(events=self._read(request)), reservation)
        joined = await self._joiner.publish(request, reservation)
        if joined.events is None:
            return IngestBatchResponse(accepted_count=joined.event_count)
        self.check_count(joined.event_count)
        return await self.publish_events(IncomingEvents(events=joined.events), reservation)

    async def publish_events(self, batch: IncomingEvents, reservation: Reservation) -> IngestBatchResponse:
        """Return when Kafka has the allowed ones of some events, as `publish` does."""
        received = await self._pipeline.redactor.redact_in_turns(batch.events)
        result = self._check(received, batch.found_values)
        if services := current_caller().services:
            result, found = restrict_services(result, received, services)
            batch.found_values = {**batch.found_values, **found}
        events = await self._adjust(received, result.to_adjust, batch.adjustments)
        result = self._pipeline.checker.check_sizes(result, events)
        response = self._response(result, events, batch.found_values)
        published = []
        self._pipeline.publisher.charge(response.accepted_count)
        headers = telemetry.trace_headers()
        for record in self._records(events, result, batch.record if received is batch.events else None):
            published.append(self._pipeline.publisher.publish(record, headers))
            reservation.hold_until(published[-1])
        await all_published(published)
        self._pipeline.metrics.accepted(response.accepted_count)
        self._report_adjustments(response, batch.adjustments)
        return response

    def _read(self, request: bytes) -> Columns:
        try:
            if len(request) > _MAX_UNCOUNTED_BYTES:
                self.check_count(self._pipeline.wire.count_events(request))
            events = self._pipeline.wire.read_events(request)
        except UnreadableRequestError as error:
            raise MalformedMessage(str(error)) from error
        self.check_count(events.num_rows)
        return events

    def check_count(self, events: int) -> None:
        """Raise InvalidRequest or RequestTooLarge where a request may not have so many events."""
        limit = self._limits.max_batch_events
        violation = Violation("events", f"expected 1 to {limit} events, got {events}")
        if not events:
            raise InvalidRequest("the request holds no events", violations=[violation])
        if events > limit:
            raise RequestTooLarge("the request holds too many events", violations=[violation])

    def _check(self, columns: Columns, found_values: FoundValues) -> CheckResult:
        result = self._pipeline.check(columns)
        no_objects = [index for index, event_field in found_values if event_field is EventField.EVENT]
        if not no_objects:
            return result
        rows = np.zeros(result.event_count, dtype=np.bool_)
        rows[no_objects] = True
        return result.with_only(_AN_OBJECT, rows)

    async def _adjust(self, events: Columns, rows: Sequence[int], adjustments: dict[int, set[Adjustment]]) -> Columns:
        """Adjust the events that have values which do not fit; the others stay as they are."""
        changed: list[OptionalFields] = []
        for begin in range(0, len(rows), _EVENTS_PER_TURN):
            turn = rows[begin : begin + _EVENTS_PER_TURN]
            for index, fields in zip(turn, read_rows(events, turn), strict=True):
                adjusted, made = adjust(fields, self._limits.max_attributes)
                changed.append(adjusted)
                adjustments.setdefault(index, set()).update(made)
            await asyncio.sleep(0)
        # What was kept as an attribute may be a secret.
        return await self._pipeline.redactor.redact_in_turns(replace_rows(events, rows, changed)) if rows else events

    def _response(self, result: CheckResult, columns: Columns, found_values: FoundValues) -> IngestBatchResponse:
        if not result.failed:
            return IngestBatchResponse(accepted_count=result.event_count)
        refused = list(result.first_failed_checks())
        for each in refused:
            self._pipeline.metrics.refused(each.field)
        if len(refused) == result.event_count:
            raise all_refused(result, columns, found_values)
        return IngestBatchResponse(
            accepted_count=result.event_count - len(refused),
            refused_count=len(refused),
            refused=refused_events(refused, columns, found_values),
        )

    def _records(self, events: Columns, result: CheckResult, record: bytes | None) -> Sequence[bytes]:
        """Return the allowed events as records: as the one that came, where that can be."""
        is_unchanged = not result.failed and not result.to_adjust
        if record is not None and is_unchanged and len(record) <= self._limits.max_record_bytes:
            return [record]
        if result.failed:
            events = events.filter(pa.array(~result.refused))
        cuts = record_cuts(events, self._limits.max_record_bytes)
        return [self._pipeline.wire.write_record(events.slice(begin, end - begin)) for begin, end in pairwise(cuts)]

    def _report_adjustments(self, response: IngestBatchResponse, adjustments: Mapping[int, set[Adjustment]]) -> None:
        refused = {each.index for each in response.refused}
        summary = summarize({index: made for index, made in adjustments.items() if index not in refused})
        if summary is None:
            return
        response.adjusted.CopyFrom(adjusted_events(summary))
        for adjustment, count in summary.counts.items():
            self._pipeline.metrics.adjusted(adjustment, count.events)


def check_size(size: int, limits: Limits) -> None:
    """Raise RequestTooLarge where a request's events are more bytes than allowed."""
    if size > limits.max_request_bytes:
        raise RequestTooLarge(f"expected at most {limits.max_request_bytes} bytes, got {size}")
