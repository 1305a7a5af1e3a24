"""Conditions: whether a window is an alert, compiled to Python functions, or left to CEL."""

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product

from services.rule_language.checking import Expression, reads_total
from services.rule_language.environment import WINDOW_FIELDS, StepLimitError, quotient
from services.rule_language.syntax_tree import Call, Constant, FieldRef, Node, ValueKind


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowValues:
    """What a condition judges: the numbers of one group's window, and the rule's threshold."""

    count: int
    # None where it is not known.
    total: int | None
    threshold: float
    value_count: int = 0
    sum: float = 0.0
    min: float | None = None
    max: float | None = None

    @property
    def rate(self) -> float:
        """The share of the scope's events that the filter selected; 0 where there were none."""
        return self.count / self.total if self.total else 0.0

    @property
    def avg(self) -> float | None:
        """The mean of the values; None where there were none."""
        return self.sum / self.value_count if self.value_count else None


# Numbers that no further event makes smaller.
_GROWING = frozenset({"count", "total", "max"})

# True when the window is an alert; what depends on an absent number is not.
Condition = Callable[[WindowValues], bool]


def compile_condition(expression: Expression) -> Condition:
    """Compile what judges windows by the expression."""
    evaluate = _compile(expression)
    return lambda window: evaluate(window) is True


def may_hold_when_empty(expression: Expression, threshold: float) -> bool:
    """Whether a window in which nothing was selected can be an alert."""
    evaluate = _compile(expression)
    if reads_total(expression):
        # The total may be any: with an absent one, only what does not depend on it decides.
        return evaluate(WindowValues(count=0, total=None, threshold=threshold)) is not False
    return evaluate(WindowValues(count=0, total=1, threshold=threshold)) is True


def only_grows(expression: Expression) -> bool:
    """Whether further events can only make the condition true, never false."""
    return _only_grows(expression.tree)


def _only_grows(node: Node) -> bool:
    match node:
        case Call(function="&&" | "||", arguments=arguments):
            return all(map(_only_grows, arguments))
        case Call(function=">" | ">=", arguments=(FieldRef(name=greater), lesser)):
            return _is_fixed(lesser) and greater in _GROWING
        case Call(function="<" | "<=", arguments=(lesser, FieldRef(name=greater))):
            return _is_fixed(lesser) and greater in _GROWING
        case _:
            return False


def _is_fixed(node: Node) -> bool:
    return isinstance(node, Constant) or (isinstance(node, FieldRef) and node.name == "threshold")


def _compile(expression: Expression) -> "_Evaluate":
    """Compile the expression; what cannot be compiled is evaluated by CEL."""
    return _compile_node(expression.tree) or (lambda window: _evaluate_by_cel(expression, window))


def _evaluate_by_cel(expression: Expression, window: WindowValues) -> bool | None:
    try:
        return expression.evaluate(_cel_values(window, expression.names))
    except StepLimitError:
        return None


def _cel_values(window: WindowValues, names: Iterable[str]) -> Mapping[str, object]:
    """Return the numbers as CEL takes them: absent ones left out, each of its type."""
    present = {name: value for name in names if (value := getattr(window, name)) is not None}
    return {name: float(value) if WINDOW_FIELDS[name] == "double" else value for name, value in present.items()}


# None stands for what CEL calls an error: an absent value, or one that cannot be computed.
_Value = bool | int | float | None
_Evaluate = Callable[[WindowValues], _Value]

_INT_BOUND = 2**63


def _compile_node(node: Node) -> _Evaluate | None:
    """Compile the node; None when a part of it must be left to CEL."""
    match node:
        case Constant(value=bool() | int() | float() as value):
            return lambda _: value
        case FieldRef(name=name):
            return operator.attrgetter(name)
        case Call(function="&&" | "||" | "?:" as function, arguments=arguments):
            return _apply(_LOGIC[function], arguments)
        case Call():
            compute = _OPERATIONS.get((node.function, *(argument.kind for argument in node.arguments)))
            return compute and _apply(_strict(compute), node.arguments)
        case _:
            return None


