"""Which events of a batch are taken, and what is wrong with the others."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from services.ingest.core.checks import Demand, Field, demands, oddities
from services.ingest.core.columns import Columns, Mask, Numbers, any_of, outside
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
    odd: Mask | None
    """Which events have values to put right; None when none has."""

    @property
    def refused(self) -> Mask:
        """Which events are refused."""
        refused = np.zeros(self.count, dtype=np.bool_)
        for _, rows in self.missed:
            refused |= rows
        return refused

    @property
    def to_adjust(self) -> list[int]:
        """The events that are taken once their odd values are put right, by rising index."""
        rows: list[int] = [] if self.odd is None else np.flatnonzero(self.odd & ~self.refused).tolist()
        return rows

    def without(self, demand: Demand, rows: Mask) -> "Verdict":
        """Refuse some events for one demand alone: whatever else they miss follows from it."""
        others = ((each, missed & ~rows) for each, missed in self.missed)
        return replace(self, missed=((demand, rows), *((each, missed) for each, missed in others if missed.any())))

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


# What stands where something else is expected, by the event's place and the field.
Findings = Mapping[tuple[int, Field], str]


def reason(fault: Fault, findings: Findings) -> str:
    """Say what was expected and, where that is known, what was found."""
    found = findings.get((fault.index, fault.field))
    return f"{fault.reason}, found {found}" if found else fault.reason


class Judge:
    """Judges batches by the given limits."""

    def __init__(self, limits: Limits) -> None:
        self._demands = tuple((demand.field.name.lower(), demand, wrong) for demand, wrong in demands(limits))
        self._oddities = tuple((field.name.lower(), wrong) for field, wrong in oddities(limits))
        self._max_event_bytes = limits.max_record_bytes
        self._size = Demand(Field.EVENT, f"at most {limits.max_record_bytes} bytes in all")

    def judge(self, columns: Columns, now: datetime) -> Verdict:
        """Judge events by their fields."""
        missed = tuple(
            (demand, rows)
            for name, demand, wrong in self._demands
            if (rows := _some(wrong(columns[name], now))) is not None
        )
        odd = any_of(*[_some(wrong(columns[name], now)) for name, wrong in self._oddities])
        return Verdict(count=len(columns["level"]), missed=missed, odd=odd)

    def weigh(self, verdict: Verdict, sizes: Numbers) -> Verdict:
        """Judge the same events by their framed sizes on the wire, once their odd values are put right.

        Fields that the contract does not know have no check of their own, but they have a size.
        """
        rows = outside(sizes, 0, self._max_event_bytes)
        return verdict if rows is None else replace(verdict, missed=(*verdict.missed, (self._size, rows)))


def _some(rows: Mask | None) -> Mask | None:
    """None where a closer look has cleared all that looked wrong at first."""
    return rows if rows is not None and rows.any() else None
