"""The types of formats of log lines: by a pattern, and those that a pattern alone does not describe."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from re import Pattern
from typing import Any

from cli.parsing.event import InvalidLine
from cli.parsing.field_names import SourceText, map_field_names
from services.domain.level import Level

# Named texts of a line, before they become the fields of an event.
RawFields = Mapping[str, str]

_COLOUR = re.compile(r"(?:\x1b|#033)(?:\[[0-9;:?]*[ -/]*[@-~]|\][^\x07\x1b]*+(?:\x07|\x1b\\)?|[@-Z\\^_])")


def strip_colours(text: str) -> str:
    """Remove the escape sequences that colour a text on a terminal; syslog writes them with #033."""
    return _COLOUR.sub("", text) if "\x1b" in text or "#033" in text else text


@dataclass(frozen=True, slots=True, kw_only=True)
class LineFormat:
    """Lines that fit a pattern with named groups.

    The name of a group says which field it is: service, level, time, message, status_code, response_time
    (milliseconds), response_seconds, host, trace_id, record_id, priority (syslog's); a group of any other name becomes
    an attribute. Where neither the line nor the format has a level, the message is parsed again by all formats.
    """

    name: str
    pattern: Pattern[str]
    # Further groups, searched for inside the group that is named first.
    within: tuple[str, Pattern[str]] | None = None
    # The level of all lines, where lines of this format have none.
    level: Level | None = None
    # Whether a line that does not fit, and has no time, continues the line before.
    continues: bool = True
    # Whether the pattern must match the whole line.
    is_whole: bool = True
    # Which programs write this format, and an example.
    writers: str = ""
    example: str = ""

    def parse(self, line: str) -> RawFields | InvalidLine | None:
        """Return the named texts of a line, what is wrong with it, or None when it does not have this format."""
        match = self.pattern.fullmatch(line) if self.is_whole else self.pattern.search(line)
        if match is None:
            return None
        fields = {name: value for name, value in match.groupdict().items() if value is not None}
        if self.within is not None and (inner := self.within[1].search(fields.get(self.within[0], ""))):
            fields |= {name: value for name, value in inner.groupdict().items() if value}
        return fields

    def for_new_file(self) -> "LineFormat":
        """Return this format without what it has learned from a file."""
        return self


class JsonFormat(LineFormat):
    """A JSON object on each line; nested values get dotted names."""

    def parse(self, line: str) -> RawFields | InvalidLine | None:
        """Return the fields of the object, or what is wrong with it."""
        if not line.lstrip().startswith("{"):
            return None
        try:
            fields = map_field_names((name, strip_colours(text)) for name, text in _flatten(json.loads(line)))
        except RecursionError:
            return InvalidLine(field="line", expected=f"{A_JSON_OBJECT} that is nested less deeply", found=line)
        except ValueError:
            return InvalidLine(field="line", expected=A_JSON_OBJECT, found=line)
        return _with_message(fields, line)


class DockerFormat(LineFormat):
    """Docker's json-file driver: an object whose `log` is the line itself, with its end unless more comes."""

    def parse(self, line: str) -> RawFields | InvalidLine | None:
        """Return the line, its stream and its time; other objects do not have this format."""
        if not (line.startswith("{") and '"log"' in line and '"stream"' in line):
            return None
        try:
            record = json.loads(line)
        except (RecursionError, ValueError):
            return None
        text = record.get("log")
        if not isinstance(text, str) or not record.keys() <= {"log", "stream", "time", "attrs"}:
            return None
        fields = {name: str(record[name]) for name in ("stream", "time") if name in record}
        return {**fields, "message": text.removesuffix("\n"), "part": "F" if text.endswith("\n") else "P"}


# Keys and values of logfmt, or keys alone; possessive, so that a long line is read once.
KEY = r"[\w.@/-]++"
VALUE = r'(?:"(?:[^"\\]|\\.)*+"|[^\s"]*+)'
_PAIR = re.compile(rf"({KEY})(?:=({VALUE}))?")


