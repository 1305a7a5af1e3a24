"""What is said of a refused event: what was expected of a field, and what was found there."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np

from services.ingest.core.batching import event_sizes
from services.ingest.core.columns import Columns, numbers_of
from services.ingest.core.event_checker import FailedCheck
from services.ingest.core.field_checks import EventField

# What was found instead of what is expected where only the reader knows, by the event's index and the field.
FoundValues = Mapping[tuple[int, EventField], str]

NOTHING: Final = "nothing"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def reason_of(failed: FailedCheck, events: Columns, found_values: FoundValues) -> str:
    """Return what was expected and what was found, as text for people; `events` are those that were checked.

    Columns do not show whether a string is empty or absent: both are nothing, unless `found_values` knows better.
    """
    found = found_values.get((failed.index, failed.field))
    return f"{failed.reason}, found {found or _FOUND[failed.field](events, failed.index)}"


def _service(events: Columns, index: int) -> str:
    characters = len(_value(events, EventField.SERVICE, index))
    return f"{characters} characters" if characters else NOTHING


def _message(events: Columns, index: int) -> str:
    size = len(_value(events, EventField.MESSAGE, index).encode())
    return f"{size} bytes" if size else NOTHING


def _level(events: Columns, index: int) -> str:
    level = _value(events, EventField.LEVEL, index)
    return str(level) if level else NOTHING


def _event_time(events: Columns, index: int) -> str:
    nanoseconds = int(numbers_of(events.column("event_time"), np.int64)[index])
    # What cannot be a time was read as one before 1970.
    if nanoseconds < 0:
        return "one before 1970, after 2261 or not valid"
    return (_EPOCH + timedelta(microseconds=nanoseconds // 1000)).isoformat().replace("+00:00", "Z")


def _event(events: Columns, index: int) -> str:
    return f"{event_sizes(events.slice(index, 1))[0]} bytes"


def _value(events: Columns, field: EventField, index: int) -> Any:
    return events.column(field.name.lower())[index].as_py()


# The fields that refuse an event.
_FOUND: Final[Mapping[EventField, Callable[[Columns, int], str]]] = {
    EventField.SERVICE: _service,
    EventField.MESSAGE: _message,
    EventField.LEVEL: _level,
    EventField.EVENT_TIME: _event_time,
    EventField.EVENT: _event,
}
