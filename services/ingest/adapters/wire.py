"""Requests as columns: protobuf's wire format, read by ptars."""

from typing import Any

import ptars
import pyarrow as pa
from google.protobuf.descriptor import Descriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from services.ingest.core.columns import Offsets
from services.ingest.ports import UnreadableError
from tocsin.logs.v1.log_event_pb2 import LogBatch, LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import IngestBatchRequest, IngestRequest

_PACKAGE = "tocsin.ingest.wire"
_NOT_A_BATCH = "not an IngestBatchRequest"


class ProtobufWire:
    """The wire format by two views of the contract's own bytes.

    `Frames` has the events as opaque bytes. `Columns` has a time as two plain numbers: ptars turns a Timestamp into
    one number of nanoseconds, after which a nanosecond part that is not allowed can no longer be seen.
    """

    def __init__(self) -> None:
        views = _views()
        handlers = ptars.HandlerPool([views])
        self._frames = handlers.get_for_message(views.message_types_by_name["Frames"])
        self._columns = handlers.get_for_message(views.message_types_by_name["Columns"])
        self._schema = self._frames.schema()

    def frames(self, request: bytes) -> pa.BinaryArray:
        """Cut a batch's request into the bytes of its events."""
        frames: pa.BinaryArray = _only_column(self._frames, request)
        return frames

    def events(self, request: bytes) -> pa.StructArray:
        """Read the columns of a batch.

        ptars takes some bytes that other readers refuse (groups that never end). One such event would make a whole
        record on the topic unreadable for them, so the common reader must agree first: 0.2 µs an event, no objects.
        """
        try:
            IngestBatchRequest.FromString(request)
        except DecodeError as error:
            raise UnreadableError(_NOT_A_BATCH) from error
        events: pa.StructArray = _only_column(self._columns, request)
        return events

    def single(self, request: bytes) -> bytes | None:
        """Turn the request with one event into a batch with this one."""
        try:
            parsed = IngestRequest.FromString(request)
        except DecodeError as error:
            raise UnreadableError("not an IngestRequest") from error
        if not parsed.HasField("event"):
            return None
        return LogBatch(events=[parsed.event]).SerializeToString()

    def batches(self, frames: pa.BinaryArray, cuts: Offsets) -> list[bytes]:
        """Write the events from each cut to the next as one batch."""
        rows = pa.ListArray.from_arrays(pa.array(cuts, type=pa.int32()), frames, type=self._schema.field(0).type)
        written = self._frames.record_batch_to_array(pa.RecordBatch.from_arrays([rows], schema=self._schema))
        return [batch.as_py() for batch in written]


def _only_column(view: Any, request: bytes) -> Any:
    try:
        return view.list_to_record_batch([request]).column(0).flatten()
    except ValueError as error:
        raise UnreadableError(_NOT_A_BATCH) from error


def _views() -> FileDescriptor:
    file = FileDescriptorProto(name="tocsin/ingest/wire.proto", package=_PACKAGE, syntax="proto3")
    instant = file.message_type.add(name="Instant")
    instant.field.add(
        name="seconds", number=1, type=FieldDescriptorProto.TYPE_INT64, label=FieldDescriptorProto.LABEL_OPTIONAL
    )
    instant.field.add(
        name="nanos", number=2, type=FieldDescriptorProto.TYPE_INT32, label=FieldDescriptorProto.LABEL_OPTIONAL
    )
    file.message_type.append(_with_plain_times(LogEvent.DESCRIPTOR))
    _add_batch(file, "Columns", FieldDescriptorProto.TYPE_MESSAGE, f".{_PACKAGE}.{LogEvent.DESCRIPTOR.name}")
    _add_batch(file, "Frames", FieldDescriptorProto.TYPE_BYTES, "")
    pool = DescriptorPool()
    pool.Add(file)
    return pool.FindFileByName(file.name)


def _with_plain_times(message: Descriptor) -> DescriptorProto:
    """Copy the contract's event, so that a field added there is never forgotten here."""
    copy = DescriptorProto()
    message.CopyToProto(copy)
    for field in copy.field:
        field.ClearField("options")  # field behaviour, which is another file's extension
        if field.type_name == ".google.protobuf.Timestamp":
            field.type_name = f".{_PACKAGE}.Instant"
        elif field.type_name:
            field.type_name = field.type_name.replace(f".{message.file.package}.", f".{_PACKAGE}.")
    return copy


def _add_batch(file: FileDescriptorProto, name: str, kind: FieldDescriptorProto.Type.ValueType, type_name: str) -> None:
    number = LogBatch.DESCRIPTOR.fields_by_name["events"].number
    field = file.message_type.add(name=name).field.add(name="events", number=number, type=kind)
    field.label = FieldDescriptorProto.LABEL_REPEATED
    if type_name:
        field.type_name = type_name
