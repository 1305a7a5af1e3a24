"""Which events of a batch are taken, and what is wrong with the others."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from services.ingest.core.checks import Check, Field, checks_for
from services.ingest.core.columns import Columns, Mask, Numbers, outside
from services.ingest.core.limits import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong with one event: which field, and what was expected there."""

    index: int
    field: Field
    expected: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome for `count` events; `missed` holds only those demands that at least one event misses."""

    count: int
    missed: tuple[tuple[Check, Mask], ...]

    @property
    def refused(self) -> Mask:
        """Which events are refused."""
        refused = np.zeros(self.count, dtype=np.bool_)
        for _, rows in self.missed:
            refused |= rows
        return refused

    def first_faults(self) -> Iterator[Fault]:
        """Each refused event once, by rising index, with the first field of the contract that is wrong."""
        if not self.missed:
            return
        table = np.stack([rows for _, rows in self.missed])
        first = table.argmax(axis=0).tolist()
        for index in np.flatnonzero(table.any(axis=0)).tolist():
            check = self.missed[first[index]][0]
            yield Fault(index=index, field=check.field, expected=check.expected)

    def faults(self) -> Iterator[Fault]:
        """Everything that is wrong, by rising index, then in the contract's order."""
        for index in np.flatnonzero(self.refused).tolist():
            for check, rows in self.missed:
                if rows[index]:
                    yield Fault(index=index, field=check.field, expected=check.expected)


class Judge:
    """Judges batches by the given limits."""

    def __init__(self, limits: Limits) -> None:
        self._checks = tuple((check.field.name.lower(), check) for check in checks_for(limits))
        self._max_event_bytes = limits.max_record_bytes
        self._whole = Check(
            field=Field.EVENT, expected=f"an event of at most {limits.max_record_bytes} bytes in all", wrong=_never
        )

    def judge(self, columns: Columns, sizes: Numbers, now: datetime) -> Verdict:
        """Judge events that lie on the wire with the given framed sizes, in the same order."""
        missed = []
        for name, check in self._checks:
            rows = check.wrong(columns[name], now)
            # A closer look may clear what looked wrong at first.
            if rows is not None and rows.any():
                missed.append((check, rows))
        # Fields that the contract does not know have no check of their own, but they have a size.
        rows = outside(sizes, 0, self._max_event_bytes)
        if rows is not None:
            missed.append((self._whole, rows))
        return Verdict(count=len(sizes), missed=tuple(missed))


def _never(_column: object, _now: datetime) -> None:
    return None
