"""What a format of log lines is, and the kinds of formats that a pattern alone does not describe."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from re import Pattern

from cli.parsing.event import Refused
from cli.parsing.field_names import named
from services.domain.level import Level

Found = Mapping[str, str]

_COLOUR = re.compile(r"(?:\x1b|#033)(?:\[[0-9;:?]*[ -/]*[@-~]|\][^\x07\x1b]*+(?:\x07|\x1b\\)?|[@-Z\\^_])")


def uncoloured(text: str) -> str:
    """A text without the escape sequences that colour it on a terminal; syslog writes them with #033."""
    return _COLOUR.sub("", text) if "\x1b" in text or "#033" in text else text


@dataclass(frozen=True, slots=True, kw_only=True)
class LineFormat:
    """How one kind of line is read: a pattern with named groups.

    A group's name says what it is: service, level, time, message, status_code, response_time (milliseconds),
    response_seconds, host, trace_id, record_id, priority (syslog's); a group of any other name becomes an attribute.
    What says no level and has none by nature is looked into again: its message may be a line of another format.
    """

    name: str
    pattern: Pattern[str]
    # More groups, searched for inside the group that is named first.
    within: tuple[str, Pattern[str]] | None = None
    # The level of lines that say none by nature.
    level: Level | None = None
    # Whether what does not fit, and says no time, belongs to the line before.
    continues: bool = True
    # Whether the pattern must fit the whole line.
    is_whole: bool = True
    # Who writes so, and a line of it.
    writers: str = ""
    example: str = ""

    def found(self, line: str) -> Found | Refused | None:
        """What a line says, by the names of the groups; None when it does not fit."""
        match = self.pattern.fullmatch(line) if self.is_whole else self.pattern.search(line)
        if match is None:
            return None
        found = {name: value for name, value in match.groupdict().items() if value is not None}
        if self.within is not None and (more := self.within[1].search(found.get(self.within[0], ""))):
            found |= {name: value for name, value in more.groupdict().items() if value}
        return found

    def fresh(self) -> "LineFormat":
        """The format for another file."""
        return self


# Keys and values of logfmt, or keys alone; possessive, so that a line is gone through once.
KEY = r"[\w.@/-]++"
VALUE = r'(?:"(?:[^"\\]|\\.)*+"|[^\s"]*+)'
_PAIR = re.compile(rf"({KEY})(?:=({VALUE}))?")


class Logfmt(LineFormat):
    """Lines of key=value pairs; the keys are the names that loggers use."""

    def found(self, line: str) -> Found | Refused | None:
        """What a line says, by the names of our fields; None when it does not fit."""
        if self.pattern.fullmatch(line) is None:
            return None
        pairs: list[tuple[str, str]] = []
        for match in _PAIR.finditer(line):
            key, value = match.groups()
            if value is not None:
                pairs.append((key, _unquoted(value)))
            elif pairs and pairs[-1][0] in {"msg", "message"}:
                # A text that its logger should have quoted.
                pairs[-1] = (pairs[-1][0], f"{pairs[-1][1]} {key}")
            else:
                pairs.append((key, "true"))
        found = named(pairs)
        # What names no message is told as it is.
        return found if found.get("message") else {**found, "message": line.strip()}


def _unquoted(value: str) -> str:
    try:
        return str(json.loads(value)) if value.startswith('"') else value
    except ValueError:
        return value.strip('"')


@dataclass(frozen=True, slots=True, kw_only=True)
class W3c(LineFormat):
    """Lines whose fields a line before them names, as IIS writes them; times are in UTC."""

    names: list[str] = field(default_factory=list)

    def found(self, line: str) -> Found | Refused | None:
        """What a line says, by the names of our fields; None when it does not fit."""
        if line.startswith("#Fields: "):
            self.names[:] = line.split()[1:]
        if self.pattern.match(line):
            return {"level": Level.DEBUG.name, "message": line}
        texts = line.split(" ")
        if not self.names or len(texts) != len(self.names):
            return None
        given = {name: text for name, text in zip(self.names, texts, strict=True) if text != "-"}
        time = f"{given.pop('date', '')}T{given.pop('time', '')}Z"
        return {**named(given.items()), "time": time, "message": line}

    def fresh(self) -> LineFormat:
        """The format for another file, which names its own fields."""
        return replace(self, names=[])
