"""One event as it was read from a file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from services.domain.level import Level


@dataclass(frozen=True, slots=True, kw_only=True)
class LineEvent:
    """What a line says; times are aware UTC, durations milliseconds, and None means that the line does not say."""

    level: Level
    message: str
    service: str = ""
    event_time: datetime | None = None
    status_code: int | None = None
    response_time: float | None = None
    host: str = ""
    trace_id: str = ""
    record_id: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
