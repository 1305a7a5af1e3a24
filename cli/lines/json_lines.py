"""Lines of JSON become events."""

import json
from datetime import datetime
from typing import Any

from cli.lines.event import LineEvent
from cli.lines.reading import event_of
from services.domain.level import Level

# Names that loggers use, and what they are called here; later ones win.
_NAMES = {
    "msg": "message",
    "event": "message",
    "severity": "level",
    "levelname": "level",
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


def is_json_object(line: str) -> bool:
    """Whether a line looks like a JSON object."""
    return line.lstrip().startswith("{") and line.rstrip().endswith("}")


def parsed_json(line: str, *, service: str, now: datetime) -> LineEvent | None:
    """One JSON object as an event, None when it is none; nested values become attributes with dotted names."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    found: dict[str, str] = {}
    for name, text in _flat(value):
        found[_NAMES.get(name, name).removeprefix("attributes.")] = text
    return event_of(found, service=service, level=Level.INFO, now=now)


def _flat(value: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Dotted names and texts of a nested object, outer before inner, without nulls."""
    pairs: list[tuple[str, str]] = []
    for name, inner in value.items():
        if isinstance(inner, dict):
            pairs += _flat(inner, f"{prefix}{name}.")
        elif inner is not None:
            pairs.append((prefix + name, inner if isinstance(inner, str) else json.dumps(inner)))
    return pairs
