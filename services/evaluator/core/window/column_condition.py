"""Conditions over columns: whether each of many panes is an alert, by the same rules as one window is judged by.

What cannot be compiled to operations on columns, and numbers so large that 64 bits may overflow, is left to the
condition that judges one window.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.evaluator.core.match.events import Floats, RowMask
from services.evaluator.core.window.condition import Condition, WindowValues, compile_condition
from services.rule_language.checking import Expression
from services.rule_language.syntax_tree import Call, Constant, FieldRef, Node, ValueKind

# Numbers by the name of their column, one of each pane.
NumberColumns = Mapping[str, NDArray[Any]]

# The columns that the numbers of a window are computed from.
_SOURCES: Mapping[str, tuple[str, ...]] = {
    "rate": ("counted", "total"),
    "avg": ("sum", "value_count"),
    "count": ("counted",),
    "total": ("total",),
    "sum": ("sum",),
    "min": ("min",),
    "max": ("max",),
    "threshold": (),
}
# Up to here doubles are exact, and products of an integer and a small one are within 64 bits.
_MAX_COUNT = 2**53
_MAX_INTEGER = 2.0**62


class _TooLargeError(Exception):
    """Integers are so large that 64 bits may overflow."""


@dataclass(frozen=True, slots=True, eq=False)
class _Operand:
    """The value of a node for each pane; `known` marks those that have one."""

    values: NDArray[Any]
    known: RowMask


# The numbers of windows as the rule language names them.
_Columns = Mapping[str, _Operand]
_Evaluate = Callable[[_Columns], _Operand]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ColumnCondition:
    """A condition that judges many panes at once; rules that have it in common share it."""

    # The columns that it reads.
    names: frozenset[str]
    _judge_one: Condition
    _evaluate: _Evaluate | None
    _fields: frozenset[str] = field(default=frozenset())

    def __call__(self, numbers: NumberColumns, thresholds: Floats) -> RowMask:
        """Return which panes are an alert, given their numbers and the threshold of each one's rule."""
        if self._evaluate is not None and len(thresholds) > 0:
            try:
                with np.errstate(all="ignore"):
                    judged = self._evaluate(_columns(numbers, thresholds, self._fields))
            except _TooLargeError:
                pass
            else:
                return judged.values & judged.known
        return self._one_by_one(numbers, thresholds)

    def _one_by_one(self, numbers: NumberColumns, thresholds: Floats) -> RowMask:
        columns = {name: values.tolist() for name, values in numbers.items()}
        judged = [
            self._judge_one(window_values({name: values[row] for name, values in columns.items()}, threshold))
            for row, threshold in enumerate(thresholds.tolist())
        ]
        return np.array(judged, dtype=bool)


@lru_cache(maxsize=256)
def compile_columns(expression: Expression) -> ColumnCondition:
    """Compile what judges panes by the expression."""
    sources = (name for field_name in expression.names for name in _SOURCES[field_name])
    return ColumnCondition(
        names=frozenset(sources),
        _judge_one=compile_condition(expression),
        _evaluate=_compile_node(expression.tree),
        _fields=expression.names,
    )


def window_values(numbers: Mapping[str, Any], threshold: float) -> WindowValues:
    """Return one pane as a condition takes it; what is not among the numbers is not read."""
    least, greatest = numbers.get("min", np.nan), numbers.get("max", np.nan)
    return WindowValues(
        count=numbers.get("counted", 0),
        total=numbers.get("total", 0),
        threshold=threshold,
        value_count=numbers.get("value_count", 0),
        sum=numbers.get("sum", 0.0),
        min=None if np.isnan(least) else least,
        max=None if np.isnan(greatest) else greatest,
    )


def _columns(numbers: NumberColumns, thresholds: Floats, names: frozenset[str]) -> _Columns:
    """Return the columns that an expression names."""
    known = np.ones(len(thresholds), dtype=bool)
    for name in ("counted", "total", "value_count"):
        if name in numbers and numbers[name].max() > _MAX_COUNT:
            raise _TooLargeError
    columns = {"threshold": _Operand(thresholds, known)}
    for name in names - {"threshold"}:
        columns[name] = _COMPUTED[name](numbers, known)
    return columns


def _present(values: Floats) -> _Operand:
    return _Operand(values, ~np.isnan(values))


def _rate(numbers: NumberColumns, known: RowMask) -> _Operand:
    counted, total = numbers["counted"], numbers["total"]
    return _Operand(np.where(total == 0, 0.0, counted / np.where(total == 0, 1, total)), known)


def _avg(numbers: NumberColumns, _: RowMask) -> _Operand:
    count = numbers["value_count"]
    return _Operand(numbers["sum"] / np.where(count == 0, 1, count), count != 0)


_COMPUTED: Mapping[str, Callable[[NumberColumns, RowMask], _Operand]] = {
    "count": lambda numbers, known: _Operand(numbers["counted"], known),
    "total": lambda numbers, known: _Operand(numbers["total"], known),
    "sum": lambda numbers, known: _Operand(numbers["sum"], known),
    "min": lambda numbers, _: _present(numbers["min"]),
    "max": lambda numbers, _: _present(numbers["max"]),
    "rate": _rate,
    "avg": _avg,
}


