"""One event as it was read from a file, or what is wrong with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from services.domain.level import Level


class Note(StrEnum):
    """What was not understood of an event, or not sent as it stood."""

    NO_TIME = "say no time, and are sent with that of the line before or of arrival"
    NO_LEVEL = "say no level that is understood, and are sent as INFO"
    UNKNOWN_LEVEL = "say an unknown level, and are sent as INFO"
    TRACE_ID_PADDED = "have a shorter traceId, which is padded with zeros"
    TRACE_ID_KEPT = "have an odd traceId, which is kept as the attribute trace_id"
    STATUS_KEPT = "have an odd statusCode, which is kept as the attribute status_code"
    DURATION_CONVERTED = "have a responseTime with a unit, which is converted to milliseconds"
    DURATION_KEPT = "have an odd responseTime, which is kept as the attribute response_time"
    TEXT_CUT = "have a service, host, recordId or attribute that is too long, which is cut"
    TEXT_REPLACED = "hold characters that are no Unicode, which are replaced"
    ATTRIBUTES_LEFT_OUT = "have more attributes than are taken, of which the last are left out"


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
    # What is to be told of it, and of an unknown level also the word.
    notes: frozenset[Note] = frozenset()
    unknown_level: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Why a line is no event: a field, as the contract's JSON names it or "line", and what was expected of it."""

    field: str
    expected: str
