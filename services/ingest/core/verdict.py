"""Which events of a batch are taken, and what is wrong with the others."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from services.ingest.core.checks import Demand, Field, checks_for
from services.ingest.core.columns import Columns, Mask, Numbers, outside
from services.ingest.core.limits import Limits


@dataclass(frozen=True, slots=True)
class Fault:
    """One demand that one event misses."""

    index: int
    demand: Demand

    @property
    def field(self) -> Field:
        """Which field is wrong."""
        return self.demand.field

    @property
    def reason(self) -> str:
        """What was expected there."""
        return f"expected {self.demand.expected}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome for `count` events; `missed` holds only those demands that at least one event misses."""

    count: int
    missed: tuple[tuple[Demand, Mask], ...]

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
            yield Fault(index, self.missed[first[index]][0])

    def faults(self) -> Iterator[Fault]:
        """Everything that is wrong, by rising index, then in the contract's order."""
        for index in np.flatnonzero(self.refused).tolist():
            for demand, rows in self.missed:
                if rows[index]:
                    yield Fault(index, demand)


class Judge:
    """Judges batches by the given limits."""

    def __init__(self, limits: Limits) -> None:
        self._checks = tuple((demand.field.name.lower(), demand, wrong) for demand, wrong in checks_for(limits))
        self._max_event_bytes = limits.max_record_bytes
        self._size = Demand(Field.EVENT, f"at most {limits.max_record_bytes} bytes in all")

    def judge(self, columns: Columns, sizes: Numbers, now: datetime) -> Verdict:
        """Judge events that lie on the wire with the given framed sizes, in the same order."""
        missed = []
        for name, demand, wrong in self._checks:
            rows = wrong(columns[name], now)
            # A closer look may clear what looked wrong at first.
            if rows is not None and rows.any():
                missed.append((demand, rows))
        # Fields that the contract does not know have no check of their own, but they have a size.
        rows = outside(sizes, 0, self._max_event_bytes)
        if rows is not None:
            missed.append((self._size, rows))
        return Verdict(count=len(sizes), missed=tuple(missed))