def _compile_node(node: Node) -> _Evaluate | None:
    """Compile the node; None when a part of it must be left to the condition that judges one window."""
    match node:
        case Constant(value=bool() | int() | float() as value):
            return lambda columns: _Operand(np.full(len(columns["threshold"].known), value), columns["threshold"].known)
        case FieldRef(name=name):
            return lambda columns: columns[name]
        case Call(function="&&" | "||" | "?:" as function, arguments=arguments):
            return _apply(_LOGIC[function], arguments)
        case Call():
            compute = _OPERATIONS.get((node.function, *(argument.kind for argument in node.arguments)))
            return compute and _apply(compute, node.arguments)
        case _:
            return None


def _apply(compute: Callable[..., _Operand], arguments: tuple[Node, ...]) -> _Evaluate | None:
    compiled = [operand for argument in arguments if (operand := _compile_node(argument)) is not None]
    if len(compiled) < len(arguments):
        return None
    return lambda columns: compute(*(evaluate(columns) for evaluate in compiled))


def _and(one: _Operand, other: _Operand) -> _Operand:
    """Combine as CEL does: true and absent is absent, false and absent is false."""
    is_false = (one.known & ~one.values) | (other.known & ~other.values)
    return _Operand(one.values & other.values, (one.known & other.known) | is_false)


def _or(one: _Operand, other: _Operand) -> _Operand:
    is_true = (one.known & one.values) | (other.known & other.values)
    return _Operand(is_true, (one.known & other.known) | is_true)


def _choose(condition: _Operand, then: _Operand, otherwise: _Operand) -> _Operand:
    known = condition.known & np.where(condition.values, then.known, otherwise.known)
    return _Operand(np.where(condition.values, then.values, otherwise.values), known)


def _strict(compute: Callable[..., NDArray[Any]]) -> Callable[..., _Operand]:
    """Make a function absent where one of its arguments is."""

    def strict(*arguments: _Operand) -> _Operand:
        known = arguments[0].known
        for argument in arguments[1:]:
            known = known & argument.known
        return _Operand(compute(*(argument.values for argument in arguments)), known)

    return strict


def _on_doubles(compute: Callable[[Floats, Floats], NDArray[Any]]) -> Callable[..., _Operand]:
    return _strict(lambda one, other: compute(one.astype(np.float64), other.astype(np.float64)))


def _on_integers(compute: Callable[[Any, Any], NDArray[Any]]) -> Callable[..., _Operand]:
    def bounded(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
        if (np.abs(compute(one.astype(np.float64), other.astype(np.float64))) >= _MAX_INTEGER).any():
            raise _TooLargeError
        return compute(one, other)

    return _strict(bounded)


def _quotient(one: _Operand, other: _Operand) -> _Operand:
    """Divide integers, cut towards zero; absent where the divisor is zero."""
    _require_small(one, other)
    divisor = np.where(other.values == 0, 1, other.values)
    magnitude = np.abs(one.values) // np.abs(divisor)
    values = np.where((one.values < 0) == (divisor < 0), magnitude, -magnitude)
    return _Operand(values, one.known & other.known & (other.values != 0))


def _remainder(one: _Operand, other: _Operand) -> _Operand:
    """Return the remainder, with the sign of the dividend."""
    quotient = _quotient(one, other)
    return _Operand(one.values - quotient.values * other.values, quotient.known)


def _negate(operand: _Operand) -> _Operand:
    _require_small(operand)
    return _Operand(-operand.values, operand.known)


def _require_small(*operands: _Operand) -> None:
    if any((np.abs(operand.values.astype(np.float64)) >= _MAX_INTEGER).any() for operand in operands):
        raise _TooLargeError


_LOGIC: Mapping[str, Callable[..., _Operand]] = {"&&": _and, "||": _or, "?:": _choose}
_COMPARISONS: Mapping[str, Any] = {
    "==": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}
_ARITHMETIC: Mapping[str, Any] = {"+": np.add, "-": np.subtract, "*": np.multiply}
_NUMBER_PAIRS = list(product((ValueKind.INT, ValueKind.DOUBLE), repeat=2))
_OPERATIONS: Mapping[tuple[str | ValueKind, ...], Callable[..., _Operand]] = {
    ("!", ValueKind.BOOL): _strict(np.logical_not),
    **{(sign, *pair): _on_doubles(compare) for sign, compare in _COMPARISONS.items() for pair in _NUMBER_PAIRS},
    **{(sign, ValueKind.INT, ValueKind.INT): _strict(compare) for sign, compare in _COMPARISONS.items()},
    **{(sign, *pair): _on_doubles(compute) for sign, compute in _ARITHMETIC.items() for pair in _NUMBER_PAIRS},
    **{("/", *pair): _on_doubles(np.divide) for pair in _NUMBER_PAIRS},
    **{(sign, ValueKind.INT, ValueKind.INT): _on_integers(compute) for sign, compute in _ARITHMETIC.items()},
    ("/", ValueKind.INT, ValueKind.INT): _quotient,
    ("%", ValueKind.INT, ValueKind.INT): _remainder,
    ("negate", ValueKind.INT): _negate,
    ("negate", ValueKind.DOUBLE): _strict(np.negative),
    ("double", ValueKind.INT): _strict(lambda values: values.astype(np.float64)),
    ("double", ValueKind.DOUBLE): _strict(lambda values: values),
    ("int", ValueKind.INT): _strict(lambda values: values),
}
