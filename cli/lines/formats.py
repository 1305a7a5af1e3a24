"""The usual formats of log lines, as patterns with named groups.

A group's name says what it is: service, level, time, message, status_code, response_time (milliseconds),
response_seconds, host, trace_id, record_id; a group of any other name becomes an attribute.
"""

import re
from dataclasses import dataclass
from re import Pattern

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


_WORDS = "TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|SEVERE|CRITICAL|FATAL"
_ISO = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?: ?(?:Z|UTC|GMT|[+-]\d\d:?\d\d))?"

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
            r'(?P<message>"(?P<method>[A-Z]+) (?P<path>\S+)[^"]*" (?P<status_code>\d{3}) (?P<bytes>\d+|-).*)'
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
        name="syslog",
        pattern=re.compile(
            rf"(?:<\d{{1,3}}>1? ?)?(?P<time>[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d|{_ISO}) (?P<host>[\w.-]+) "
            r"(?P<service>[\w./-]+)(?:\[(?P<pid>\d+)\])?: (?P<message>.*)"
        ),
    ),
    LineFormat(
        name="time-level",
        pattern=re.compile(
            rf"\[?(?P<time>{_ISO})\]?[\s|:-]+(?:\[?(?P<thread>[\w.-]+)\]?\s+)??"
            rf"[\[(]?(?i:(?P<level>{_WORDS}))[\])]?[\s|:-]+(?P<message>.+)"
        ),
    ),
    LineFormat(
        name="level-first",
        pattern=re.compile(rf"[\[(]?(?P<level>{_WORDS})[\])]?:?\s+(?P<message>.+)"),
    ),
)

PLAIN = LineFormat(name="plain", pattern=re.compile(r"(?P<message>.+)"))


def custom(pattern: str) -> LineFormat:
    """A format of the user's own. Raises ValueError when it is no pattern or names no message."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    if "message" not in compiled.groupindex:
        raise ValueError("the pattern must have a group named message: (?P<message>...)")
    return LineFormat(name="custom", pattern=compiled)
