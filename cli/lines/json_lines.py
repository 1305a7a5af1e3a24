"""Lines of JSON become events."""

import json
from datetime import UTC, datetime, tzinfo
from typing import Any

from cli.lines.event import LineEvent
from cli.lines.names import named
from cli.lines.reading import event_of
from services.domain.level import Level


def is_json_object(line: str) -> bool:
    """Whether a line looks like a JSON object."""
    return line.lstrip().startswith("{") and line.rstrip().endswith("}")


def parsed_json(line: str, *, service: str, now: datetime, zone: tzinfo = UTC) -> LineEvent | None:
    """One JSON object as an event, None when it is none; nested values become attributes with dotted names."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    return event_of(named(_flat(value)), service=service, level=Level.INFO, now=now, zone=zone)


def _flat(value: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Dotted names and texts of a nested object, outer before inner, without nulls."""
    pairs: list[tuple[str, str]] = []
    for name, inner in value.items():
        if isinstance(inner, dict):
            pairs += _flat(inner, f"{prefix}{name}.")
        elif inner is not None:
            pairs.append((prefix + name, inner if isinstance(inner, str) else json.dumps(inner)))
    return pairs
