"""The names that loggers give to the fields of an event."""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

from cli.parsing.levels import SCALES, level_of

# For each field of ours the names that mean it, the surest first; case and punctuation do not matter.
NAMES = {
    "message": (
        *("message", "msg", "@m", "body", "body.stringValue", "fields.message", "short_message", "textPayload"),
        *("jsonPayload.message", "event", "log", "@mt", "error.message"),
    ),
    "level": (
        *(
            "levelname",
            "severity_text",
            "error_severity",
            "log.level",
            "level",
            "@l",
            "lvl",
            "loglevel",
        ),
        *("log_level", "severity", "severity_number", "levelno", "at"),
    ),
    "time": (
        *("@timestamp", "eventTime", "time", "timestamp", "ts", "@t", "datetime", "asctime", "timeMillis"),
        *(
            "date",
            "timeUnixNano",
            "observedTimeUnixNano",
            "time_iso8601",
            "time_local",
            "StartUTC",
            "start_time",
            "instant.epochSecond",
            "timestamp.seconds",
        ),
    ),
    "service": ("service", "service.name", "resource.service.name", "resource.attributes.service.name", "app"),
    "host": ("host", "host.name", "hostname", "host.hostname", "s-computername"),
    "trace_id": ("traceId", "trace.id", "otelTraceID"),
    "record_id": ("recordId",),
    "status_code": (
        *("statusCode", "http.response.status_code", "http.status_code", "response_code", "sc-status", "status"),
        *("httpRequest.status", "DownstreamStatus"),
    ),
    "response_time": (
        *("responseTime", "duration_ms", "elapsed_ms", "latency_ms", "time-taken", "httpRequest.latency"),
        *("duration", "latency", "elapsed"),
    ),
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
_WITH_UNIT = re.compile(r"[\d.]+\s?(?:ns|us|µs|μs|ms|s)")
# Names that hold something else as often: they mean the field when the value fits it.
_UNSURE: dict[str, Callable[[str], object]] = {
    "status": str.isdecimal,
    "at": level_of,
    "duration": _WITH_UNIT.fullmatch,
    "latency": _WITH_UNIT.fullmatch,
    "elapsed": _WITH_UNIT.fullmatch,
    "date": re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:").match,
}

# Where several names mean a field, those whose value is one count first.
_LIKELY: dict[str, Callable[[str], object]] = {
    "level": level_of,
    "time": re.compile(r"\D{0,8}\d{2,4}[-/.]\d\d|\d{10}|\d\.\d+[eE]|\D{0,8}[A-Z][a-z]{2}\b").match,
}
_LAST = 100


def named(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Names and texts, by our names; what names no field of ours keeps its name.

    Of several names for a field the surest wins, of one name the last value; the others keep their own names.
    """
    given = {name.removeprefix("attributes."): text for name, text in pairs}
    own = _dialect(given)
    best: dict[str, tuple[int, str]] = {}
    for name, text in given.items():
        field, rank = (own[name], -1) if name in own else _field(name)
        likely = _LIKELY.get(field)
        rank += _LAST if likely and not likely(text) else 0
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
