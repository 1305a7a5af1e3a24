"""Requests as columns: protobuf's wire format, read by ptars."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import ptars
import pyarrow as pa
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from services.ingest.core.adjustments import Adjustment, OptionalFields, adjust
from services.ingest.core.columns import Columns, Offsets
from services.ingest.ports import UnreadableRequestError
from tocsin.logs.v1.log_event_pb2 import LogBatch, LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import IngestRequest

_Kind = FieldDescriptorProto
_EVENTS = LogBatch.DESCRIPTOR.fields_by_name["events"].number
_PACKAGE = "tocsin.ingest.wire"
_NOT_A_BATCH = "not an IngestBatchRequest"


class ProtobufWriter:
    """A LogBatch that grows."""

    def __init__(self) -> None:
        self._batch = LogBatch()

    def add(self, fields: Mapping[str, Any], attributes: Mapping[str, str]) -> None:
        self._batch.events.add(**fields, attributes=attributes)

    def to_bytes(self) -> bytes:
        return self._batch.SerializeToString()


class ProtobufWire:
    """The wire format by three views of the same bytes.

    `Frames` has the events as opaque bytes. `Columns` has a time as two plain numbers: ptars turns a Timestamp into
    one number of nanoseconds, which no longer shows a nanosecond part that is not allowed. `Shape` has only messages
    within messages.
    """

    def __init__(self) -> None:
        views = _views()
        handlers = ptars.HandlerPool([views])
        self._frames = handlers.get_for_message(views.message_types_by_name["Frames"])
        self._columns = handlers.get_for_message(views.message_types_by_name["Columns"])
        self._shape = message_factory.GetMessageClass(views.message_types_by_name["Shape"])
        self._schema = self._frames.schema()
        self._names = list(LogEvent.DESCRIPTOR.fields_by_name)

    def split_events(self, request: bytes) -> pa.BinaryArray:
        frames: pa.BinaryArray = _only_column(self._frames, request)
        return frames

    def read_columns(self, request: bytes) -> Columns:
        # ptars reads some bytes that other readers refuse (groups that never end). One such event would make a whole
        # record on the topic unreadable for them, so protobuf's own reader must agree. It looks at the shape only,
        # which costs half: ptars checks that strings are UTF-8.
        try:
            self._shape.FromString(request)
        except DecodeError as error:
            raise UnreadableRequestError(_NOT_A_BATCH) from error
        return dict(zip(self._names, _only_column(self._columns, request).flatten(), strict=True))

    def read_single(self, request: bytes) -> bytes | None:
        try:
            parsed = IngestRequest.FromString(request)
        except DecodeError as error:
            raise UnreadableRequestError("not an IngestRequest") from error
        if not parsed.HasField("event"):
            return None
        return LogBatch(events=[parsed.event]).SerializeToString()

    def write_batches(self, frames: pa.BinaryArray, cuts: Offsets) -> list[bytes]:
        rows = pa.ListArray.from_arrays(pa.array(cuts, type=pa.int32()), frames, type=self._schema.field(0).type)
        written = self._frames.record_batch_to_array(pa.RecordBatch.from_arrays([rows], schema=self._schema))
        return [batch.as_py() for batch in written]

    def new_batch(self) -> "ProtobufWriter":
        return ProtobufWriter()

    def write_batch(self, event: bytes) -> bytes:
        (batch,) = self.write_batches(pa.array([event], pa.binary()), np.array([0, 1], dtype=np.int32))
        return batch

    def adjust(self, event: bytes, max_attributes: int) -> tuple[bytes, frozenset[Adjustment]]:
        message = LogEvent.FromString(event)
        fields, made = adjust(_optional_fields(message), max_attributes)
        message.ClearField("status_code")
        message.ClearField("response_time")
        message.ClearField("attributes")
        message.record_id, message.host, message.trace_id = fields.record_id, fields.host, fields.trace_id
        message.MergeFrom(
            LogEvent(
                status_code=fields.status_code, response_time=fields.response_time, attributes=dict(fields.attributes)
            )
        )
        return message.SerializeToString(), made


def _optional_fields(event: LogEvent) -> OptionalFields:
    return OptionalFields(
        record_id=event.record_id,
        status_code=event.status_code if event.HasField("status_code") else None,
        response_time=event.response_time if event.HasField("response_time") else None,
        host=event.host,
        trace_id=event.trace_id,
        attributes=dict(event.attributes),
    )


def _only_column(view: Any, request: bytes) -> Any:
    try:
        return view.list_to_record_batch([request]).column(0).flatten()
    except ValueError as error:
        raise UnreadableRequestError(_NOT_A_BATCH) from error


def _views() -> FileDescriptor:
    file = FileDescriptorProto(name="tocsin/ingest/wire.proto", package=_PACKAGE, syntax="proto3")
    _add(file, "Instant", [_field("seconds", 1, _Kind.TYPE_INT64), _field("nanos", 2, _Kind.TYPE_INT32)])
    _add(file, "Nothing", [])
    file.message_type.append(_with_plain_times(LogEvent.DESCRIPTOR))
    _add(file, "EventShape", [_shape_of(field) for field in LogEvent.DESCRIPTOR.fields if field.message_type])
    for name, kind, of in (
        ("Columns", _Kind.TYPE_MESSAGE, LogEvent.DESCRIPTOR.name),
        ("Shape", _Kind.TYPE_MESSAGE, "EventShape"),
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


def _shape_of(field: FieldDescriptor) -> FieldDescriptorProto:
    return _field(field.name, field.number, _Kind.TYPE_MESSAGE, of="Nothing", is_repeated=field.is_repeated)


def _field(
    name: str, number: int, kind: _Kind.Type.ValueType, *, of: str | None = None, is_repeated: bool = False
) -> FieldDescriptorProto:
    label = _Kind.LABEL_REPEATED if is_repeated else _Kind.LABEL_OPTIONAL
    return FieldDescriptorProto(
        name=name, number=number, type=kind, label=label, type_name=f".{_PACKAGE}.{of}" if of else None
    )


def _add(file: FileDescriptorProto, name: str, fields: Iterable[FieldDescriptorProto]) -> None:
    file.message_type.add(name=name).field.extend(fields)
