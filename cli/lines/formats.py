"""The usual formats of log lines, as patterns with named groups.

A group's name says what it is: service, level, time, message, status_code, response_time (milliseconds),
response_seconds, host, trace_id, record_id, priority (syslog's); a group of any other name becomes an attribute.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from re import Pattern

from cli.lines.names import named
from services.domain.level import Level


@dataclass(frozen=True, slots=True, kw_only=True)
class LineFormat:
    """How one kind of line is read."""

    name: str
    pattern: Pattern[str]
    # More groups, searched for inside the message.
    within: Pattern[str] | None = None
    # The level of lines that say none.
    level: Level = Level.INFO
    # Whether the pattern must fit the whole line.
    is_whole: bool = True

    def found(self, line: str) -> Mapping[str, str] | None:
        """What a line says, by the names of the groups; None when it does not fit."""
        match = self.pattern.fullmatch(line) if self.is_whole else self.pattern.search(line)
        if match is None:
            return None
        found = {name: value for name, value in match.groupdict().items() if value is not None}
        if self.within is not None and (inner := self.within.search(found["message"])) is not None:
            found |= inner.groupdict()
        return found


class Logfmt(LineFormat):
    """Lines of key=value pairs; the keys are the names that loggers use."""

    def found(self, line: str) -> Mapping[str, str] | None:
        """What a line says, by the names of the groups; None when it does not fit."""
        if self.pattern.fullmatch(line) is None:
            return None
        return named((key, _unquoted(value)) for key, value in _PAIR.findall(line))


def _unquoted(value: str) -> str:
    try:
        return str(json.loads(value)) if value.startswith('"') else value
    except ValueError:
        return value.strip('"')


_WORDS = "TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|SEVERE|CRITICAL|FATAL"
_ISO = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?: ?(?:Z|UTC|GMT|[+-]\d\d:?\d\d))?"
# Dates of Spark and Hadoop, of Go and nginx; a time alone is logback's.
_TIME = rf"{_ISO}|(?:\d\d)?\d\d/\d\d/\d\d \d\d:\d\d:\d\d(?:\.\d{{1,6}})?|\d\d:\d\d:\d\d(?:[.,]\d{{1,9}})?"
# A key and a value of logfmt; possessive, so that a line is gone through once.
_PAIR = re.compile(r'([\w.@/-]++)=("(?:[^"\\]|\\.)*+"|[^\s"]*+)')
_A_LOGGERS_KEY = r"(?:time|ts|timestamp|level|lvl|severity|msg|message)="

# The more particular ones first: of those that read equally many lines, the first is taken.
FORMATS = (
    LineFormat(
        name="openstack",
        pattern=re.compile(
            r"(?:(?P<service>[\w-]+)\.log\S* )?(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) (?P<pid>\d+) "
            rf"(?P<level>{_WORDS}) (?P<logger>\S+) \[(?P<request>[^\]]*)\] (?P<message>.*)"
        ),
        within=re.compile(r"status: (?P<status_code>\d{3}) len: (?P<bytes>\d+) time: (?P<response_seconds>[\d.]+)"),
    ),
    LineFormat(
        name="bluegene",
        pattern=re.compile(
            r"(?P<label>\S+) (?P<epoch>\d{10}) \d{4}\.\d\d\.\d\d (?P<host>\S+) "
            r"(?P<time>\d{4}-\d\d-\d\d-\d\d\.\d\d\.\d\d\.\d{6}) \S+ (?P<facility>\S+) (?P<service>\S+) "
            r"(?P<level>[A-Z]+) ?(?P<message>.*)"
        ),
    ),
    LineFormat(
        name="postgresql",
        pattern=re.compile(
            rf"(?P<time>{_ISO}|\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ [A-Z]+) \[(?P<pid>\d+)\] (?:\S+ )?"
            r"(?P<level>LOG|ERROR|FATAL|PANIC|WARNING|NOTICE|INFO|DEBUG\d|STATEMENT|DETAIL|HINT|CONTEXT):\s+"
            r"(?P<message>.*)"
        ),
    ),
    LineFormat(
        name="redis",
        pattern=re.compile(
            r"(?P<pid>\d+):(?P<role>[XCSM]) (?P<time>\d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d\.\d{3}) "
            r"(?P<level>[-.*#]) (?P<message>.*)"
        ),
    ),
    LineFormat(
        name="log4j",
        pattern=re.compile(rf"\[(?P<time>{_ISO})\] (?P<level>{_WORDS}) (?P<message>.*?)(?: \((?P<logger>[\w.$]+)\))?"),
    ),
    LineFormat(
        name="access",
        pattern=re.compile(
            r"(?P<client>\S+) \S+ \S+ \[(?P<time>[^\]]+)\] "
            r'(?P<message>"(?P<method>[A-Z]+) (?P<path>[^\s"]++)[^"]*+" (?P<status_code>\d{3}) (?P<bytes>\d+|-).*)'
        ),
    ),
    LineFormat(
        name="apache-error",
        pattern=re.compile(
            r"\[(?P<time>[A-Z][a-z]{2} [A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d(?:\.\d+)? \d{4})\] "
            r"\[(?:(?P<module>\w+):)?(?P<level>\w+)\] (?P<message>.*)"
        ),
    ),
    LineFormat(
        name="nginx-error",
        pattern=re.compile(
            r"(?P<time>\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \[(?P<level>\w+)\] (?P<pid>\d+)#\d+: (?P<message>.*)"
        ),
    ),
    LineFormat(
        name="syslog-5424",
        pattern=re.compile(
            rf"<(?P<priority>\d{{1,3}})>\d{{1,2}} (?:-|(?P<time>{_ISO})) (?:-|(?P<host>\S+)) (?:-|(?P<service>\S+)) "
            r"(?:-|(?P<pid>\S+)) (?:-|(?P<message_id>\S+)) (?:-|(?P<structured_data>(?:\[(?:[^\]\\]|\\.)*+\])++))"
            r"(?: \ufeff?(?P<message>.*))?"
        ),
    ),
    LineFormat(
        name="klog",
        pattern=re.compile(
            r"(?P<level>[IWEF])(?P<time>\d{4} \d\d:\d\d:\d\d\.\d{6})\s+(?P<thread>\d+) (?P<source>[^\s\]]+:\d+)\] "
            r"(?P<message>.*)"
        ),
    ),
    Logfmt(
        name="logfmt",
        pattern=re.compile(rf"(?=(?:.*\s)?{_A_LOGGERS_KEY})\s*{_PAIR.pattern}(?:\s+{_PAIR.pattern})++\s*"),
    ),
    LineFormat(
        name="syslog",
        pattern=re.compile(
            rf"(?:<(?P<priority>\d{{1,3}})>1? ?)?(?P<time>[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d|{_ISO}) "
            r"(?P<host>[\w.-]+) (?P<service>[\w./-]+)(?:\[(?P<pid>\d+)\])?: (?P<message>.*)"
        ),
    ),
    LineFormat(
        name="time-level",
        pattern=re.compile(
            # Possessive, so that a long line that fits nearly is gone through once.
            rf"\[?(?P<time>{_TIME})\]?[\s|:-]++"
            r"(?:(?:\[(?P<thread>[^\]]*+)\]|(?P<logger>[\w.$][\w.$-]*+))[\s|:-]++)??"
            rf"[\[(]?(?i:(?P<level>{_WORDS}))[\])]?[\s|:-]++(?P<message>.+)"
        ),
    ),
    LineFormat(
        name="python",
        pattern=re.compile(rf"(?P<level>{_WORDS}):(?P<logger>[^\s:]+):(?P<message>.+)"),
    ),
    LineFormat(
        name="level-first",
        pattern=re.compile(rf"[\[(]?(?P<level>{_WORDS})[\])]?:?\s+(?P<message>.+)"),
    ),
)

PLAIN = LineFormat(name="plain", pattern=re.compile(r"(?P<message>.+)"))


def custom(pattern: str) -> LineFormat:
    """A format of the user's own, searched for anywhere in a line.

    Raises ValueError when it is no pattern or names no message.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    if "message" not in compiled.groupindex:
        raise ValueError("the pattern must have a group named message: (?P<message>...)")
    return LineFormat(name="custom", pattern=compiled, is_whole=False)
