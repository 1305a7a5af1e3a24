"""Answers the patterns of all rules on one field: one scan proposes texts, and what it leaves open is confirmed."""

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from services.domain.hyperscan_patterns import Piece
from services.domain.regex import Regex
from services.evaluator.core.match.confirming import Lookups, Search, confirm_lookups, runs
from services.evaluator.core.match.cpu_meter import CpuMeter
from services.evaluator.core.match.distinct import DistinctValues
from services.evaluator.core.match.events import Ints, RowMask
from services.evaluator.core.match.scanning import JoinedTexts, Scanner
from services.evaluator.core.match.selection import Selection, compile_parts
from services.evaluator.core.match.terms import Matches
from services.rule_language.checking import Expression

# Up to so many characters, each that is given makes a text with them half as likely.
_MAX_FIXED = 8
# Stands for the number of a search where none is needed.
_NO_SEARCH = -1

_ResultT = TypeVar("_ResultT")


class Pattern:
    """A pattern under the number of its term; its node is compiled when it is first needed."""

    def __init__(self, number: int, term: Matches, expression: Expression) -> None:
        self.number = number
        self.term = term
        self._expression = expression

    @functools.cached_property
    def _selection(self) -> Selection:
        return compile_parts([(self._expression, self.term.node)])

    def evaluate(self, values: DistinctValues) -> Ints:
        """Return the positions of all values that match."""
        return np.flatnonzero(self._selection(values.columns, None))

    def evaluate_some(self, values: DistinctValues, positions: Ints) -> RowMask:
        """Return which of the values at these positions match."""
        return self._selection(values.columns.take(positions), None)


@dataclass(frozen=True, slots=True)
class PatternMatches:
    """By the numbers of their terms, where patterns are found, and those that could not be evaluated."""

    meter: CpuMeter[int]
    positions: dict[int, Ints] = field(default_factory=dict)
    failed: dict[int, Exception] = field(default_factory=dict)

    def run(self, numbers: Iterable[int], work: Callable[[], _ResultT]) -> _ResultT | None:
        """Do a piece of work for these patterns; None if it fails."""
        try:
            return self.meter.run_for(numbers, work)
        except Exception as error:  # noqa: BLE001  (a pattern that fails must not stop the others)
            self.failed.update(dict.fromkeys(numbers, error))
            return None


@dataclass(frozen=True, slots=True, eq=False)
class _Pairs:
    """Each pattern that a scan proposes with each of its texts, and where its piece ends first. The patterns rise."""

    patterns: Ints
    texts: Ints
    ends: Ints

    def __getitem__(self, chosen: Ints | RowMask) -> "_Pairs":
        """Return some of them."""
        return _Pairs(self.patterns[chosen], self.texts[chosen], self.ends[chosen])


