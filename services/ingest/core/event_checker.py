"""Which events of a batch are accepted, and what is wrong with the others."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from services.ingest.core.batching import event_sizes, is_within
from services.ingest.core.columns import Columns, Mask, Offsets, above, any_of, rows_of
from services.ingest.core.field_checks import EventField, Limits, Requirement, optional_checks, required_checks

# Fields stand in the order of the proto, and so do columns: to look a column up by its name takes four times as long.
_PLACES = {field: place for place, field in enumerate(EventField)}


@dataclass(frozen=True, slots=True)
class FailedCheck:
    """One requirement that one event does not meet."""

    index: int
    requirement: Requirement

    @property
    def field(self) -> EventField:
        """The field that is wrong."""
        return self.requirement.field

    @property
    def reason(self) -> str:
        """What was expected there, as a sentence for people."""
        return f"expected {self.requirement.expected}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """The outcome for `event_count` events; `failed` has only requirements that at least one event does not meet."""

    event_count: int
    failed: tuple[tuple[Requirement, Mask], ...]
    adjustable: Mask | None
    """Which events have values to adjust; None when none has."""

    @property
    def refused(self) -> Mask:
        """Which events are refused."""
        refused = np.zeros(self.event_count, dtype=np.bool_)
        for _, rows in self.failed:
            refused |= rows
        return refused

    def clean_calls(self, offsets: Offsets, max_events: int) -> Mask:
        """Mark the calls that have 1 to `max_events` events, all accepted as they are.

        The events are those of several calls: call i has those from offsets[i] to offsets[i + 1].
        """
        counts = offsets[1:] - offsets[:-1]
        is_clean: Mask = (counts >= 1) & (counts <= max_events)
        if self.failed or self.adjustable is not None:
            found = self.refused if self.adjustable is None else self.refused | self.adjustable
            is_clean &= ~rows_of(found, offsets)
        return is_clean

    @property
    def to_adjust(self) -> list[int]:
        """The events that are accepted once some of their values are adjusted, by rising index."""
        rows: list[int] = [] if self.adjustable is None else np.flatnonzero(self.adjustable & ~self.refused).tolist()
        return rows

    def with_only(self, requirement: Requirement, rows: Mask) -> "CheckResult":
        """Refuse some events for one requirement alone: whatever else is wrong with them follows from it."""
        others = ((each, failed & ~rows) for each, failed in self.failed)
        failed = (requirement, rows), *((each, failed) for each, failed in others if failed.any())
        return replace(self, failed=failed)

    def first_failed_checks(self) -> Iterator[FailedCheck]:
        """Yield each refused event once, by rising index, with the first field of the proto that is wrong."""
        if not self.failed:
            return
        table = np.stack([rows for _, rows in self.failed])
        first = table.argmax(axis=0).tolist()
        for index in np.flatnonzero(table.any(axis=0)).tolist():
            yield FailedCheck(index, self.failed[first[index]][0])

    def failed_checks(self) -> Iterator[FailedCheck]:
        """Yield everything that is wrong, by rising index, then in the order of the proto's fields."""
        for index in np.flatnonzero(self.refused).tolist():
            for requirement, rows in self.failed:
                if rows[index]:
                    yield FailedCheck(index, requirement)


class EventChecker:
    """Checks batches against the given limits."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._required = tuple(
            (_PLACES[requirement.field], requirement, check) for requirement, check in required_checks(limits)
        )
        self._optional = tuple((_PLACES[field], check) for field, check in optional_checks(limits))
        self._size = Requirement(EventField.EVENT, f"at most {limits.max_record_bytes} bytes in all")

    def check(self, columns: Columns, now: datetime) -> CheckResult:
        """Check events by their fields."""
        failed = tuple(
            (requirement, rows)
            for place, requirement, check in self._required
            if (rows := _rows_or_none(check(columns.column(place), now))) is not None
        )
        adjustable = any_of(*[_rows_or_none(check(columns.column(place), now)) for place, check in self._optional])
        return CheckResult(event_count=columns.num_rows, failed=failed, adjustable=adjustable)

    def check_sizes(self, result: CheckResult, events: Columns) -> CheckResult:
        """Check the same events by their sizes, once their values are adjusted."""
        max_bytes = self.limits.max_record_bytes
        rows = None if is_within(events, max_bytes) else above(event_sizes(events), max_bytes)
        return result if rows is None else replace(result, failed=(*result.failed, (self._size, rows)))


def _rows_or_none(rows: Mask | None) -> Mask | None:
    """Return None where no row is marked after all."""
    return rows if rows is not None and rows.any() else None