class LogfmtFormat(LineFormat):
    """Lines of key=value pairs, with the names that loggers use as keys."""

    def parse(self, line: str) -> RawFields | InvalidLine | None:
        """Return the pairs of a line as fields."""
        if self.pattern.fullmatch(line) is None:
            return None
        pairs: list[tuple[str, str]] = []
        for match in _PAIR.finditer(line):
            key, value = match.groups()
            if value is not None:
                pairs.append((key, _unquote(value)))
            elif pairs and pairs[-1][0] in {"msg", "message"}:
                # A message that its logger should have quoted.
                pairs[-1] = (pairs[-1][0], f"{pairs[-1][1]} {key}")
            else:
                pairs.append((key, "true"))
        return _with_message(map_field_names(pairs), line)


@dataclass(frozen=True, slots=True, kw_only=True)
class W3cFormat(LineFormat):
    """Lines whose fields are named by an earlier line, as IIS writes them; times are in UTC."""

    # Replaced by each line that names fields.
    names: list[str] = field(default_factory=list)

    def parse(self, line: str) -> RawFields | InvalidLine | None:
        """Return the fields of a line; a line that begins with # is an event of its own."""
        if line.startswith("#Fields: "):
            self.names[:] = line.split()[1:]
        if self.pattern.match(line):
            return {"level": Level.DEBUG.name, "message": line}
        texts = line.split(" ")
        if not self.names or len(texts) != len(self.names):
            return None
        values = {name: text for name, text in zip(self.names, texts, strict=True) if text != "-"}
        time = f"{values.pop('date', '')}T{values.pop('time', '')}Z"
        return {**map_field_names(values.items()), "time": time, "message": line}

    def for_new_file(self) -> LineFormat:
        """Return this format without the names of another file."""
        return replace(self, names=[])


# The name of a message that is the whole line.
WHOLE_LINE = "(the whole line)"
A_JSON_OBJECT = "a JSON object"
# How OpenTelemetry names the types of single values.
_TYPED_VALUES = frozenset({"stringValue", "intValue", "doubleValue", "boolValue"})
# Inner names repeat the outer ones before them, up to this length.
_MAX_NAME = 128


def _with_message(fields: RawFields, line: str) -> RawFields:
    """Take the whole line as message where none is named."""
    return fields if fields.get("message") else {**fields, "message": SourceText(line.strip(), WHOLE_LINE)}


def _flatten(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Return dotted names and texts of a nested object, outer before inner, without nulls."""
    for name, inner in value.items():
        if isinstance(inner, dict):
            # A name that is too long for an attribute is not repeated before each of many inner ones.
            yield from _flatten(inner, f"{prefix}{name}."[: _MAX_NAME + 1])
        elif isinstance(inner, list):
            pairs = _key_values(inner)
            if pairs is None:
                yield prefix + name, SourceText(_json_text(inner), prefix + name, is_list=True)
            else:
                yield from _flatten(pairs, f"{prefix}{name}."[: _MAX_NAME + 1])
        elif inner is not None:
            yield prefix + name, inner if isinstance(inner, str) else _json_text(inner)


def _key_values(items: list[Any]) -> dict[str, Any] | None:
    """Return OpenTelemetry's lists of keys and typed values as an object; None for other lists."""
    if not items or not all(isinstance(item, dict) and item.keys() == {"key", "value"} for item in items):
        return None
    return {str(item["key"]): _untyped(item["value"]) for item in items}


def _untyped(value: Any) -> Any:
    """Return the value itself of one such as {"stringValue": "a"}."""
    is_typed = isinstance(value, dict) and len(value) == 1 and next(iter(value)) in _TYPED_VALUES
    return next(iter(value.values())) if is_typed else value


def _json_text(value: Any) -> str:
    """Return a value that is not a string as text; journald writes invalid UTF-8 as a list of bytes."""
    if isinstance(value, list) and value and all(type(one) is int and 0 <= one < 256 for one in value):  # noqa: PLR2004
        return bytes(value).decode("utf-8", "replace")
    return json.dumps(value)


def _unquote(value: str) -> str:
    try:
        return str(json.loads(value)) if value.startswith('"') else value
    except ValueError:
        return value.strip('"')
