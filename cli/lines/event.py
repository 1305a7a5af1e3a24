"""One event as it was read from a file, or what is wrong with it."""

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
    # It says a time that is not understood.
    time_is_unknown: bool = False
    status_code: int | None = None
    response_time: float | None = None
    host: str = ""
    trace_id: str = ""
    record_id: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Why a line is no event: a field, as the contract's JSON names it or "line", and what was expected of it."""

    field: str
    expected: str
