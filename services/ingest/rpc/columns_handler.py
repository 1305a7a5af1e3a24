"""IngestColumns: events that come as columns, made the contract's before they go the way of every batch."""

import numpy as np
from google.protobuf.message import DecodeError

from services.chassis.failures import InvalidRequest, MalformedMessage, Violation
from services.contract.arrow_streams import UnreadableColumnsError
from services.contract.event_columns import EVENT_SCHEMA, wrap_packed
from services.ingest.core.adjustments import Adjustment
from services.ingest.core.attribute_columns import has_distinct_keys
from services.ingest.core.field_checks import Limits
from services.ingest.core.foreign_columns import ForeignEvents, UnusableColumnsError, to_events
from services.ingest.rpc.batch_handler import BatchHandler, IncomingEvents
from services.ingest.rpc.column_streams import OpenedStream, ReadStream, open_stream, read_stream
from services.ingest.worker.publisher import Publisher
from tocsin.logs.v1.log_ingest_service_pb2 import IngestBatchResponse, IngestColumnsRequest


class ColumnsHandler:
    """Publishes those of many events that are allowed, from columns of any schema."""

    def __init__(self, *, batches: BatchHandler, publisher: Publisher, limits: Limits, max_stream_bytes: int) -> None:
        self._batches = batches
        self._publisher = publisher
        self._limits = limits
        self._max_stream_bytes = max_stream_bytes

    async def publish(self, request: bytes) -> IngestBatchResponse:
        """Return when Kafka has the allowed events; raise InvalidRequest where none is, or the failure of the write."""
        with self._publisher.reserve(len(request)) as reservation:
            columns = _parsed(request)
            try:
                opened = open_stream(columns.stream, columns.compression, self._max_stream_bytes)
                with self._publisher.reserve(opened.stream.size):
                    incoming = self._incoming(columns, opened)
                    with self._publisher.reserve(0 if incoming.record else incoming.events.nbytes):
                        return await self._batches.publish_events(incoming, reservation)
            except (UnreadableColumnsError, UnusableColumnsError) as error:
                raise _refused(error) from error

    def _incoming(self, columns: IngestColumnsRequest, opened: OpenedStream) -> IncomingEvents:
        read = read_stream(opened.stream)
        self._batches.check_count(read.columns.num_rows)
        if not _is_as_it_should_be(read):
            return _changed(self._to_events(read))
        record = None
        if opened.is_packed:
            record = wrap_packed(columns.stream, opened.stream.size, read.columns.num_rows, columns.compression)
        return IncomingEvents(events=read.columns, record=record)

    def _to_events(self, read: ReadStream) -> ForeignEvents:
        return to_events(
            read.columns,
            EVENT_SCHEMA,
            max_attributes=self._limits.max_attributes,
            max_bytes=self._max_stream_bytes,
        )


def _parsed(request: bytes) -> IngestColumnsRequest:
    try:
        return IngestColumnsRequest.FromString(request)
    except DecodeError as error:
        raise MalformedMessage("not an IngestColumnsRequest") from error


def _is_as_it_should_be(read: ReadStream) -> bool:
    return read.is_contract and has_distinct_keys(read.columns.column("attributes"))


def _changed(events: ForeignEvents) -> IncomingEvents:
    adjustments: dict[int, set[Adjustment]] = {}
    for adjustment, rows in events.adjusted:
        for row in np.flatnonzero(rows).tolist():
            adjustments.setdefault(row, set()).add(adjustment)
    return IncomingEvents(events=events.columns, adjustments=adjustments, found_values=dict(events.found_values))


def _refused(error: UnreadableColumnsError | UnusableColumnsError) -> InvalidRequest:
    text = str(error).removeprefix("stream: ")
    return InvalidRequest(f"stream: {text}", violations=[Violation("stream", text)])
