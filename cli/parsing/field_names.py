"""Field names of loggers and formats, mapped to the fields of an event."""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Self

from cli.parsing.levels import NUMERIC_SCALES, parse_level

# What stands before the names of attributes, where one could be taken for a field of the event.
RAW_ATTRIBUTE_PREFIX = "attributes."


class SourceText(str):
    """A text of a line, with the name that its field has there, and whether it was a list."""

    __slots__ = ("is_list", "name")

    name: str
    is_list: bool

    def __new__(cls, text: str, name: str, *, is_list: bool = False) -> Self:
        """Return the text with its name."""
        source = super().__new__(cls, text)
        source.name, source.is_list = name, is_list
        return source


# For each field the names that loggers use for it, the clearest first; case and punctuation do not matter.
FIELD_NAMES = {
    "message": (
        "message msg @m body body.stringValue fields.message short_message textPayload jsonPayload.message "
        "event log @mt error.message log.original event.original"
    ),
    "level": (
        "levelname severity_text error_severity log.level level @l lvl loglevel log_level severity "
        "severity_number levelno at"
    ),
    "time": (
        "@timestamp eventTime time timestamp ts @t datetime asctime timeMillis date timeUnixNano "
        "observedTimeUnixNano observedTimestamp time_iso8601 time_local StartUTC start_time instant.epochSecond "
        "timestamp.seconds"
    ),
    "service": "service service.name resource.service.name resource.attributes.service.name otelServiceName app",
    "host": "host host.name hostname host.hostname resource.host.name resource.attributes.host.name s-computername",
    "trace_id": "traceId trace.id otelTraceID",
    "record_id": "recordId",
    "status_code": (
        "statusCode http.response.status_code http.status_code response_code sc-status status "
        "httpRequest.status DownstreamStatus http_status"
    ),
    "response_time": (
        "responseTime response_time_ms duration_ms elapsed_ms latency_ms time-taken httpRequest.latency duration "
        "latency elapsed"
    ),
    "response_seconds": "request_time duration_s duration_seconds http.server.request.duration",
    "response_nanos": "event.duration",
    "logger": "logger log.logger logger_name loggerName",
}

# Programs with names of their own: the name that identifies the program, and the fields that its names mean.
DIALECTS = {
    "journald": (
        "__REALTIME_TIMESTAMP",
        {
            "__REALTIME_TIMESTAMP": "time",
            "PRIORITY": "priority",
            "SYSLOG_IDENTIFIER": "service",
            "_HOSTNAME": "host",
            "_PID": "pid",
        },
    ),
    "MongoDB": ("t.$date", {"t.$date": "time", "s": "level", "c": "logger"}),
    "Traefik": ("DownstreamStatus", {"Duration": "response_nanos", "RequestPath": "path"}),
    "Serilog's compact": ("@t", {"@x": "exception"}),
}


def _normalize(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


# Names that differ in case and punctuation only have the rank of the first one.
_FIELD_BY_NAME = {
    _normalize(name): (field, rank)
    for field, names in FIELD_NAMES.items()
    for rank, name in reversed(list(enumerate(names.split())))
}
_WITH_UNIT = re.compile(r"[\d.]+\s?(?:ns|us|µs|μs|ms|s)")
# These names often have another meaning; they mean the field only when the value fits.
_VALUE_CHECKS: dict[str, Callable[[str], object]] = {
    "status": str.isdecimal,
    "at": parse_level,
    "duration": _WITH_UNIT.fullmatch,
    "latency": _WITH_UNIT.fullmatch,
    "elapsed": _WITH_UNIT.fullmatch,
    "date": re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:").match,
}

# Where several names mean a field, names whose value fits come first.
_PREFERRED_VALUES: dict[str, Callable[[str], object]] = {
    "level": parse_level,
    "time": re.compile(r"\D{0,8}\d{2,4}[-/.]\d\d|\d{10}|\d\.\d+[eE]|\D{0,8}[A-Z][a-z]{2}\b").match,
}
_RANK_OF_OTHERS = 100


def map_field_names(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Replace names of loggers by those of the event's fields; other names stay.

    Of several names for one field the clearest wins, of several values for one name the last; the others stay, as
    attributes. Each value of a field knows the name that it had.
    """
    values = {name.removeprefix(RAW_ATTRIBUTE_PREFIX): text for name, text in pairs}
    own = _dialect_of(values)
    best: dict[str, tuple[int, str]] = {}
    for name, text in values.items():
        field, rank = (own[name], -1) if name in own else _field_of(name)
        is_preferred = _PREFERRED_VALUES.get(field)
        rank += _RANK_OF_OTHERS if is_preferred and not is_preferred(text) else 0
        if field and _fits(name, text) and (field not in best or rank < best[field][0]) and text:
            best[field] = (rank, name)
    chosen = {name: field for field, (_, name) in best.items()}
    fields = {
        RAW_ATTRIBUTE_PREFIX + name if name in FIELD_NAMES else name: text
        for name, text in values.items()
        if name not in chosen
    }
    fields |= {field: SourceText(_level_text(name, values[name]), name) for name, field in chosen.items()}
    if "@t" in values:
        # Serilog's compact form leaves out the level Information.
        fields.setdefault("level", "INFORMATION")
    return fields


def _dialect_of(values: Mapping[str, str]) -> Mapping[str, str]:
    return next((names for mark, names in DIALECTS.values() if mark in values), {})


@lru_cache(maxsize=4096)
def _field_of(name: str) -> tuple[str, int]:
    return _FIELD_BY_NAME.get(_normalize(name), ("", 0))


def _fits(name: str, text: str) -> bool:
    fits = _VALUE_CHECKS.get(name)
    return fits is None or bool(fits(text))


def _level_text(name: str, text: str) -> str:
    """Replace a level's number by its name where the field has a scale of its own."""
    scale = NUMERIC_SCALES.get(_normalize(name))
    return text if scale is None else scale(text)
