"""Which events a filter or scope selects.

An expression is taken apart at its &&, ||, ! and ?: into tests. Each test answers true, false or absent; only "where is
it true" and "where is it false" are ever asked, so that masks of two values are enough, and a test is asked only about
the rows that are still open, the cheapest test first.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from services.evaluator.core.columns import Columns, Mask, mask_of
from services.evaluator.core.lowering import Lowered, lower
from services.rule_language.checking import Expression
from services.rule_language.tree import Attribute, Call, Field, HasAttribute, Kind, Node, names, walk

# Says which of the given rows (all, when None) are selected. The answer may be the mask that was given: do not write
# into either.
Selection = Callable[[Columns, Mask | None], Mask]
_Plan = Callable[[Columns, Mask], Mask]

# What a test costs, roughly in nanoseconds an event.
_NUMBERS, _TEXTS, _ATTRIBUTES, _SCANS, _ROW_BY_ROW = 5, 10, 60, 200, 9000
# Tests from here on are asked only about the rows that are open, when these are less than half.
_COSTLY = _ATTRIBUTES


def selection(expression: Expression | None) -> Selection:
    """What selects the events for which the expression is true; None selects all."""
    if expression is None:
        return _everything
    _, plan = _planned(expression, expression.tree, wanted=True)
    return lambda columns, among: plan(columns, _everything(columns, among))


def _everything(columns: Columns, among: Mask | None) -> Mask:
    return np.ones(len(columns), dtype=np.bool_) if among is None else among


def _planned(expression: Expression, node: Node, *, wanted: bool) -> tuple[int, _Plan]:
    """What finds the rows in which the node has the wanted answer, and its cost."""
    match node:
        case Call(function="!", arguments=(inner,)):
            return _planned(expression, inner, wanted=not wanted)
        case Call(function="&&" | "||" as function, arguments=arguments):
            parts = [_planned(expression, argument, wanted=wanted) for argument in arguments]
            return _all(parts) if (function == "&&") is wanted else _any(parts)
        case Call(function="?:", arguments=(condition, then, otherwise)):
            chosen = [
                _all([_planned(expression, condition, wanted=answer), _planned(expression, branch, wanted=wanted)])
                for answer, branch in ((True, then), (False, otherwise))
            ]
            return _any(chosen)
        case _:
            return _test(expression, node, wanted=wanted)


def _all(parts: Sequence[tuple[int, _Plan]]) -> tuple[int, _Plan]:
    ordered = sorted(parts, key=lambda part: part[0])

    def plan(columns: Columns, among: Mask) -> Mask:
        for _, part in ordered:
            if not among.any():
                break
            among = part(columns, among)
        return among

    return ordered[-1][0], plan


def _any(parts: Sequence[tuple[int, _Plan]]) -> tuple[int, _Plan]:
    ordered = sorted(parts, key=lambda part: part[0])

    def plan(columns: Columns, among: Mask) -> Mask:
        found = np.zeros(len(columns), dtype=np.bool_)
        for _, part in ordered:
            found |= part(columns, among & ~found)
        return found

    return ordered[-1][0], plan


def _test(expression: Expression, node: Node, *, wanted: bool) -> tuple[int, _Plan]:
    by_row = functools.partial(_row_by_row, _Part(expression, node), wanted=wanted)
    lowered = lower(node)
    if lowered is None:
        return _ROW_BY_ROW, by_row

    def ask(columns: Columns, among: Mask) -> Mask:
        try:
            return _answers(node, lowered, columns, wanted=wanted) & among
        except pa.ArrowInvalid:
            # A row of these goes beyond what whole numbers can hold: CEL says what that means.
            return by_row(columns, among)

    cost, needed = _cost(node), sorted(names(node))
    return cost, (_narrowed(ask, needed) if needed and cost >= _COSTLY else ask)


class _Part:
    """A test as an expression of its own, made when CEL is asked for the first time."""

    def __init__(self, expression: Expression, node: Node) -> None:
        self._expression = expression
        self._node = node

    @functools.cached_property
    def expression(self) -> Expression:
        return self._expression.part(self._node)


def _answers(node: Node, lowered: Lowered, columns: Columns, *, wanted: bool) -> Mask:
    answers: Mask = columns.remembered((node, wanted), lambda: _computed(lowered, columns, wanted=wanted))
    return answers


def _computed(lowered: Lowered, columns: Columns, *, wanted: bool) -> Mask:
    answers = lowered(columns)
    if isinstance(answers, pa.Scalar):
        return np.full(len(columns), answers.as_py() is wanted, dtype=np.bool_)
    return mask_of(answers, wanted=wanted)


def _narrowed(ask: _Plan, names: Sequence[str]) -> _Plan:
    """Ask about the open rows only, when leaving out the others is worth copying."""

    def plan(columns: Columns, among: Mask) -> Mask:
        rows = np.flatnonzero(among)
        if 2 * len(rows) > len(columns):
            return ask(columns, among)
        found = np.zeros(len(columns), dtype=np.bool_)
        found[rows] = ask(columns.take(rows, names), np.ones(len(rows), dtype=np.bool_))
        return found

    return plan


def _row_by_row(part: _Part, columns: Columns, among: Mask, *, wanted: bool) -> Mask:
    rows = np.flatnonzero(among)
    found = np.zeros(len(columns), dtype=np.bool_)
    expression = part.expression
    needed = sorted(expression.names)
    events = columns.take(rows, needed).batch.to_pylist() if needed else [{} for _ in rows]
    found[rows] = [expression.evaluate(_present(event)) is wanted for event in events]
    return found


def _present(event: dict[str, object]) -> dict[str, object]:
    """An event as CEL takes it: without what is absent, attributes as a map."""
    return {
        name: dict(value) if isinstance(value, list) else value for name, value in event.items() if value is not None
    }


def _cost(node: Node) -> int:
    return max(_own_cost(one) for one in walk(node))


def _own_cost(node: Node) -> int:
    match node:
        case Call(function="matches" | "contains" | "size"):
            return _SCANS
        case Attribute() | HasAttribute():
            return _ATTRIBUTES
        case Field(kind=Kind.STRING):
            return _TEXTS
        case _:
            return _NUMBERS
