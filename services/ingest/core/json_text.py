"""JSON as it is read here: strictly, with the place of what is wrong, and without losing what numbers look like."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

# Below this, objects and lists are not written any more.
_MAX_DEPTH = 8
_MAX_QUOTED = 60
_BLANK: Final = re.compile(r"[ \t\n\r]*")
_BEGINNINGS: Final = ("{", ",", "]")
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_BYTE_ORDER_MARK = "\ufeff"


class JsonError(ValueError):
    """The text is no JSON, or not of the kind that is wanted."""


class Number(str):
    """A number as the text that stands in the JSON, which no type of ours changes."""

    __slots__ = ()


class JsonText:
    """One text that is read value by value, so that no more than one of them is held at a time."""

    def __init__(self, body: bytes) -> None:
        """Raises JsonError when the bytes are no text."""
        self._text = _decoded(body)
        self.may_have_surrogates = _SURROGATE.search(self._text) is not None
        """Whether halves of surrogate pairs may stand in it, which JSON can hold and text cannot."""
        self.repeated: list[str] = []
        """The keys of the value read last that stand more than once in one object; the last value is kept."""
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object, parse_int=Number, parse_float=Number, parse_constant=Number, strict=False
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
        found = dict(pairs)
        if len(found) != len(pairs):
            self.repeated += [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
        return found

    def _value(self, at: int) -> tuple[Any, int]:
        self.repeated.clear()
        try:
            return self._decoder.raw_decode(self._text, at)
        except json.JSONDecodeError as error:
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


def plain(value: Any) -> str:
    """The text of a string, a number, true or false."""
    return str(value) if isinstance(value, str) else "true" if value else "false"


def json_text(value: Any, most: int | None) -> str:
    """Write a value that was read as JSON again, at most so many characters of it."""
    pieces, size = [], 0
    for piece in _pieces(value, _MAX_DEPTH):
        pieces.append(piece)
        size += len(piece)
        if most is not None and size >= most:
            break
    return "".join(pieces)[:most]


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
        yield "null" if value is None else plain(value)


def described(value: Any) -> str:
    """Say what a value is, for people; a long text is cut."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    # Escaped before it is cut: characters may become several times as long, and answers are bounded.
    text = json.dumps(value[:_MAX_QUOTED]) if type(value) is str else plain(value)
    return text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}…"
