"""Which events a filter or scope selects.

An expression is taken apart at its &&, ||, ! and ?: into tests. Each test answers true, false or absent; only "where is
it true" and "where is it false" are ever asked, so that masks of two values are enough, and a test is asked only about
the rows that are still open, the cheapest test first.

Every node is planned once and asked once, for all the answers that are wanted of it: what a ?: asks about needs both,
and asking for one after the other would double the work with each ?: inside another.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from services.evaluator.core.match.events import Columns, Mask, Rows, mask_of
from services.evaluator.core.match.lowering import Lowered, lower
from services.rule_language.checking import Expression
from services.rule_language.environment import GivenUpError
from services.rule_language.syntax_tree import Attribute, Call, Field, HasAttribute, Kind, Node, names, walk

# Says which of the given rows (all, when None) are selected. The answer may be the mask that was given: do not write
# into either.
Selection = Callable[[Columns, Mask | None], Mask]
# Where the answer is false, and where it is true: index it with the answer. One that is not wanted is nowhere.
_Answers = tuple[Mask, Mask]
_Plan = Callable[[Columns, Mask], _Answers]
# The answers that are wanted.
_Wanted = frozenset[bool]
_EITHER: _Wanted = frozenset({False, True})

# What a test costs, roughly in nanoseconds an event.
_NUMBERS, _TEXTS, _ATTRIBUTES, _SCANS, _ROW_BY_ROW = 5, 10, 60, 200, 9000
# Tests from here on are asked only about the rows that are open, when these are less than half.
_COSTLY = _ATTRIBUTES


def selection(expression: Expression | None) -> Selection:
    """What selects the events for which the expression is true; None selects all."""
    if expression is None:
        return _everything
    _, plan = _planned(expression, expression.tree, frozenset({True}))
    return lambda columns, among: _asked(plan, columns, _everything(columns, among))[True]


def _everything(columns: Columns, among: Mask | None) -> Mask:
    return np.ones(len(columns), dtype=np.bool_) if among is None else among


def _nowhere(columns: Columns) -> Mask:
    return np.zeros(len(columns), dtype=np.bool_)


def _planned(expression: Expression, node: Node, wanted: _Wanted) -> tuple[int, _Plan]:
    """What finds the rows in which the node has each of the wanted answers, and its cost."""
    match node:
        case Call(function="!", arguments=(inner,)):
            cost, plan = _planned(expression, inner, frozenset(not answer for answer in wanted))
            return cost, lambda columns, among: plan(columns, among)[::-1]
        case Call(function="&&" | "||" as function, arguments=arguments):
            parts = [_planned(expression, argument, wanted) for argument in arguments]
            return _joined(parts, wanted, deciding=function == "||")
        case Call(function="?:", arguments=(question, then, otherwise)):
            branches = [_planned(expression, branch, wanted) for branch in (otherwise, then)]
            return _chosen(_planned(expression, question, _EITHER), branches)
        case _:
            return _test(expression, node, wanted)


def _asked(plan: _Plan, columns: Columns, among: Mask) -> _Answers:
    """Ask about some rows; with no rows there is nothing to ask."""
    return plan(columns, among) if among.any() else (_nowhere(columns), _nowhere(columns))


def _joined(parts: Sequence[tuple[int, _Plan]], wanted: _Wanted, *, deciding: bool) -> tuple[int, _Plan]:
    """Join by && or ||: one part with the deciding answer decides, the other answer needs all parts."""
    ordered = sorted(parts, key=lambda part: part[0])

    def plan(columns: Columns, among: Mask) -> _Answers:
        decided, agreed = _nowhere(columns), among
        for _, part in ordered:
            answers = _asked(part, columns, among & ~decided if deciding in wanted else agreed)
            decided = decided | answers[deciding]
            agreed = agreed & answers[not deciding]
        return (agreed, decided) if deciding else (decided, agreed)

    return ordered[-1][0], plan


def _chosen(question: tuple[int, _Plan], branches: Sequence[tuple[int, _Plan]]) -> tuple[int, _Plan]:
    """Ask each row's own branch: the first where the question is false, the second where it is true."""

    def plan(columns: Columns, among: Mask) -> _Answers:
        rows = question[1](columns, among)
        no, yes = (_asked(branch, columns, chosen) for (_, branch), chosen in zip(branches, rows, strict=True))
        return no[False] | yes[False], no[True] | yes[True]

    return max(cost for cost, _ in (question, *branches)), plan


def _test(expression: Expression, node: Node, wanted: _Wanted) -> tuple[int, _Plan]:
    by_row = functools.partial(_row_by_row, _Part(expression, node))
    lowered = lower(node)
    if lowered is None:
        return _ROW_BY_ROW, by_row

    def ask(columns: Columns, among: Mask) -> _Answers:
        try:
            return _answers(node, lowered, columns, among, wanted)
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


def _answers(node: Node, lowered: Lowered, columns: Columns, among: Mask, wanted: _Wanted) -> _Answers:
    def rows(answer: bool) -> Mask:  # noqa: FBT001  (an answer, not an option)
        if answer not in wanted:
            return _nowhere(columns)
        found: Mask = columns.remembered((node, answer), lambda: _computed(node, lowered, columns, wanted=answer))
        return found & among

    return rows(False), rows(True)


def _computed(node: Node, lowered: Lowered, columns: Columns, *, wanted: bool) -> Mask:
    answers = columns.remembered(node, lambda: lowered(columns))
    if isinstance(answers, pa.Scalar):
        return np.full(len(columns), answers.as_py() is wanted, dtype=np.bool_)
    return mask_of(answers, wanted=wanted)


def _narrowed(ask: _Plan, names: Sequence[str]) -> _Plan:
    """Ask about the open rows only, when leaving out the others is worth copying."""

    def plan(columns: Columns, among: Mask) -> _Answers:
        rows = np.flatnonzero(among)
        if 2 * len(rows) > len(columns):
            return ask(columns, among)
        no, yes = ask(columns.take(rows, names), np.ones(len(rows), dtype=np.bool_))
        return _spread(no, rows, columns), _spread(yes, rows, columns)

    return plan


def _spread(found: Mask, rows: Rows, columns: Columns) -> Mask:
    """Answers about some rows as a mask of all."""
    spread = _nowhere(columns)
    spread[rows] = found
    return spread


def _row_by_row(part: _Part, columns: Columns, among: Mask) -> _Answers:
    rows = np.flatnonzero(among)
    expression = part.expression
    needed = sorted(expression.names)
    events = columns.take(rows, needed).batch.to_pylist() if needed else [{} for _ in rows]
    answers = [_evaluated(expression, event, columns) for event in events]
    no, yes = (np.array([answer is wanted for answer in answers], dtype=np.bool_) for wanted in (False, True))
    return _spread(no, rows, columns), _spread(yes, rows, columns)


def _evaluated(expression: Expression, event: dict[str, object], columns: Columns) -> bool | None:
    """Judge one event; one that CEL gives up on is not selected, and counted."""
    try:
        return expression.evaluate(_present(event))
    except GivenUpError:
        columns.given_up[expression.text] += 1
        return None


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
