"""Random messages of any contract, and random damage to bytes; both follow from a seed."""

from random import Random
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

_MAX_DEPTH = 3
_TEXTS = (
    "",
    "a",
    "payment-service",
    "00000000-0000-7000-8000-000000000000",
    "count > threshold",
    'level == "ERROR" && message.contains("x")',
    'severity=~"HIGH|CRITICAL"',
    "../../etc/passwd",
    "'; DROP TABLE alerts; --",
    "{{7*7}}${7*7}",
    "\r\nSet-Cookie: a=b",
    "\x00",
    "\x1b[2J",
    "\u202e\u05d0\U0001f41b" * 40,
    "((((((((((a+)+)+)+)+)+)+)+)+)+$",
    "RRULE:FREQ=HOURLY;COUNT=99999999",
    "%s%n%x",
    "x" * 5_000,
)
_INTEGERS = (0, 1, -1, 2, 50, 1_000, 2**31 - 1, -(2**31))
_DOUBLES = (0.0, -0.0, 1.5, 1e308, -1e308, float("inf"), float("-inf"), float("nan"))
_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


def random_message(random: Random, descriptor: Descriptor, depth: int = 0) -> Message:
    """Return a message with some of its fields set to odd values."""
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if random.random() < 0.5 and (depth < _MAX_DEPTH or field.message_type is None):
            _fill(random, message, field, depth)
    return message


def damaged(random: Random, content: bytes) -> bytes:
    """Return bytes with some of them changed, cut off, repeated or put in; often none."""
    changed = bytearray(content)
    for _ in range(random.choice((0, 0, 1, 1, 2, 8))):
        place = random.randrange(len(changed) + 1)
        match random.randrange(5):
            case 0:
                changed[place : place + 1] = random.randbytes(1)
            case 1:
                changed[place:place] = random.randbytes(random.randrange(9))
            case 2:
                del changed[place : place + random.randrange(1, 30)]
            case 3:
                changed += changed[place : place + 200]
            case _:
                changed[place:place] = b"\xff" * random.randrange(1, 12)
    return bytes(changed)


def _fill(random: Random, message: Message, field: FieldDescriptor, depth: int) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        _fill_map(random, message, field)
    elif field.is_repeated:
        values = [_value(random, field, depth) for _ in range(random.choice((0, 1, 2, 5, 30)))]
        getattr(message, field.name).extend(values)
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(random_message(random, field.message_type, depth + 1))
    else:
        setattr(message, field.name, _value(random, field, depth))


def _fill_map(random: Random, message: Message, field: FieldDescriptor) -> None:
    assert field.message_type is not None
    kind = field.message_type.fields_by_name["value"]
    for _ in range(random.choice((1, 3, 70))):
        key = random.choice(_TEXTS) + str(random.randrange(99))
        if kind.message_type is None:
            getattr(message, field.name)[key] = _value(random, kind, _MAX_DEPTH)
        else:
            getattr(message, field.name)[key].CopyFrom(random_message(random, kind.message_type, _MAX_DEPTH))


def _value(random: Random, field: FieldDescriptor, depth: int) -> Any:
    kind = field.cpp_type
    if field.message_type is not None:
        return random_message(random, field.message_type, depth + 1)
    if kind == FieldDescriptor.CPPTYPE_STRING:
        text = random.choice(_TEXTS)
        return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return random.random() < 0.5
    if field.enum_type is not None:
        return random.choice([value.number for value in field.enum_type.values] + [99])
    if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return random.choice(_DOUBLES)
    low, high = _RANGES[kind]
    return max(low, min(high, random.choice((*_INTEGERS, low, high))))
