"""Arrow IPC streams from strangers: opened and checked completely, so that whatever uses the columns can trust them.

Arrow's own reader trusts more than it should. It allocates what a buffer that is compressed by itself says it becomes,
ends the process where a message of another type is read as a schema, and looks for nulls nowhere that the schema
forbids them. So the type of each message, and the description in front of each record batch (a flatbuffer, which Arrow
has verified by then), are looked at before Arrow reads it; `validate` then looks at offsets, bitmaps and strings.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa

# Each costs about as much as a hundred events.
MAX_BATCHES: Final = 256
Codec = Literal["lz4", "zstd"]
# The types of messages that are read.
SCHEMA: Final = "schema"
DICTIONARY: Final = "dictionary"
RECORD_BATCH: Final = "record batch"
# The places of fields in the flatbuffers Message, DictionaryBatch and RecordBatch of Arrow's Message.fbs.
_HEADER, _DATA, _LENGTH, _NODES, _COMPRESSION = 2, 1, 0, 1, 3
_NOT_ASCII = 0x80
_MANY_ROWS = 800
_UINT16, _INT32, _UINT32, _INT64 = (struct.Struct(kind) for kind in ("<H", "<i", "<I", "<q"))
# What Arrow raises for bytes that are no stream; StopIteration where they end before the first message.
ARROW_ERRORS: Final = (pa.ArrowException, OSError, ValueError, TypeError, KeyError, struct.error, StopIteration)


class UnreadableColumnsError(Exception):
    """The columns cannot be read: the text says what was expected and what was found."""


@dataclass(frozen=True, slots=True)
class ArrayNode:
    """One array of a batch, in the order of Arrow's flat list: a column, or a part of a nested one."""

    column: str
    is_top: bool
    is_nullable: bool


class StreamReader:
    """Reads streams of one schema."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._nodes = nodes_of(schema)
        # How streams begin that Arrow wrote here; others may describe the same schema in other bytes.
        self._usual_begin = schema.serialize()

    def read(self, stream: pa.Buffer) -> list[pa.RecordBatch]:
        """Return the batches of a stream. Raises UnreadableColumnsError."""
        try:
            return self._read(stream)
        except ARROW_ERRORS as error:
            raise UnreadableColumnsError("expected an Arrow IPC stream") from error

    def _read(self, stream: pa.Buffer) -> list[pa.RecordBatch]:
        source = pa.BufferReader(stream)
        messages = pa.ipc.MessageReader.open_stream(source)
        begin = self._usual_begin
        if stream.size >= begin.size and stream.slice(0, begin.size).equals(begin):
            source.seek(begin.size)
        else:
            self._check_schema(messages.read_next_message())
        batches = [self._batch(message) for message in limited(messages)]
        if source.tell() != stream.size:
            raise UnreadableColumnsError("expected nothing after the end of the stream")
        return batches

    def _check_schema(self, message: pa.Message) -> None:
        # Anything else in its place would end the process.
        if message.type != SCHEMA or pa.ipc.read_schema(message) != self._schema:
            raise UnreadableColumnsError(f"expected the columns {', '.join(map(str, self._schema))}")

    def _batch(self, message: pa.Message) -> pa.RecordBatch:
        if message.type != RECORD_BATCH:
            raise UnreadableColumnsError(f"expected record batches alone, got a message of the type {message.type}")
        check_record_batch(message, self._nodes)
        batch = pa.ipc.read_record_batch(message, self._schema)
        check_values(batch)
        return batch


def check_values(batch: pa.RecordBatch) -> None:
    """Check what a batch holds: offsets, bitmaps and strings. Raises pyarrow.ArrowInvalid.

    Arrow's own check looks at each string by itself. From some hundred rows on, all strings of a column at once take
    less time, up to a fifth; where they are not plain ASCII, Arrow looks at them.
    """
    if batch.num_rows < _MANY_ROWS:
        batch.validate(full=True)
        return
    batch.validate()
    for column in batch.columns:
        _check_column(column)


def _check_column(column: Any) -> None:
    if pa.types.is_map(column.type) and not column.null_count:
        _check_offsets(column, len(column.keys))
        _check_column(column.keys)
        _check_column(column.items)
    elif not (pa.types.is_string(column.type) and not column.null_count and _is_ascii(column)):
        column.validate(full=True)


def _is_ascii(column: Any) -> bool:
    """Return whether the strings of a column without nulls are ASCII, and so valid wherever they are divided."""
    data = column.buffers()[2]
    offsets = _check_offsets(column, data.size if data else 0)
    begin, end = offsets[0], offsets[-1]
    return bool(begin == end or np.frombuffer(data, np.uint8, end - begin, begin).max() < _NOT_ASCII)


def _check_offsets(column: Any, size: int) -> Any:
    """Return the offsets of an array, which must not fall and must lie inside of what they divide."""
    if not len(column):
        return np.zeros(1, dtype=np.int32)
    offsets = np.frombuffer(column.buffers()[1], np.int32, len(column) + 1, column.offset * 4)
    if offsets[0] < 0 or offsets[-1] > size or (offsets[1:] < offsets[:-1]).any():
        raise pa.ArrowInvalid("offsets that fall or point outside")
    return offsets


def decompress_stream(compressed: bytes, codec: Codec, size: int) -> pa.Buffer:
    """Open what a codec has compressed as a whole, which must become exactly `size` bytes."""
    try:
        if codec != "lz4":
            return pa.decompress(compressed, decompressed_size=size, codec=codec)
        # In one call, LZ4 would leave the rest as it finds the memory where fewer bytes come out.
        with pa.CompressedInputStream(pa.BufferReader(compressed), codec) as source:
            buffer = source.read_buffer(size + 1)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UnreadableColumnsError(f"expected {size} bytes compressed with {codec}") from error
    if buffer.size != size:
        raise UnreadableColumnsError(f"expected {size} bytes compressed with {codec}, got other than that")
    return buffer


def nodes_of(schema: pa.Schema) -> tuple[ArrayNode, ...]:
    """Return the arrays that each batch of a schema has."""
    return tuple(node for field in schema for node in _nodes(field, field.name, is_top=True))


def _nodes(field: "pa.Field[Any]", column: str, *, is_top: bool = False) -> Iterator[ArrayNode]:
    yield ArrayNode(column, is_top, field.nullable)
    kind: Any = field.type
    if pa.types.is_map(kind):
        # Entries and keys are never null, whatever is said of them.
        yield ArrayNode(column, is_top=False, is_nullable=False)
        yield ArrayNode(column, is_top=False, is_nullable=False)
        yield from _nodes(kind.item_field, column)
    elif pa.types.is_nested(kind):
        for index in range(kind.num_fields):
            yield from _nodes(kind.field(index), column)


def limited(messages: Any) -> Iterator[pa.Message]:
    """Return the rest of a stream's messages. Raises UnreadableColumnsError for too many."""
    for count, message in enumerate(messages, start=1):
        if count > MAX_BATCHES:
            raise UnreadableColumnsError(f"expected at most {MAX_BATCHES} record batches")
        yield message


