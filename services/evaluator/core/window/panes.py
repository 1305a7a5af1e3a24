"""One group's numbers in one pane, merged from the blocks of all sources.

`Pane` holds what a rule selected. `ScopePane` holds how many events a scope selected, shared by all rules that need to
know. A rule must not see totals of events from before it was known, because it has counted none of them. So the totals
of a block are kept by the revision of the rules that matched it, and a rule sums those that know its selection.
"""

import functools
import math
import sys
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from services.evaluator.core.records import EMPTY_AGGREGATE, MAX_SAMPLES, Aggregate, Group, Sample, later
from services.evaluator.core.rules import SelectionKey

# Doubles are integer multiples of this power of two, so their sums can be kept exactly, in any order, as integers.
_SCALE_BITS = 1074

_Number = TypeVar("_Number", int, float)


class MergedAggregate(NamedTuple):
    """Aggregates of several blocks, merged exactly, so neither order nor grouping matters."""

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

    def with_scope(self, scope: Aggregate) -> "MergedAggregate":
        """Take over how many events the scope selected, where that is more than is known here."""
        return self._replace(
            total=max(self.total, scope.total), last_event_ns=_greatest(self.last_event_ns, scope.last_event_ns)
        )

    def plus(self, aggregate: Aggregate) -> "MergedAggregate":
        """Add the aggregate of one block."""
        return MergedAggregate(
            self.counted + aggregate.counted,
            self.total + aggregate.total,
            self.value_count + aggregate.value_count,
            self.scaled_sum + _scaled(aggregate.sum) if aggregate.sum else self.scaled_sum,
            _least(self.min, aggregate.min),
            _greatest(self.max, aggregate.max),
            _greatest(self.last_event_ns, aggregate.last_event_ns),
        )


@dataclass(slots=True)
class Pane:
    """One group in one window: what is folded, and of each source the row that may still grow. Changed in place."""

    folded: MergedAggregate = MergedAggregate()  # noqa: RUF009  (a named tuple cannot be changed)
    folded_samples: tuple[Sample, ...] = ()
    growing: dict[int, Aggregate] = field(default_factory=dict)

    def replace(self, source: int, aggregate: Aggregate) -> None:
        """Replace the row of a source's current block."""
        self.growing[source] = aggregate

    def fold(self, source: int) -> None:
        """Add the row of a source's block for good: the block has ended."""
        aggregate = self.growing.pop(source, None)
        if aggregate is not None:
            self.folded = self.folded.plus(aggregate)
            self.folded_samples = _earliest(self.folded_samples, aggregate.samples)

    def merged(self) -> MergedAggregate:
        """Return the aggregate of all blocks."""
        merged = self.folded
        for aggregate in self.growing.values():
            merged = merged.plus(aggregate)
        return merged

    def samples(self) -> tuple[Sample, ...]:
        """Return the earliest events among the samples of all blocks."""
        samples = self.folded_samples
        for aggregate in self.growing.values():
            samples = _earliest(samples, aggregate.samples)
        return samples


def _scaled(number: float) -> int:
    if math.isinf(number):
        # The values were finite, their sum within one block was not: take the largest double.
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


def _earliest(ones: tuple[Sample, ...], others: tuple[Sample, ...]) -> tuple[Sample, ...]:
    if len(ones) == MAX_SAMPLES:
        others = tuple(sample for sample in others if sample.event_ns <= ones[-1].event_ns)
    return tuple(sorted((*ones, *others), key=_sample_order)[:MAX_SAMPLES]) if others else ones


def _sample_order(sample: Sample) -> tuple[int, list[str]]:
    return sample.event_ns, [str(part) for part in sample[1:]]


@dataclass(slots=True)
class ScopePane:
    """One group's totals in one pane. Changed in place."""

    folded: dict[int, Aggregate] = field(default_factory=dict)
    # By source, of its current block: the revision of the rules that matched it, and its totals.
    growing: dict[int, tuple[int, Aggregate]] = field(default_factory=dict)
    # The selections that have selected something of the group: these totals decide for them.
    selecting: dict[SelectionKey, None] = field(default_factory=dict)

    def replace(self, source: int, revision: int, aggregate: Aggregate) -> None:
        """Replace the totals of a source's current block."""
        self.growing[source] = revision, aggregate

    def fold(self, source: int) -> None:
        """Add the totals of a source's block for good: the block has ended."""
        if source in self.growing:
            revision, aggregate = self.growing.pop(source)
            self.folded[revision] = _add_totals(self.folded.get(revision, EMPTY_AGGREGATE), aggregate)

    def since(self, revision: int) -> Aggregate | None:
        """Return the totals of all blocks that were matched by rules of this revision or a later one."""
        all_totals = (*self.folded.items(), *self.growing.values())
        counted = [totals for matched_by, totals in all_totals if matched_by >= revision]
        return functools.reduce(_add_totals, counted) if counted else None


@dataclass(slots=True)
class ScopeWindow:
    """All groups' totals of one window; `first_offset` is the oldest partial record that any of them needs."""

    first_offset: int
    panes: dict[Group, ScopePane] = field(default_factory=dict)


@dataclass(slots=True)
class ScopeTotals:
    """The totals of one bucketing, window by window. Changed in place."""

    windows: dict[int, ScopeWindow] = field(default_factory=dict)
    # Since when no rule reads them.
    unused_since_ns: int | None = None

    def pane(self, group: Group, start_ns: int, offset: int) -> ScopePane:
        """Return the pane of a group, a new one if there is none."""
        window = self.windows.get(start_ns)
        if window is None:
            window = self.windows[start_ns] = ScopeWindow(first_offset=offset)
        return window.panes.setdefault(group, ScopePane())

    def existing_pane(self, group: Group, start_ns: int) -> ScopePane | None:
        """Return the pane of a group, if there is one."""
        window = self.windows.get(start_ns)
        return window.panes.get(group) if window else None

    def close(self, open_from_ns: int) -> None:
        """Drop the windows that start before this: all rules have closed them."""
        self.windows = {start_ns: window for start_ns, window in self.windows.items() if start_ns >= open_from_ns}


def _add_totals(one: Aggregate, other: Aggregate) -> Aggregate:
    return EMPTY_AGGREGATE._replace(
        total=one.total + other.total, last_event_ns=later(one.last_event_ns, other.last_event_ns)
    )
