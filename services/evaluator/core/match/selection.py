"""Which events a filter or scope selects.

An expression is split at its &&, ||, ! and ?: into tests. Each test is true, false or absent for an event. A plan asks
only "where is it true" and "where is it false", so masks of two values are enough, and a test looks only at the rows
that are still undecided, the cheapest test first.

Every node is planned once and evaluated once, for all outcomes that are wanted of it: the condition of a ?: needs both,
and evaluating it for one after the other would double the work with each ?: inside another.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from services.evaluator.core.match.events import EventColumns, Ints, RowMask, mask_of
from services.evaluator.core.match.lowering import Lowered, lower
from services.rule_language.checking import Expression
from services.rule_language.environment import StepLimitError
from services.rule_language.syntax_tree import Attribute, Call, FieldRef, HasAttribute, Node, ValueKind, names, walk

# Returns which of the given rows (all, when None) are selected. The result may be the mask that was given: do not write
# into either.
Selection = Callable[[EventColumns, RowMask | None], RowMask]
# Where a node is false, and where it is true: index it with the outcome. One that is not wanted is true nowhere.
_Outcomes = tuple[RowMask, RowMask]
# Evaluates a node on some rows.
_Plan = Callable[[EventColumns, RowMask], _Outcomes]
_Wanted = frozenset[bool]
_BOTH: _Wanted = frozenset({False, True})

# What a test costs, roughly in nanoseconds an event.
_NUMBERS, _STRINGS, _ATTRIBUTES, _SCANS, _ROW_BY_ROW = 5, 10, 60, 200, 9000
# Tests of this cost or more look only at the undecided rows, when these are less than half.
_COSTLY = _ATTRIBUTES


def compile_selection(expression: Expression | None) -> Selection:
    """Compile what selects the events for which the expression is true; None selects all."""
    if expression is None:
        return _all_rows
    return compile_parts([(expression, expression.tree)])


def compile_parts(parts: Sequence[tuple[Expression, Node]]) -> Selection:
    """Compile what selects the events for which all of these nodes, each of its expression, are true."""
    wanted = frozenset({True})
    plans = [_plan(expression, node, wanted) for expression, node in parts]
    _, plan = plans[0] if len(plans) == 1 else _plan_logic(plans, wanted, deciding=False)
    return lambda columns, among: _evaluate(plan, columns, _all_rows(columns, among))[True]


def _all_rows(columns: EventColumns, among: RowMask | None) -> RowMask:
    return np.ones(len(columns), dtype=np.bool_) if among is None else among


def _no_rows(columns: EventColumns) -> RowMask:
    return np.zeros(len(columns), dtype=np.bool_)


def _plan(expression: Expression, node: Node, wanted: _Wanted) -> tuple[int, _Plan]:
    """Plan how to find the rows in which the node has each wanted outcome; return the cost and the plan."""
    match node:
        case Call(function="!", arguments=(inner,)):
            cost, plan = _plan(expression, inner, frozenset(not outcome for outcome in wanted))
            return cost, lambda columns, among: plan(columns, among)[::-1]
        case Call(function="&&" | "||" as function, arguments=arguments):
            parts = [_plan(expression, argument, wanted) for argument in arguments]
            return _plan_logic(parts, wanted, deciding=function == "||")
        case Call(function="?:", arguments=(condition, then, otherwise)):
            branches = [_plan(expression, branch, wanted) for branch in (otherwise, then)]
            return _plan_choice(_plan(expression, condition, _BOTH), branches)
        case _:
            return _plan_test(expression, node, wanted)


def _evaluate(plan: _Plan, columns: EventColumns, among: RowMask) -> _Outcomes:
    """Evaluate a plan, unless no rows are left."""
    return plan(columns, among) if among.any() else (_no_rows(columns), _no_rows(columns))


def _plan_logic(parts: Sequence[tuple[int, _Plan]], wanted: _Wanted, *, deciding: bool) -> tuple[int, _Plan]:
    """Plan && or ||: one part with the deciding outcome decides, the other outcome needs all parts."""
    ordered = sorted(parts, key=lambda part: part[0])

    def plan(columns: EventColumns, among: RowMask) -> _Outcomes:
        decided, agreed = _no_rows(columns), among
        for _, part in ordered:
            outcomes = _evaluate(part, columns, among & ~decided if deciding in wanted else agreed)
            decided = decided | outcomes[deciding]
            agreed = agreed & outcomes[not deciding]
        return (agreed, decided) if deciding else (decided, agreed)

    return ordered[-1][0], plan


def _plan_choice(condition: tuple[int, _Plan], branches: Sequence[tuple[int, _Plan]]) -> tuple[int, _Plan]:
    """Plan ?:, each row by its own branch: the first where the condition is false, the second where it is true."""

    def plan(columns: EventColumns, among: RowMask) -> _Outcomes:
        rows = condition[1](columns, among)
        no, yes = (_evaluate(branch, columns, chosen) for (_, branch), chosen in zip(branches, rows, strict=True))
        return no[False] | yes[False], no[True] | yes[True]

    return max(cost for cost, _ in (condition, *branches)), plan


def _plan_test(expression: Expression, node: Node, wanted: _Wanted) -> tuple[int, _Plan]:
    by_row = functools.partial(_evaluate_by_row, _Part(expression, node))
    lowered = lower(node)
    if lowered is None:
        return _ROW_BY_ROW, by_row

    def plan(columns: EventColumns, among: RowMask) -> _Outcomes:
        try:
            return _evaluate_columns(node, lowered, columns, among, wanted)
        except pa.ArrowInvalid:
            # One of the rows is beyond 64-bit integers: CEL decides what that means.
            return by_row(columns, among)

    cost, needed = _cost(node), sorted(names(node))
    return cost, (_narrow(plan, needed) if needed and cost >= _COSTLY else plan)


class _Part:
    """A test as an expression of its own, made when CEL is needed for the first time."""

    def __init__(self, expression: Expression, node: Node) -> None:
        self._expression = expression
        self._node = node

    @functools.cached_property
    def expression(self) -> Expression:
        return self._expression.part(self._node)


def _evaluate_columns(
    node: Node, lowered: Lowered, columns: EventColumns, among: RowMask, wanted: _Wanted
) -> _Outcomes:
    def rows(outcome: bool) -> RowMask:  # noqa: FBT001  (a value, not an option)
        if outcome not in wanted:
            return _no_rows(columns)
        mask: RowMask = columns.cached((node, outcome), lambda: _compute_mask(node, lowered, columns, value=outcome))
        return mask & among

    return rows(False), rows(True)


def _compute_mask(node: Node, lowered: Lowered, columns: EventColumns, *, value: bool) -> RowMask:
    booleans = columns.cached(node, lambda: lowered(columns))
    if isinstance(booleans, pa.Scalar):
        return np.full(len(columns), booleans.as_py() is value, dtype=np.bool_)
    return mask_of(booleans, value=value)


def _narrow(test: _Plan, names: Sequence[str]) -> _Plan:
    """Evaluate the undecided rows only, when leaving out the others is worth a copy."""

    def plan(columns: EventColumns, among: RowMask) -> _Outcomes:
        rows = np.flatnonzero(among)
        if 2 * len(rows) > len(columns):
            return test(columns, among)
        no, yes = test(columns.take(rows, names), np.ones(len(rows), dtype=np.bool_))
        return _spread(no, rows, columns), _spread(yes, rows, columns)

    return plan


def _spread(mask: RowMask, rows: Ints, columns: EventColumns) -> RowMask:
    """Turn a mask of some rows into a mask of all."""
    spread = _no_rows(columns)
    spread[rows] = mask
    return spread


def _evaluate_by_row(part: _Part, columns: EventColumns, among: RowMask) -> _Outcomes:
    rows = np.flatnonzero(among)
    expression = part.expression
    needed = sorted(expression.names)
    events = columns.take(rows, needed).batch.to_pylist() if needed else [{} for _ in rows]
    outcomes = [_evaluate_event(expression, event, columns) for event in events]
    no, yes = (np.array([outcome is value for outcome in outcomes], dtype=np.bool_) for value in (False, True))
    return _spread(no, rows, columns), _spread(yes, rows, columns)


def _evaluate_event(expression: Expression, event: dict[str, object], columns: EventColumns) -> bool | None:
    """Judge one event by CEL; one that hits the step limit is not selected, and counted."""
    try:
        return expression.evaluate(_cel_values(event))
    except StepLimitError:
        columns.over_step_limit[expression.text] += 1
        return None


def _cel_values(event: dict[str, object]) -> dict[str, object]:
    """Return an event as CEL takes it: absent fields left out, attributes as a map."""
    return {
        name: dict(value) if isinstance(value, list) else value for name, value in event.items() if value is not None
    }


def _cost(node: Node) -> int:
    return max(_own_cost(part) for part in walk(node))


def _own_cost(node: Node) -> int:
    match node:
        case Call(function="matches" | "contains" | "size"):
            return _SCANS
        case Attribute() | HasAttribute():
            return _ATTRIBUTES
        case FieldRef(kind=ValueKind.STRING):
            return _STRINGS
        case _:
            return _NUMBERS
