"""Answers the terms of all rules on one field: in which rows of a fetch is each of them true."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from services.evaluator.core.match.comparisons import find_compared
from services.evaluator.core.match.cpu_meter import CpuMeter
from services.evaluator.core.match.distinct import DistinctValues, distinct_values
from services.evaluator.core.match.events import EventColumns, Ints
from services.evaluator.core.match.pattern_index import Pattern, PatternIndex
from services.evaluator.core.match.scanning import Scanner
from services.evaluator.core.match.selection import Selection, compile_parts
from services.evaluator.core.match.terms import Compares, Differs, Equals, Field, Matches, Term
from services.rule_language.checking import Expression


@dataclass(frozen=True, slots=True)
class FieldMatches:
    """By their numbers, the rows of each term that is true in any row, and the terms that could not be evaluated."""

    rows: dict[int, Ints] = field(default_factory=dict)
    failed: dict[int, Exception] = field(default_factory=dict)


class FieldIndex:
    """All terms on one field, by their numbers. One thread at a time may use it."""

    def __init__(
        self, of: Field, terms: Mapping[int, tuple[Term, Expression]], before: "FieldIndex | None" = None
    ) -> None:
        self._field = of
        self._equal: dict[int | str, list[int]] = {}
        self._different: dict[int, Differs] = {}
        self._compared: dict[int, Compares] = {}
        self._tests: dict[int, Selection] = {}
        patterns: list[Pattern] = []
        for number, (term, expression) in terms.items():
            match term:
                case Equals(values=values):
                    for value in values:
                        self._equal.setdefault(value, []).append(number)
                case Differs():
                    self._different[number] = term
                case Compares():
                    self._compared[number] = term
                case Matches():
                    patterns.append(Pattern(number, term, expression))
                case _:
                    self._tests[number] = compile_parts([(expression, term.node)])
        self._patterns = PatternIndex(patterns, before.scanner if before else None)

    @property
    def scanner(self) -> Scanner:
        """What finds its patterns."""
        return self._patterns.scanner

    def match(
        self, columns: EventColumns, unneeded: frozenset[int] = frozenset(), meter: CpuMeter[int] | None = None
    ) -> FieldMatches:
        """Return where each term is true; of those that nobody needs only what costs nothing.

        What terms cost that are evaluated by themselves goes to the meter.
        """
        meter = meter or CpuMeter()
        values = distinct_values(columns, self._field)
        found = FieldMatches()
        for number, positions in (*self._find_equal(values), *find_compared(self._compared, values.values)):
            found.rows[number] = values.rows(positions)
        found.rows.update(self._find_different(values))
        for number, selection in self._tests.items():
            if number in unneeded:
                continue
            try:
                positions = meter.run(number, functools.partial(_evaluate, selection, values))
            except Exception as error:  # noqa: BLE001  (a term that fails must not stop the others)
                found.failed[number] = error
                continue
            if len(positions):
                found.rows[number] = values.rows(positions)
        patterns = self._patterns.match(values, unneeded, meter)
        found.rows.update((number, values.rows(positions)) for number, positions in patterns.positions.items())
        found.failed.update(patterns.failed)
        return found

    def _find_equal(self, values: DistinctValues) -> list[tuple[int, Ints]]:
        found: dict[int, list[int]] = {}
        listed: list[Any] = values.values.to_pylist() if self._equal else []
        for position, value in enumerate(listed):
            for number in self._equal.get(value, ()):
                found.setdefault(number, []).append(position)
        return [(number, np.array(positions)) for number, positions in found.items()]

    def _find_different(self, values: DistinctValues) -> dict[int, Ints]:
        """Return the rows of each term that excludes values; those that exclude none of these values share an array."""
        if not self._different:
            return {}
        listed: list[Any] = values.values.to_pylist()
        positions = {value: position for position, value in enumerate(listed) if value is not None}
        present = np.zeros(len(listed), dtype=np.bool_)
        present[list(positions.values())] = True
        found: dict[frozenset[int], Ints] = {}
        rows: dict[int, Ints] = {}
        for number, term in self._different.items():
            excluded = frozenset(positions[value] for value in term.values if value in positions)
            if excluded not in found:
                chosen = present.copy()
                chosen[list(excluded)] = False
                found[excluded] = values.rows(np.flatnonzero(chosen))
            rows[number] = found[excluded]
        return {number: of_term for number, of_term in rows.items() if len(of_term)}


def _evaluate(selection: Selection, values: DistinctValues) -> Ints:
    return np.flatnonzero(selection(values.columns, None))