class PatternIndex:
    """All patterns on one field. One thread at a time may use it."""

    def __init__(self, patterns: Sequence[Pattern], before: Scanner | None = None) -> None:
        by_piece = _choose_pieces(patterns)
        self.scanner = _scanner(by_piece, before)
        of_pieces = [by_piece[tree] for tree in self.scanner.patterns]
        # The patterns of each piece, one piece after the other.
        chosen = [each for of_piece in of_pieces for each in of_piece]
        self._patterns = [pattern for pattern, _ in chosen]
        self._counts = np.array([len(of_piece) for of_piece in of_pieces], dtype=np.int64)
        self._starts = np.cumsum(self._counts) - self._counts
        terms = [pattern.term for pattern in self._patterns]
        self._numbers = np.array([pattern.number for pattern in self._patterns], dtype=np.int64)
        self._is_exact = np.array([term.is_exact for term in terms], dtype=np.bool_)
        self._is_exact_with_newlines = np.array([term.is_exact_with_newlines for term in terms], dtype=np.bool_)
        # What confirms each pattern, and whether it has to be behind the piece.
        searches: dict[Regex | None, int] = {None: _NO_SEARCH}
        self._search = np.array(
            [searches.setdefault(_confirming(pattern, piece), len(searches) - 1) for pattern, piece in chosen],
            dtype=np.int64,
        )
        self._searches = [Search(tree) for tree in searches if tree is not None]
        self._is_behind = np.array([piece.rest is not None for _, piece in chosen], dtype=np.bool_)

    def match(self, values: DistinctValues, unneeded: frozenset[int], meter: CpuMeter[int]) -> PatternMatches:
        """Return where each pattern is that somebody needs."""
        self.scanner.count(len(values.values))
        found = PatternMatches(meter)
        refused = sorted(self.scanner.refused)
        for pattern in (self._patterns[place] for piece in refused for place in self._of_piece(piece)):
            if pattern.number not in unneeded:
                positions = found.run([pattern.number], functools.partial(pattern.evaluate, values))
                if positions is not None and len(positions):
                    found.positions[pattern.number] = positions
        if len(refused) < len(self._counts):
            self._confirm(values, unneeded, found)
        return found

    def _of_piece(self, piece: int) -> range:
        return range(self._starts[piece], self._starts[piece] + self._counts[piece])

    def _confirm(self, values: DistinctValues, unneeded: frozenset[int], found: PatternMatches) -> None:
        """Add where the patterns are that a scan finds."""
        texts = JoinedTexts.of(values.values)
        pairs = self._propose(texts)
        if not len(pairs.patterns):
            return
        if unneeded:
            pairs = pairs[~np.isin(self._numbers, list(unneeded))[pairs.patterns]]
        is_sure = self._is_exact[pairs.patterns]
        if texts.special is not None:
            is_sure &= self._is_exact_with_newlines[pairs.patterns] | ~texts.special[pairs.texts]
        matches = is_sure & (self._search[pairs.patterns] == _NO_SEARCH)
        searched = is_sure & ~matches
        if searched.any():
            matches[searched] = self._search_for(pairs[searched], texts, found)
        if not is_sure.all():
            matches[~is_sure] = self._evaluate(pairs[~is_sure], values, found)
        pairs = pairs[matches]
        numbers = self._numbers[pairs.patterns].tolist()
        for low, high in runs(pairs.patterns):
            found.positions[numbers[low]] = pairs.texts[low:high]

    def _propose(self, texts: JoinedTexts) -> _Pairs:
        proposals = self.scanner.scan(texts)
        if len(self._patterns) == len(self._counts):
            return _Pairs(proposals.patterns, proposals.texts, proposals.ends)
        counts = self._counts[proposals.patterns]
        index = np.repeat(np.arange(len(counts)), counts)
        place = np.arange(len(index)) - (np.cumsum(counts) - counts)[index]
        pairs = _Pairs(self._starts[proposals.patterns][index] + place, proposals.texts[index], proposals.ends[index])
        return pairs[np.argsort(pairs.patterns, kind="stable")] if len(index) > len(counts) else pairs

    def _search_for(self, pairs: _Pairs, texts: JoinedTexts, found: PatternMatches) -> RowMask:
        """Return in which pairs what has to be in the text besides the piece is there."""
        searches = self._search[pairs.patterns]
        order = np.argsort(searches, kind="stable")
        pairs = pairs[order]
        numbers = self._numbers[pairs.patterns]
        starts = np.where(self._is_behind[pairs.patterns], pairs.ends, texts.starts[pairs.texts])
        matches = np.empty(len(order), dtype=np.bool_)
        matches[order] = confirm_lookups(
            Lookups(searches[order], pairs.texts, starts),
            texts,
            self._searches,
            lambda part, work: found.run(numbers[part].tolist(), work),
        )
        return matches

    def _evaluate(self, pairs: _Pairs, values: DistinctValues, found: PatternMatches) -> RowMask:
        """Return which pairs match, by their nodes."""
        matches = np.zeros(len(pairs.patterns), dtype=np.bool_)
        for low, high in runs(pairs.patterns):
            pattern = self._patterns[pairs.patterns[low]]
            mask = found.run([pattern.number], functools.partial(pattern.evaluate_some, values, pairs.texts[low:high]))
            matches[low:high] = False if mask is None else mask
        return matches


def _confirming(pattern: Pattern, piece: Piece) -> Regex | None:
    """Return what has to be looked for where a piece is; None if the piece is all."""
    return None if piece.is_all else piece.rest or pattern.term.whole


def _choose_pieces(patterns: Sequence[Pattern]) -> dict[Regex, list[tuple[Pattern, Piece]]]:
    """Return what to look for, each with the patterns that it proposes.

    Of each pattern it is the piece that will propose the fewest texts for the fewest patterns: rules made from one
    template differ in a part of their patterns only.
    """
    sharers = Counter(tree for pattern in patterns for tree in {piece.tree for piece in pattern.term.pieces})

    def cost(piece: Piece) -> tuple[float, int]:
        return sharers[piece.tree] / 2 ** min(piece.fixed_length, _MAX_FIXED), -piece.fixed_length

    chosen: dict[Regex, list[tuple[Pattern, Piece]]] = {}
    for pattern in patterns:
        piece = min(pattern.term.pieces, key=cost)
        chosen.setdefault(piece.tree, []).append((pattern, piece))
    return chosen


def _scanner(pieces: Iterable[Regex], before: Scanner | None) -> Scanner:
    """Compile patterns, unless they are the ones of before."""
    if before is None:
        return Scanner(pieces)
    return before if set(pieces) == set(before.patterns) else Scanner(pieces, before.frequent)
