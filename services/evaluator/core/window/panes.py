"""One group's numbers in one pane, merged from the blocks of all sources.

`Pane` holds what a rule selected. `TotalsPane` holds how many events a scope selected, shared by all rules that need to
know. A rule must not see totals of events from before it was known, because it has counted none of them. So the totals
of a block are kept by the revision of the rules that matched it, and a rule sums those that know its selection.
"""

import math
import sys
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from services.evaluator.core.records import MAX_SAMPLES, NOTHING, Group, Sample, Tally, later

# Doubles are whole multiples of this power of two, so their sums can be kept exactly, in any order, as integers.
_SCALE_BITS = 1074

_Number = TypeVar("_Number", int, float)


class Totals(NamedTuple):
    """Merged numbers; merging is exact, so neither order nor grouping matters."""

    counted: int = 0
    total: int = 0
    value_count: int = 0
    scaled_sum: int = 0
    min: float | None = None
    max: float | None = None
    last_event_ns: int | None = None

    @property
    def sum(self) -> float:
        """The sum of the values, rounded once."""
        return _unscaled(self.scaled_sum)

    def within(self, scope: Tally) -> "Totals":
        """Take over what the scope selected in all, where it is more than is known here."""
        return self._replace(
            total=max(self.total, scope.total), last_event_ns=_greatest(self.last_event_ns, scope.last_event_ns)
        )

    def plus(self, tally: Tally) -> "Totals":
        """Add the numbers of one block."""
        return Totals(
            self.counted + tally.counted,
            self.total + tally.total,
            self.value_count + tally.value_count,
            self.scaled_sum + _scaled(tally.sum) if tally.sum else self.scaled_sum,
            _least(self.min, tally.min),
            _greatest(self.max, tally.max),
            _greatest(self.last_event_ns, tally.last_event_ns),
        )


@dataclass(slots=True)
class Pane:
    """What is folded, and for each source the row of its block that may still grow. Changed in place."""

    folded: Totals = Totals()  # noqa: RUF009  (a named tuple cannot be changed)
    folded_samples: tuple[Sample, ...] = ()
    growing: dict[int, Tally] = field(default_factory=dict)

    def put(self, source: int, tally: Tally) -> None:
        """Replace the row of a source's current block."""
        self.growing[source] = tally

    def fold(self, source: int) -> None:
        """Add the row of a source's block for good: the block has ended."""
        tally = self.growing.pop(source, None)
        if tally is not None:
            self.folded = self.folded.plus(tally)
            self.folded_samples = _first(self.folded_samples, tally.samples)

    def totals(self) -> Totals:
        """Give the numbers of everything known."""
        totals = self.folded
        for tally in self.growing.values():
            totals = totals.plus(tally)
        return totals

    def samples(self) -> tuple[Sample, ...]:
        """Give the earliest events among the samples of all blocks."""
        samples = self.folded_samples
        for tally in self.growing.values():
            samples = _first(samples, tally.samples)
        return samples


def _scaled(number: float) -> int:
    if math.isinf(number):
        # The values were finite, their sum within one block was not: count the largest there is.
        number = math.copysign(sys.float_info.max, number)
    numerator, denominator = number.as_integer_ratio()
    return numerator << (_SCALE_BITS + 1 - denominator.bit_length())


def _unscaled(scaled: int) -> float:
    try:
        return scaled / (1 << _SCALE_BITS)
    except OverflowError:
        return float("inf") if scaled > 0 else float("-inf")


def _least(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else min(one, other)


def _greatest(one: _Number | None, other: _Number | None) -> _Number | None:
    return other if one is None else one if other is None else max(one, other)


def _first(ones: tuple[Sample, ...], others: tuple[Sample, ...]) -> tuple[Sample, ...]:
    if len(ones) == MAX_SAMPLES:
        others = tuple(sample for sample in others if sample.event_ns <= ones[-1].event_ns)
    return tuple(sorted((*ones, *others), key=_order)[:MAX_SAMPLES]) if others else ones


def _order(sample: Sample) -> tuple[int, list[str]]:
    return sample.event_ns, [str(part) for part in sample[1:]]


# A rule, in one form of what it selects.
Selection = tuple[str, int]


@dataclass(slots=True)
class TotalsPane:
    """One group's totals in one pane. Changed in place."""

    folded: dict[int, Tally] = field(default_factory=dict)
    # Of each source's current block: the revision of its rules, and its totals.
    growing: dict[int, tuple[int, Tally]] = field(default_factory=dict)
    # The rules that have selected something of the group, by what they select: these totals decide for them.
    selecting: dict[Selection, None] = field(default_factory=dict)

    def put(self, source: int, revision: int, tally: Tally) -> None:
        """Replace the totals of a source's current block."""
        self.growing[source] = revision, tally

    def fold(self, source: int) -> None:
        """Add the totals of a source's block for good: the block has ended."""
        if source in self.growing:
            revision, tally = self.growing.pop(source)
            self.folded[revision] = _added(self.folded.get(revision, NOTHING), tally)

    def since(self, revision: int) -> Tally | None:
        """Give the totals of all blocks that were matched by rules of this revision or a later one."""
        found = [tally for known, tally in (*self.folded.items(), *self.growing.values()) if known >= revision]
        return _summed(found) if found else None


@dataclass(slots=True)
class TotalsWindow:
    """All groups' totals of one window; `first_offset` is the oldest partial record that any of them needs."""

    first_offset: int
    panes: dict[Group, TotalsPane] = field(default_factory=dict)


@dataclass(slots=True)
class FrameTotals:
    """The totals of one frame, window by window. Changed in place."""

    windows: dict[int, TotalsWindow] = field(default_factory=dict)
    # Since when no rule asks for them.
    unclaimed_since_ns: int | None = None

    def pane(self, group: Group, start_ns: int, offset: int) -> TotalsPane:
        """Give the pane of a group, a new one if need be."""
        window = self.windows.get(start_ns)
        if window is None:
            window = self.windows[start_ns] = TotalsWindow(first_offset=offset)
        return window.panes.setdefault(group, TotalsPane())

    def existing_pane(self, group: Group, start_ns: int) -> TotalsPane | None:
        """Give the pane of a group, if there is one."""
        window = self.windows.get(start_ns)
        return window.panes.get(group) if window else None

    def close(self, open_from_ns: int) -> None:
        """Let go of the windows that start before this: all rules have closed them."""
        self.windows = {start_ns: window for start_ns, window in self.windows.items() if start_ns >= open_from_ns}


def _summed(tallies: list[Tally]) -> Tally:
    total = NOTHING
    for tally in tallies:
        total = _added(total, tally)
    return total


def _added(one: Tally, other: Tally) -> Tally:
    return NOTHING._replace(total=one.total + other.total, last_event_ns=later(one.last_event_ns, other.last_event_ns))