def _apply(compute: Callable[..., _Value], arguments: tuple[Node, ...]) -> _Evaluate | None:
    """Compile a function of arguments, each evaluated only where the function needs it."""
    compiled = [operand for argument in arguments if (operand := _compile_node(argument)) is not None]
    if len(compiled) < len(arguments):
        return None
    return lambda window: compute(window, *compiled)


def _strict(compute: Callable[..., _Value]) -> Callable[..., _Value]:
    """Make a function absent as soon as one of its arguments is."""

    def strict(window: WindowValues, *arguments: _Evaluate) -> _Value:
        values = [argument(window) for argument in arguments]
        return None if None in values else compute(*values)

    return strict


def _and(window: WindowValues, left: _Evaluate, right: _Evaluate) -> _Value:
    first = left(window)
    if first is False:
        return False
    second = right(window)
    return second if first or second is False else None


def _or(window: WindowValues, left: _Evaluate, right: _Evaluate) -> _Value:
    first = left(window)
    if first:
        return True
    second = right(window)
    return second if first is False or second else None


def _choose(window: WindowValues, condition: _Evaluate, then: _Evaluate, otherwise: _Evaluate) -> _Value:
    chosen = condition(window)
    if chosen is None:
        return None
    return then(window) if chosen else otherwise(window)


def _in_64_bits(compute: Callable[[int, int], int]) -> Callable[[int, int], int | None]:
    """Make an integer beyond 64 bits absent."""

    def bounded(left: int, right: int) -> int | None:
        result = compute(left, right)
        return result if -_INT_BOUND <= result < _INT_BOUND else None

    return bounded


def _integer_quotient(left: int, right: int) -> int | None:
    """Divide, cut towards zero; absent where the divisor is zero."""
    if right == 0:
        return None
    quotient = abs(left) // abs(right)
    return _in_64_bits(operator.mul)(quotient, 1 if (left < 0) == (right < 0) else -1)


def _remainder(left: int, right: int) -> int | None:
    """Return the remainder, with the sign of the dividend."""
    quotient = _integer_quotient(left, right)
    return None if quotient is None else left - quotient * right


def _on_doubles(compute: Callable[[float, float], _Value]) -> Callable[[float, float], _Value]:
    return lambda left, right: compute(float(left), float(right))


_LOGIC: Mapping[str, Callable[..., _Value]] = {"&&": _and, "||": _or, "?:": _choose}
_COMPARISONS: Mapping[str, Callable[..., _Value]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul}
_NUMBER_PAIRS = list(product((ValueKind.INT, ValueKind.DOUBLE), repeat=2))
_OPERATIONS: Mapping[tuple[str | ValueKind, ...], Callable[..., _Value]] = {
    ("!", ValueKind.BOOL): operator.not_,
    # Where an integer meets a double, both are doubles, exact up to 2**53: so it is in CEL.
    **{(sign, *pair): _on_doubles(compare) for sign, compare in _COMPARISONS.items() for pair in _NUMBER_PAIRS},
    **{(sign, ValueKind.INT, ValueKind.INT): compare for sign, compare in _COMPARISONS.items()},
    **{(sign, *pair): _on_doubles(compute) for sign, compute in _ARITHMETIC.items() for pair in _NUMBER_PAIRS},
    **{("/", *pair): _on_doubles(quotient) for pair in _NUMBER_PAIRS},
    **{(sign, ValueKind.INT, ValueKind.INT): _in_64_bits(compute) for sign, compute in _ARITHMETIC.items()},
    ("/", ValueKind.INT, ValueKind.INT): _integer_quotient,
    ("%", ValueKind.INT, ValueKind.INT): _remainder,
    ("negate", ValueKind.INT): lambda number: _in_64_bits(operator.sub)(0, number),
    ("negate", ValueKind.DOUBLE): operator.neg,
    ("double", ValueKind.INT): float,
    ("double", ValueKind.DOUBLE): float,
    ("int", ValueKind.INT): int,
}
