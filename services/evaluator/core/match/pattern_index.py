"""Answers the patterns of all rules on one field: one scan proposes texts, and what it leaves open is confirmed."""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from services.domain.regex import Regex
from services.evaluator.core.match.distinct import DistinctValues
from services.evaluator.core.match.events import Ints, RowMask
from services.evaluator.core.match.scanning import JoinedTexts, Matcher, Scanner
from services.evaluator.core.match.selection import Selection, compile_parts
from services.evaluator.core.match.terms import Matches
from services.rule_language.checking import Expression

# Up to so many texts are confirmed one by one; to confirm any number of them together has a price of its own.
_MAX_SINGLY = 50

# The number of a term, and what finds the positions of the values of which it is true.
Answer = tuple[int, Callable[[], Ints]]


class Pattern:
    """A pattern under the number of its term, with what confirms it; both are compiled when they are first needed."""

    def __init__(self, number: int, term: Matches, expression: Expression) -> None:
        self.number = number
        self.term = term
        self._expression = expression

    @functools.cached_property
    def _selection(self) -> Selection:
        return compile_parts([(self._expression, self.term.node)])

    @functools.cached_property
    def _matcher(self) -> Matcher:
        return Matcher(self.term.whole)

    def evaluate(self, values: DistinctValues) -> Ints:
        """Return the positions of all values that match."""
        return np.flatnonzero(self._selection(values.columns, None))

    def confirm(self, proposed: Ints, values: DistinctValues, texts: JoinedTexts) -> Ints:
        """Return those of the proposed positions whose texts match."""
        unsure = self._unsure(proposed, texts.special)
        if unsure is None:
            return self._confirm_exact(proposed, values, texts)
        sure = self._confirm_exact(proposed[~unsure], values, texts)
        return np.sort(np.concatenate([sure, self._confirm_node(proposed[unsure], values)]))

    def _unsure(self, proposed: Ints, special: RowMask | None) -> RowMask | None:
        """Return which of these texts only the node itself can confirm; None for none of them."""
        if not self.term.is_exact:
            return np.ones(len(proposed), dtype=np.bool_)
        if special is None or self.term.is_exact_with_newlines:
            return None
        return special[proposed]

    def _confirm_exact(self, proposed: Ints, values: DistinctValues, texts: JoinedTexts) -> Ints:
        if self.term.piece == self.term.whole:
            return proposed
        if len(proposed) > _MAX_SINGLY or not self._matcher.is_supported:
            return self._confirm_node(proposed, values)
        return proposed[self._matcher.match(texts, proposed)]

    def _confirm_node(self, proposed: Ints, values: DistinctValues) -> Ints:
        return proposed[self._selection(values.columns.take(proposed), None)] if len(proposed) else proposed


class PatternIndex:
    """All patterns on one field. One thread at a time may use it."""

    def __init__(self, patterns: Sequence[Pattern], before: Scanner | None = None) -> None:
        by_piece: dict[Regex, list[Pattern]] = {}
        for pattern in patterns:
            by_piece.setdefault(pattern.term.piece, []).append(pattern)
        self.scanner = _scanner(by_piece, before)
        self._patterns = [by_piece[piece] for piece in self.scanner.patterns]

    def answers(self, values: DistinctValues) -> list[Answer]:
        """Return what finds each pattern that may be in any value."""
        self.scanner.count(len(values.values))
        refused = self.scanner.refused
        unknown = [pattern for piece in refused for pattern in self._patterns[piece]]
        answers: list[Answer] = [(each.number, functools.partial(each.evaluate, values)) for each in unknown]
        if len(refused) < len(self._patterns):
            texts = JoinedTexts.of(values.values)
            answers += [
                (pattern.number, functools.partial(pattern.confirm, proposed, values, texts))
                for piece, proposed in self.scanner.scan(texts).items()
                for pattern in self._patterns[piece]
            ]
        return answers


def _scanner(pieces: dict[Regex, list[Pattern]], before: Scanner | None) -> Scanner:
    """Compile patterns, unless they are the ones of before."""
    if before is None:
        return Scanner(pieces)
    return before if pieces.keys() == set(before.patterns) else Scanner(pieces, before.frequent)
