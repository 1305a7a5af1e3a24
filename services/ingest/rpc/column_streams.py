"""Arrow IPC streams of any schema, as clients send them: opened within a limit, and checked before they are used."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from services.contract.arrow_streams import (
    ARROW_ERRORS,
    DICTIONARY,
    RECORD_BATCH,
    SCHEMA,
    ArrayNode,
    Codec,
    UnreadableColumnsError,
    check_dictionary,
    check_record_batch,
    check_values,
    decompress_stream,
    limited,
    nodes_of,
)
from services.contract.event_columns import EVENT_SCHEMA
from services.ingest.core.column_texts import parts_of
from services.ingest.core.foreign_columns import UnusableColumnsError, check_schema
from tocsin.logs.v1.log_event_pb2 import EventColumns

_NOT_COMPRESSED: Final = (EventColumns.COMPRESSION_UNSPECIFIED, EventColumns.NONE)
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
# How other bytes begin that may come instead.
_BEGINNINGS: Final = {
    _ZSTD: "a frame of Zstandard; set compression to ZSTD",
    b"\x04\x22\x4d\x18": "a frame of LZ4; set compression to LZ4",
    b"ARROW1": "an Arrow IPC file; write a stream",
    b"PAR1": "a Parquet file; write an Arrow IPC stream",
}


def _has_dictionary(kind: Any) -> bool:
    return pa.types.is_dictionary(kind) or any(map(_has_dictionary, parts_of(kind)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """What the messages of a stream are made of."""

    schema: pa.Schema
    nodes: tuple[ArrayNode, ...]
    has_dictionaries: bool

    @classmethod
    def of(cls, schema: pa.Schema) -> "_Layout":
        has_dictionaries = any(_has_dictionary(field.type) for field in schema)
        return cls(schema=schema, nodes=nodes_of(schema), has_dictionaries=has_dictionaries)


_EVENTS: Final = _Layout.of(EVENT_SCHEMA)
_NO_EVENTS: Final = pa.RecordBatch.from_pylist([], schema=EVENT_SCHEMA)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadStream:
    """The columns of a stream."""

    columns: pa.RecordBatch
    is_contract: bool
    """Whether the stream itself is as the contract has it, and may go on as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedStream:
    """The bytes of a stream."""

    stream: pa.Buffer
    is_packed: bool
    """Whether it came compressed in the form in which every reader of the topic opens it."""


def open_stream(packed: bytes, compression: int, max_bytes: int) -> OpenedStream:
    """Open a stream. Raises UnreadableColumnsError, also where it has more than `max_bytes`."""
    if compression in _NOT_COMPRESSED:
        opened = OpenedStream(stream=pa.py_buffer(packed), is_packed=False)
    elif compression == EventColumns.LZ4:
        opened = OpenedStream(stream=_decompress(packed, "lz4", max_bytes), is_packed=True)
    elif compression == EventColumns.ZSTD:
        opened = _open_zstd(packed, max_bytes)
    else:
        raise UnreadableColumnsError(f"compression: expected NONE, LZ4 or ZSTD, found {compression}")
    if opened.stream.size > max_bytes:
        raise UnreadableColumnsError(f"stream: expected at most {max_bytes} bytes before compression, found more")
    return opened


def _open_zstd(packed: bytes, max_bytes: int) -> OpenedStream:
    size = zstd_size(packed)
    # Of several frames, the first does not know the size of all.
    with suppress(UnreadableColumnsError):
        if size is not None and size <= max_bytes:
            return OpenedStream(stream=decompress_stream(packed, "zstd", size), is_packed=True)
    return OpenedStream(stream=_decompress(packed, "zstd", max_bytes), is_packed=False)


def zstd_size(packed: bytes) -> int | None:
    """Return the size before compression that a frame of Zstandard names, None where it names none."""
    if len(packed) <= len(_ZSTD) or not packed.startswith(_ZSTD):
        return None
    descriptor = packed[len(_ZSTD)]
    is_single = descriptor >> 5 & 1
    # The window's descriptor, which a single segment has not, and the dictionary's id come first.
    at = len(_ZSTD) + 1 + (not is_single) + (0, 1, 2, 4)[descriptor & 3]
    length = (is_single, 2, 4, 8)[descriptor >> 6]
    size = int.from_bytes(packed[at : at + length], "little")
    return (size + 256 if length == 2 else size) if length else None  # noqa: PLR2004  (two bytes begin at 256)


def _decompress(packed: bytes, codec: Codec, max_bytes: int) -> pa.Buffer:
    try:
        with pa.CompressedInputStream(pa.BufferReader(packed), codec) as source:
            return source.read_buffer(max_bytes + 1)
    except (*ARROW_ERRORS, MemoryError) as error:
        raise UnreadableColumnsError(f"stream: expected bytes compressed with {codec}") from error


def read_stream(stream: pa.Buffer) -> ReadStream:
    """Return the events of a stream in one batch.

    Raises UnreadableColumnsError for what is no stream, and UnusableColumnsError for columns that cannot be events.
    """
    try:
        return _read(stream)
    except UnusableColumnsError:
        raise
    except UnreadableColumnsError as error:
        raise UnreadableColumnsError(f"stream: {error}") from error
    except (*ARROW_ERRORS, MemoryError) as error:
        raise UnreadableColumnsError(f"stream: expected a whole Arrow IPC stream, found {_found(stream)}") from error


def _found(stream: pa.Buffer) -> str:
    begin = stream[:8].to_pybytes()
    return next((found for known, found in _BEGINNINGS.items() if begin.startswith(known)), "other bytes")


def _read(stream: pa.Buffer) -> ReadStream:
    source = pa.BufferReader(stream)
    messages = pa.ipc.MessageReader.open_stream(source)
    first = messages.read_next_message()
    # Anything else in its place would end the process.
    if first.type != SCHEMA:
        raise UnreadableColumnsError(f"expected a schema first, found a message of the type {first.type}")
    schema = pa.ipc.read_schema(first)
    if schema == EVENT_SCHEMA:
        batches = _batches(messages, _EVENTS, stream)
    else:
        check_schema(schema)
        batches = _batches(messages, _Layout.of(schema), stream)
    is_contract = schema == EVENT_SCHEMA and source.tell() == stream.size and len(batches) == 1
    return ReadStream(columns=_in_one(batches, schema), is_contract=is_contract)


def _batches(messages: Any, layout: _Layout, stream: pa.Buffer) -> list[pa.RecordBatch]:
    found = []
    for message in limited(messages):
        if layout.has_dictionaries and message.type == DICTIONARY:
            check_dictionary(message)
        elif message.type == RECORD_BATCH:
            check_record_batch(message, layout.nodes)
            found.append(message)
        else:
            raise UnreadableColumnsError(f"expected record batches, found a message of the type {message.type}")
    if layout.has_dictionaries:
        with pa.ipc.open_stream(stream) as reader:
            batches = list(reader)
    else:
        batches = [pa.ipc.read_record_batch(message, layout.schema) for message in found]
    for batch in batches:
        check_values(batch)
    return batches


def _in_one(batches: list[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    try:
        joined = pa.Table.from_batches(batches, schema).combine_chunks().to_batches()
    except pa.ArrowException as error:
        # Dictionaries that hold null, for one.
        raise UnreadableColumnsError("expected record batches that can be joined; send one alone") from error
    return joined[0] if joined else _NO_EVENTS
