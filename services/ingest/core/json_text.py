"""Strict reading of JSON: a mistake is named with its place, and numbers keep their spelling."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

# Deeper objects and lists are written as an ellipsis.
_MAX_DEPTH = 8
_MAX_QUOTED = 60
_BLANK: Final = re.compile(r"[ \t\n\r]*")
_BEGINNINGS: Final = ("{", ",", "]")
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_BYTE_ORDER_MARK = "\ufeff"


class JsonError(ValueError):
    """The text is not JSON, or not of the kind that is expected."""


class JsonNumber(str):
    """A number in the spelling of the JSON."""

    __slots__ = ()


class JsonText:
    """One text that is read value by value, so that only one of them is in memory at a time."""

    def __init__(self, body: bytes) -> None:
        """Raise JsonError when the bytes are not UTF-8."""
        self._text = _decoded(body)
        self.may_have_surrogates = _SURROGATE.search(self._text) is not None
        """Whether it may have halves of surrogate pairs, which JSON can hold and UTF-8 cannot."""
        self.repeated_keys: list[str] = []
        """The keys of the value read last that one object has more than once; the last value is kept."""
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object,
            parse_int=JsonNumber,
            parse_float=JsonNumber,
            parse_constant=JsonNumber,
            strict=False,
        )

    def one(self) -> Any:
        """Read the only value."""
        value, at = self._value(self._after_blank(0))
        self._end(at)
        return value

    def each(self) -> Iterator[Any]:
        """Read the values of a list; anything else is a list of one."""
        at = self._after_blank(0)
        if not self._text.startswith("[", at):
            yield self.one()
            return
        at = self._after_blank(at + 1)
        is_more = not self._text.startswith("]", at)
        while is_more:
            value, at = self._value(at)
            yield value
            at = self._after_blank(at)
            is_more = self._text.startswith(",", at)
            if is_more:
                at = self._after_blank(at + 1)
            elif not self._text.startswith("]", at):
                raise self._error("expected ',' or ']'", at)
        self._end(at + 1)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            self.repeated_keys += [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
        return members

    def _value(self, at: int) -> tuple[Any, int]:
        self.repeated_keys.clear()
        try:
            return self._decoder.raw_decode(self._text, at)
        except json.JSONDecodeError as error:
            if not self._text.strip():
                raise self._error("expected an object or a list, found nothing", error.pos) from error
            raise self._error(error.msg[:1].lower() + error.msg[1:], error.pos) from error
        except RecursionError as error:
            raise self._error("the value that begins here is nested too deep", at) from error

    def _after_blank(self, at: int) -> int:
        # Most values follow each other at once, or after one space.
        if self._text.startswith(" ", at):
            at += 1
        return at if self._text.startswith(_BEGINNINGS, at) else _BLANK.match(self._text, at).end()  # type: ignore[union-attr]

    def _end(self, at: int) -> None:
        at = self._after_blank(at)
        if at != len(self._text):
            raise self._error("expected nothing more", at)

    def _error(self, what: str, at: int) -> JsonError:
        line, before = self._text.count("\n", 0, at) + 1, self._text.rfind("\n", 0, at)
        return JsonError(f"not valid JSON: line {line}, column {at - before}: {what}")


def _decoded(body: bytes) -> str:
    try:
        return body.decode().removeprefix(_BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        raise JsonError(f"not valid JSON: byte {error.start + 1} is not UTF-8") from error


def format_scalar(value: Any) -> str:
    """Return a string, a number, true or false as a string."""
    return str(value) if isinstance(value, str) else "true" if value else "false"


def format_json(value: Any, max_length: int | None) -> str:
    """Return a value that was read as JSON again, or the first characters of it."""
    pieces, size = [], 0
    for piece in _pieces(value, _MAX_DEPTH):
        pieces.append(piece)
        size += len(piece)
        if max_length is not None and size >= max_length:
            break
    return "".join(pieces)[:max_length]


def _pieces(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, dict | list) and not depth:
        yield "…"
    elif isinstance(value, dict):
        opening = "{"
        for key, each in value.items():
            yield f"{opening}{json.dumps(key, ensure_ascii=False)}:"
            yield from _pieces(each, depth - 1)
            opening = ","
        yield "}" if value else "{}"
    elif isinstance(value, list):
        opening = "["
        for each in value:
            yield opening
            yield from _pieces(each, depth - 1)
            opening = ","
        yield "]" if value else "[]"
    elif type(value) is str:
        yield json.dumps(value, ensure_ascii=False)
    else:
        yield "null" if value is None else format_scalar(value)


def describe_json(value: Any) -> str:
    """Return what a value is, for people; a long string is cut."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    # Escaped before it is cut: characters may become several times as long, and responses are bounded.
    text = json.dumps(value[:_MAX_QUOTED]) if type(value) is str else format_scalar(value)
    return text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}…"
