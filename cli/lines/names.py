"""The names that loggers give to the fields of an event."""

from collections.abc import Iterable

# And what they are called here.
_NAMES = {
    "msg": "message",
    "event": "message",
    "severity": "level",
    "levelname": "level",
    "lvl": "level",
    "log.level": "level",
    "ts": "time",
    "timestamp": "time",
    "@timestamp": "time",
    "eventTime": "time",
    "event_time": "time",
    "app": "service",
    "service.name": "service",
    "logger": "logger",
    "hostname": "host",
    "status": "status_code",
    "statusCode": "status_code",
    "responseTime": "response_time",
    "duration_ms": "response_time",
    "traceId": "trace_id",
    "recordId": "record_id",
}


def named(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Names and texts, by our names; of several for one field the last wins."""
    return {_name(name, text).removeprefix("attributes."): text for name, text in pairs}


def _name(name: str, text: str) -> str:
    """Ours; a status in words, such as "ok", is no status code."""
    return name if name == "status" and not text.isdecimal() else _NAMES.get(name, name)
