"""Sums of doubles that are kept exactly, so neither order nor grouping matters; a sum is rounded when it is read.

Almost every sum fits in two doubles, a high and a low one, whose exact sum it is. What does not fit is kept as an
integer.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from services.evaluator.core.match.events import Floats, Ints
from services.evaluator.core.window.code_index import grown

# Doubles are integer multiples of this power of two.
_SCALE_BITS = 1074
# Numbers of like size are nothing after two or three cuts; what is left after so many is added by itself.
_MAX_PARTS = 4
# So large a number cannot be cut.
_MAX_EXPONENT = 1020


class SumColumns(NamedTuple):
    """Sums as they are kept, from 1 on: high and low doubles, and the integers that two doubles cannot hold."""

    high: Floats
    # Not a number where the sum is kept as an integer.
    low: Floats
    # By the index of the sum.
    integers: Mapping[int, int]


class ExactSums:
    """A column of sums, zero at first. Changed in place."""

    def __init__(self, size: int = 0) -> None:
        self._high = np.zeros(size)
        # Not a number where the sum is kept as an integer.
        self._low = np.zeros(size)
        self._integers: dict[int, int] = {}

    @classmethod
    def of(cls, columns: SumColumns) -> "ExactSums":
        """Begin with these sums, from 1 on; sum 0 is zero."""
        sums = cls(1 + len(columns.high))
        sums._high[1:], sums._low[1:], sums._integers = columns.high, columns.low, dict(columns.integers)
        return sums

    def columns(self, size: int) -> SumColumns:
        """Return copies of the sums from 1 to before `size`."""
        return SumColumns(self._high[1:size].copy(), self._low[1:size].copy(), dict(self._integers))

    def grow(self, size: int) -> None:
        """Make room for so many sums."""
        self._high, self._low = grown(self._high, size, 0.0), grown(self._low, size, 0.0)

    def take(self, rows: Ints) -> "ExactSums":
        """Return the sums with these indexes, in this order."""
        taken = ExactSums()
        taken._high, taken._low = self._high[rows], self._low[rows]
        if self._integers:
            wide = np.flatnonzero(np.isnan(taken._low)).tolist()
            taken._integers = {place: self._integers[int(rows[place])] for place in wide}
        return taken

    def add(self, rows: Ints, numbers: Floats) -> None:
        """Add a number to each of some distinct sums. An infinite one counts as the largest double."""
        if not numbers.any():
            return
        if not np.isfinite(numbers).all():
            numbers = np.nan_to_num(numbers)
        with np.errstate(over="ignore", invalid="ignore"):
            high, rest = _two_sum(self._high[rows], numbers)
            low, lost = _two_sum(self._low[rows], rest)
            high, low = _two_sum(high, low)
            fits = (lost == 0.0) & np.isfinite(high)
        if not fits.all():
            self._add_to_integers(rows[~fits], numbers[~fits])
            rows, high, low = rows[fits], high[fits], low[fits]
        self._high[rows], self._low[rows] = high, low

    def add_all(self, rows: Ints, numbers: Floats, starts: Ints) -> None:
        """Add several numbers to each of some distinct sums: those from its start to before the next one's."""
        parts, rest = _part_sums(np.nan_to_num(numbers), starts)
        for part in parts:
            self.add(rows, part)
        if not rest.any():
            return
        for row, one_rest in zip(rows.tolist(), np.split(rest, starts[1:]), strict=True):
            for number in one_rest[one_rest != 0.0].tolist():
                self.add(np.array([row]), np.array([number]))

    def rounded(self) -> Floats:
        """Return the sums, each rounded once."""
        sums: Floats = self._high.copy()
        for row, scaled in self._integers.items():
            sums[row] = _unscaled(scaled)
        return sums

    def _add_to_integers(self, rows: Ints, numbers: Floats) -> None:
        for row, number in zip(rows.tolist(), numbers.tolist(), strict=True):
            scaled = self._integers.get(row)
            if scaled is None:
                scaled = _scaled(float(self._high[row])) + _scaled(float(self._low[row]))
            self._integers[row] = scaled + _scaled(number)
        self._high[rows], self._low[rows] = 0.0, np.nan


def _two_sum(one: Floats, other: Floats) -> tuple[Floats, Floats]:
    """Return the rounded sum of numbers and what rounding lost, exactly (Knuth)."""
    total = one + other
    of_other = total - one
    return total, (one - (total - of_other)) + (other - of_other)


def _part_sums(numbers: Floats, starts: Ints) -> tuple[list[Floats], Floats]:
    """Return columns of numbers of which each sum is, exactly, the sum of its numbers, and what is left of each number.

    Numbers are cut at a power of two such that what is above it adds up exactly in any order, then what is below it is
    cut again (as in Demmel and Nguyen, Fast Reproducible Floating-Point Summation, 2013).
    """
    parts: list[Floats] = []
    rest = numbers
    carry_bits = int(np.diff(starts, append=len(numbers)).max(initial=0)).bit_length()
    for _ in range(_MAX_PARTS):
        top = float(np.abs(rest).max(initial=0.0))
        top_bits = math.frexp(top)[1] + carry_bits
        if not top or top_bits >= _MAX_EXPONENT:
            break
        cut = math.ldexp(1.5, top_bits)
        above = (rest + cut) - cut
        parts.append(np.add.reduceat(above, starts))
        rest = rest - above
    return parts, rest


def _scaled(number: float) -> int:
    numerator, denominator = number.as_integer_ratio()
    return numerator << (_SCALE_BITS + 1 - denominator.bit_length())


def _unscaled(scaled: int) -> float:
    try:
        return scaled / (1 << _SCALE_BITS)
    except OverflowError:
        return float("inf") if scaled > 0 else float("-inf")
