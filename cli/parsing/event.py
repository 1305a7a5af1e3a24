"""One event that was parsed from a log file, or what is wrong with the line."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from services.domain.found_values import shortened
from services.domain.level import Level

# How much of a text is quoted.
_MAX_QUOTED = 40


class ParseNote(StrEnum):
    """What was not understood in an event, or was changed before sending; the values complete "events that …"."""

    NO_TIME = "have no time, and get that of the line before or of arrival"
    NO_LEVEL = "have no level that is understood, and are sent as INFO"
    UNKNOWN_LEVEL = "have an unknown level, and are sent as INFO"
    TRACE_ID_PADDED = "have a short traceId, which is padded with zeros"
    TRACE_ID_KEPT = "have an invalid traceId, which is kept as the attribute trace_id"
    STATUS_KEPT = "have an invalid statusCode, which is kept as the attribute status_code"
    DURATION_CONVERTED = "have a responseTime with a unit, which is converted to milliseconds"
    DURATION_KEPT = "have an invalid responseTime, which is kept as the attribute response_time"
    TEXT_CUT = "have a service, host, recordId or attribute that is too long, which is cut"
    TEXT_REPLACED = "have characters that are not valid Unicode, which are replaced"
    ATTRIBUTES_LEFT_OUT = "have too many attributes, of which the last are left out"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedEvent:
    """The fields of an event; times are aware UTC, durations are milliseconds, None means that the line has none."""

    level: Level
    message: str
    service: str = ""
    event_time: datetime | None = None
    # The line has a time that is not understood.
    time_is_unknown: bool = False
    status_code: int | None = None
    response_time: float | None = None
    host: str = ""
    trace_id: str = ""
    record_id: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    notes: frozenset[ParseNote] = frozenset()
    # What stands where the level should stand, when that is not known.
    unknown_level: str = ""
    # The texts that the event was made of, by the names that the parser gives them.
    raw: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class InvalidLine:
    """Why a line is not an event: a field, as the contract's JSON names it or "line", what was expected and found."""

    field: str
    expected: str
    found: str
    # What to do about it.
    hint: str = ""

    @property
    def reason(self) -> str:
        """Return the reason as the server words those of its refusals; what was found is quoted, and cut."""
        found = self.found.strip()
        return "; ".join(
            filter(None, (f'expected {self.expected}, found "{shortened(found, _MAX_QUOTED)}"', self.hint))
        )
