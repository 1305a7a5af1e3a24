"""The names that loggers give to the fields of an event."""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

from cli.lines.levels import SCALES, level_of

# For each field of ours the names that mean it, the surest first; case and punctuation do not matter.
NAMES = {
    "message": (
        *("message", "msg", "@m", "body", "body.stringValue", "fields.message", "short_message", "textPayload"),
        *("jsonPayload.message", "event", "log", "@mt", "error.message"),
    ),
    "level": (
        *("level_name", "levelname", "severity_text", "error_severity", "log.level", "level", "@l", "lvl", "loglevel"),
        *("log_level", "severity", "severity_number", "levelno", "at"),
    ),
    "time": (
        *("@timestamp", "eventTime", "time", "timestamp", "ts", "@t", "datetime", "asctime", "timeMillis"),
        *("timeUnixNano", "observedTimeUnixNano", "time_iso8601", "time_local", "StartUTC", "start_time"),
    ),
    "service": ("service", "service.name", "resource.service.name", "resource.attributes.service.name", "app"),
    "host": ("host", "host.name", "hostname", "host.hostname", "s-computername"),
    "trace_id": ("traceId", "trace.id", "otelTraceID"),
    "record_id": ("recordId",),
    "status_code": (
        *("statusCode", "http.response.status_code", "http.status_code", "response_code", "sc-status", "status"),
        *("httpRequest.status", "DownstreamStatus"),
    ),
    "response_time": ("responseTime", "duration_ms", "elapsed_ms", "latency_ms", "time-taken", "httpRequest.latency"),
    "response_seconds": ("request_time", "duration_s"),
    "response_nanos": ("event.duration",),
    "logger": ("logger", "log.logger", "logger_name", "loggerName"),
}

# Formats of JSON that give names of their own; each is known by one of its names.
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


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


_FIELD_BY_NAME = {_bare(name): (field, rank) for field, names in NAMES.items() for rank, name in enumerate(names)}
# Names that hold something else as often: they mean the field when the value fits it.
_UNSURE: dict[str, Callable[[str], object]] = {
    "status": str.isdecimal,
    "at": level_of,
}


def named(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Names and texts, by our names; what names no field of ours keeps its name.

    Of several names for a field the surest wins, of one name the last value; the others keep their own names.
    """
    given = {name.removeprefix("attributes."): text for name, text in pairs}
    own = _dialect(given)
    best: dict[str, tuple[int, str]] = {}
    for name, text in given.items():
        field, rank = (own[name], -1) if name in own else _field(name)
        if field and _fits(name, text) and (field not in best or rank < best[field][0]) and text:
            best[field] = (rank, name)
    chosen = {name: field for field, (_, name) in best.items()}
    found = {name: text for name, text in given.items() if name not in chosen and name not in NAMES}
    found |= {field: _text(name, given[name]) for name, field in chosen.items()}
    if "@t" in given:
        # Serilog's compact form says no level where it is Information.
        found.setdefault("level", "INFORMATION")
    return found


def _dialect(given: Mapping[str, str]) -> Mapping[str, str]:
    return next((names for mark, names in DIALECTS.values() if mark in given), {})


@lru_cache(maxsize=4096)
def _field(name: str) -> tuple[str, int]:
    return _FIELD_BY_NAME.get(_bare(name), ("", 0))


def _fits(name: str, text: str) -> bool:
    fits = _UNSURE.get(name)
    return fits is None or bool(fits(text))


def _text(name: str, text: str) -> str:
    """A number on a scale of its own becomes the word for it."""
    scale = SCALES.get(_bare(name))
    return text if scale is None else scale(text)
