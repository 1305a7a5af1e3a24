"""Requests read as columns, and columns written as records."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from google.protobuf.descriptor import Descriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from services.contract.event_columns import EVENT_SCHEMA, UnreadableColumnsError, encode_log_batch
from services.contract.protobuf_columns import ProtobufColumns
from services.ingest.core.columns import Offsets, numbers_of, offsets_of
from services.ingest.ports import UnreadableRequestError
from tocsin.logs.v1.log_event_pb2 import EventColumns, LogBatch, LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import IngestRequest

_Kind = FieldDescriptorProto
_EVENTS = LogBatch.DESCRIPTOR.fields_by_name["events"].number
_EVENT_TIME = EVENT_SCHEMA.get_field_index("event_time")
_PACKAGE = "tocsin.ingest.wire"
_SECOND_NS = 1_000_000_000
_LAST_SECOND = np.iinfo(np.int64).max // _SECOND_NS - 1
_NO_TIME = -1


class ProtobufWriter:
    """A LogBatch that grows."""

    def __init__(self) -> None:
        self._batch = LogBatch()

    def add(self, fields: Mapping[str, Any], attributes: Mapping[str, str]) -> None:
        self._batch.events.add(**fields, attributes=attributes)

    def to_bytes(self) -> bytes:
        return self._batch.SerializeToString()


class ProtobufWire:
    """Requests by two views of the same bytes, and records.

    `Frames` has the events as opaque bytes. `Columns` has a time as two plain numbers: ptars turns a Timestamp into
    one number of nanoseconds, which no longer shows a nanosecond part that is not allowed.
    """

    def __init__(self, compression: EventColumns.Compression.ValueType = EventColumns.LZ4) -> None:
        self._compression = compression
        views = _views()
        self._frames = ProtobufColumns(views.message_types_by_name["Frames"])
        self._columns = ProtobufColumns(views.message_types_by_name["Columns"])

    def count_events(self, request: bytes) -> int:
        return int(_only_column(self._frames, [request]).offsets[-1].as_py())

    def read_events(self, request: bytes) -> pa.RecordBatch:
        return self.read_requests([request])[0]

    def read_requests(self, requests: Sequence[bytes]) -> tuple[pa.RecordBatch, Offsets]:
        column = _only_column(self._columns, requests)
        events: Any = column.values
        fields = [events.field(place) for place in range(len(EVENT_SCHEMA))]
        fields[_EVENT_TIME] = _event_times(fields[_EVENT_TIME])
        return pa.RecordBatch.from_arrays(fields, schema=EVENT_SCHEMA), offsets_of(column)

    def read_single(self, request: bytes) -> bytes | None:
        try:
            parsed = IngestRequest.FromString(request)
        except DecodeError as error:
            raise UnreadableRequestError("not an IngestRequest") from error
        if not parsed.HasField("event"):
            return None
        return LogBatch(events=[parsed.event]).SerializeToString()

    def new_batch(self) -> "ProtobufWriter":
        return ProtobufWriter()

    def write_record(self, events: pa.RecordBatch) -> bytes:
        return encode_log_batch(events, self._compression)


def _only_column(view: ProtobufColumns, requests: Sequence[bytes]) -> Any:
    """Return a list of events for each request."""
    try:
        return view.read(requests).column(0)
    except UnreadableColumnsError as error:
        raise UnreadableRequestError("not an IngestBatchRequest") from error


def _event_times(times: Any) -> Any:
    """Return seconds and nanoseconds as one number; a time that is none becomes one that no check accepts."""
    kind = EVENT_SCHEMA.field(_EVENT_TIME).type
    if times.null_count == len(times):
        return pa.nulls(len(times), kind)
    seconds, nanos = (numbers_of(times.field(place), number) for place, number in ((0, np.int64), (1, np.int32)))
    # Unsigned: what lies below 0 becomes a large number.
    is_time = (seconds.view(np.uint64) <= _LAST_SECOND) & (nanos.view(np.uint32) < _SECOND_NS)
    numbers = np.where(is_time, seconds * _SECOND_NS + nanos, _NO_TIME)
    missing = times.is_null().to_numpy(zero_copy_only=False) if times.null_count else None
    return pa.array(numbers, mask=missing).cast(kind)


def _views() -> FileDescriptor:
    file = FileDescriptorProto(name="tocsin/ingest/wire.proto", package=_PACKAGE, syntax="proto3")
    _add(file, "Instant", [_field("seconds", 1, _Kind.TYPE_INT64), _field("nanos", 2, _Kind.TYPE_INT32)])
    file.message_type.append(_with_plain_times(LogEvent.DESCRIPTOR))
    for name, kind, of in (
        ("Columns", _Kind.TYPE_MESSAGE, LogEvent.DESCRIPTOR.name),
        ("Frames", _Kind.TYPE_BYTES, None),
    ):
        _add(file, name, [_field("events", _EVENTS, kind, of=of, is_repeated=True)])
    pool = DescriptorPool()
    pool.Add(file)
    return pool.FindFileByName(file.name)


def _with_plain_times(message: Descriptor) -> DescriptorProto:
    """Copy the event's descriptor, so that a field that is added to the proto is never forgotten here."""
    copy = DescriptorProto()
    message.CopyToProto(copy)
    for field in copy.field:
        field.ClearField("options")  # field behaviour, which is another file's extension
        if field.type_name == ".google.protobuf.Timestamp":
            field.type_name = f".{_PACKAGE}.Instant"
        elif field.type_name:
            field.type_name = field.type_name.replace(f".{message.file.package}.", f".{_PACKAGE}.")
    return copy


def _field(
    name: str, number: int, kind: _Kind.Type.ValueType, *, of: str | None = None, is_repeated: bool = False
) -> FieldDescriptorProto:
    label = _Kind.LABEL_REPEATED if is_repeated else _Kind.LABEL_OPTIONAL
    return FieldDescriptorProto(
        name=name, number=number, type=kind, label=label, type_name=f".{_PACKAGE}.{of}" if of else None
    )


def _add(file: FileDescriptorProto, name: str, fields: Iterable[FieldDescriptorProto]) -> None:
    file.message_type.add(name=name).field.extend(fields)
