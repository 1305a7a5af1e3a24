"""Values in files as people write them: what was found and what is expected, in words."""

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from services.domain.found_values import expected, unknown_name

_DURATION = re.compile(r"-?(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class FileValueError(ValueError):
    """A value is not what its field takes; the text says what is expected and what was found."""


def text_of(value: Any) -> str:
    """Return a string; an integer stands for its digits. Raises FileValueError."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise FileValueError(expected("a string", value))
    return str(value)


def span_of(value: Any) -> timedelta:
    """Return a time span such as 90s or 1h30m. Raises FileValueError."""
    wanted = "a duration with its unit, such as 90s, 2m or 1h30m"
    if not isinstance(value, str) or not _DURATION.fullmatch(text := value.replace(" ", "")):
        raise FileValueError(expected(wanted, value))
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    try:
        return timedelta(seconds=-seconds if text.startswith("-") else seconds)
    except OverflowError:
        raise FileValueError(expected(wanted, value)) from None


def mapping_of(value: Any, noun: str, example: str) -> dict[str, str]:
    """Return names and their values, such as the example; single values stand for their text. Raises FileValueError."""
    if not isinstance(value, Mapping):
        raise FileValueError(expected(f"names and values such as {example}", value))
    texts = {str(key): _single_text(each) for key, each in value.items()}
    if wrong := [key for key, text in texts.items() if text is None]:
        raise FileValueError(f"{noun} values are strings: {', '.join(wrong)}")
    return {key: text for key, text in texts.items() if text is not None}


def unknown_field(name: str, message: type[Message]) -> str:
    """Return what is said of a field that a message does not have, with those that may be meant.

    Envoy says the same over REST (envoy/refusals.lua).
    """
    # Of one of the library's two classes, which the stubs tell apart.
    all_fields: Sequence[Any] = message.DESCRIPTOR.fields
    fields = [field for field in all_fields if not is_output(field)]
    known = [name for field in fields for name in (field.json_name, field.name)]
    return unknown_name(name, known, [field.json_name for field in fields])


def is_output(field: FieldDescriptor) -> bool:
    """Return whether only the server sets a field."""
    return field_behavior_pb2.OUTPUT_ONLY in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]


def _single_text(value: Any) -> str | None:
    match value:
        case bool():
            return str(value).lower()
        case str() | int() | float():
            return str(value)
        case _:
            return None