def check_record_batch(message: pa.Message, nodes: tuple[ArrayNode, ...]) -> None:
    """Check what is said of a batch before it is read. Raises UnreadableColumnsError."""
    metadata = memoryview(message.metadata)
    batch = _follow(metadata, _field(metadata, _follow(metadata, 0), _HEADER))
    at = _field(metadata, batch, _LENGTH)
    row_count = _INT64.unpack_from(metadata, at)[0] if at else 0
    numbers = _described_arrays(metadata, batch)
    if len(numbers) != 2 * len(nodes):
        raise UnreadableColumnsError(f"expected {len(nodes)} arrays, got {len(numbers) // 2}")
    for node, length, null_count in zip(nodes, numbers[::2], numbers[1::2], strict=True):
        if length < 0 or (node.is_top and length != row_count):
            raise UnreadableColumnsError(f"{node.column}: expected {row_count} values, got {length}")
        if not 0 <= null_count <= (length if node.is_nullable else 0):
            raise UnreadableColumnsError(f"{node.column}: expected no nulls, got {null_count}")


def check_dictionary(message: pa.Message) -> None:
    """Check what is said of a dictionary before it is read. Raises UnreadableColumnsError."""
    metadata = memoryview(message.metadata)
    dictionary = _follow(metadata, _field(metadata, _follow(metadata, 0), _HEADER))
    numbers = _described_arrays(metadata, _follow(metadata, _field(metadata, dictionary, _DATA)))
    for length, null_count in zip(numbers[::2], numbers[1::2], strict=True):
        if not 0 <= null_count <= length:
            raise UnreadableColumnsError(f"a dictionary: expected at most {length} nulls, got {null_count}")


def _described_arrays(metadata: memoryview, batch: int) -> tuple[int, ...]:
    """Return the length and the number of nulls of each array in turn."""
    if _field(metadata, batch, _COMPRESSION):
        raise UnreadableColumnsError("expected no compression inside the stream")
    vector = _follow(metadata, _field(metadata, batch, _NODES))
    count = _UINT32.unpack_from(metadata, vector)[0]
    return struct.unpack_from(f"<{2 * count}q", metadata, vector + _UINT32.size)


def _field(metadata: memoryview, table: int, index: int) -> int:
    """Return where a field of a flatbuffer's table stands; 0 where it is absent."""
    fields = table - int(_INT32.unpack_from(metadata, table)[0])
    slot = 4 + 2 * index
    if slot >= _UINT16.unpack_from(metadata, fields)[0]:
        return 0
    offset = int(_UINT16.unpack_from(metadata, fields + slot)[0])
    return table + offset if offset else 0


def _follow(metadata: memoryview, at: int) -> int:
    return at + int(_UINT32.unpack_from(metadata, at)[0])
