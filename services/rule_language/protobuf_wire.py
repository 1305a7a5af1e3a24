"""Protobuf's wire format, read and written without generated classes.

A checked expression comes as bytes of CEL's public `cel.expr.CheckedExpr`. The package with its classes brings a
hundred megabytes of others, and these few lines keep protobuf out of everything that judges events.
"""

import struct
from collections.abc import Callable, Collection, Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_SIZES = {_FIXED64: 8, _FIXED32: 4}


class WireMessage:
    """The fields of one message by their numbers; an absent field reads as protobuf's default."""

    def __init__(self, data: bytes) -> None:
        self._fields: dict[int, list[int | bytes]] = {}
        self._raw: list[tuple[int, int | bytes, bytes]] = []
        for number, value, raw in _fields(data):
            self._fields.setdefault(number, []).append(value)
            self._raw.append((number, value, raw))

    def has(self, number: int) -> bool:
        """Whether the field is present."""
        return number in self._fields

    def integer(self, number: int) -> int:
        """Return a field of type int64, int32, bool or enum."""
        value = self._fields.get(number, [0])[-1]
        return value - 2**64 if isinstance(value, int) and value >= 2**63 else int(value)

    def double(self, number: int) -> float:
        """Return a field of type double."""
        (value,) = struct.unpack("<d", self.data(number) or bytes(8))
        return float(value)

    def string(self, number: int) -> str:
        """Return a field of type string."""
        return self.data(number).decode()

    def data(self, number: int) -> bytes:
        """Return a field of type bytes, or any other as it is on the wire."""
        value = self._fields.get(number, [b""])[-1]
        return value if isinstance(value, bytes) else b""

    def message(self, number: int) -> "WireMessage":
        """Return a field that is a message."""
        return WireMessage(self.data(number))

    def messages(self, number: int) -> "list[WireMessage]":
        """Return a repeated field of messages; the entries of a map have fields 1 and 2."""
        return [WireMessage(value) for value in self._fields.get(number, []) if isinstance(value, bytes)]

    def with_field(self, number: int, data: bytes) -> bytes:
        """Encode the message with other bytes in this field."""
        others = b"".join(raw for field, _, raw in self._raw if field != number)
        return others + encode_field(number, data)

    def with_changed(self, numbers: Collection[int], change: Callable[[int, bytes], bytes]) -> bytes:
        """Encode the message with the bytes of each of these fields changed."""
        return b"".join(
            encode_field(number, change(number, value)) if number in numbers and isinstance(value, bytes) else raw
            for number, value, raw in self._raw
        )

    def encode(self) -> bytes:
        """Encode the message as it was read."""
        return b"".join(raw for _, _, raw in self._raw)


def encode_field(number: int, value: int | bytes) -> bytes:
    """Encode one field: a number that is not negative, or the bytes of a string or message."""
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value)
    return field_prefix(number, len(value)) + value


def field_prefix(number: int, size: int) -> bytes:
    """Encode what stands before the bytes of a string or message, of which there are `size`."""
    return _varint(number << 3 | _BYTES) + _varint(size)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes, bytes]]:
    """Yield each field's number, its value, and its bytes with the tag."""
    position = 0
    while position < len(data):
        start = position
        tag, position = _read_varint(data, position)
        kind = tag & 7
        if kind == _VARINT:
            value: int | bytes
            value, position = _read_varint(data, position)
        else:
            size, position = _read_varint(data, position) if kind == _BYTES else (_SIZES[kind], position)
            value, position = data[position : position + size], position + size
        yield tag >> 3, value, data[start:position]


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:  # noqa: PLR2004 - the bit that says that more follows
            return value, position


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - what fits into seven bits
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
