"""Whether a window is an alert."""

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product

from services.rule_language.checking import Expression, reads_total
from services.rule_language.environment import WINDOW_FIELDS, GivenUpError, quotient
from services.rule_language.syntax_tree import Call, Constant, Field, Kind, Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """What conditions judge: the numbers of one group's window, and the rule's threshold."""

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


# True when the window is an alert; what depends on an absent number is not.
Condition = Callable[[Numbers], bool]


def condition(expression: Expression) -> Condition:
    """What judges windows by the expression."""
    answer = _answer(expression)
    return lambda numbers: answer(numbers) is True


def may_hold_unselected(expression: Expression, threshold: float) -> bool:
    """Whether a window in which nothing was selected can be an alert."""
    answer = _answer(expression)
    if reads_total(expression):
        # What is absent is decided by what is beside it, as if it could be anything: any total.
        return answer(Numbers(count=0, total=None, threshold=threshold)) is not False
    return answer(Numbers(count=0, total=1, threshold=threshold)) is True


def _answer(expression: Expression) -> "_Computed":
    """What computes the expression, by CEL itself if need be."""
    return _computed(expression.tree) or (lambda numbers: _evaluated(expression, numbers))


def _evaluated(expression: Expression, numbers: Numbers) -> bool | None:
    try:
        return expression.evaluate(_present(numbers, expression.names))
    except GivenUpError:
        return None


def _present(numbers: Numbers, names: Iterable[str]) -> Mapping[str, object]:
    """The numbers as CEL takes them: those that there are, each of its type."""
    given = {name: value for name in names if (value := getattr(numbers, name)) is not None}
    return {name: float(value) if WINDOW_FIELDS[name] == "double" else value for name, value in given.items()}


# None is what CEL calls an error: something absent, or what cannot be computed.
_Value = bool | int | float | None
_Computed = Callable[[Numbers], _Value]

_INT_BOUND = 2**63


def _computed(node: Node) -> _Computed | None:
    """What computes the node without CEL; None when something in it is left to CEL."""
    match node:
        case Constant(value=bool() | int() | float() as value):
            return lambda _: value
        case Field(name=name):
            return operator.attrgetter(name)
        case Call(function="&&" | "||" | "?:" as function, arguments=arguments):
            return _applied(_LOGIC[function], arguments)
        case Call():
            compute = _OPERATIONS.get((node.function, *(argument.kind for argument in node.arguments)))
            return compute and _applied(_strict(compute), node.arguments)
        case _:
            return None


def _applied(compute: Callable[..., _Value], arguments: tuple[Node, ...]) -> _Computed | None:
    """Compute something of the arguments' values, which are asked for as far as they are needed."""
    computed = [one for argument in arguments if (one := _computed(argument)) is not None]
    if len(computed) < len(arguments):
        return None
    return lambda numbers: compute(numbers, *computed)


def _strict(compute: Callable[..., _Value]) -> Callable[..., _Value]:
    """What is absent as soon as one of its arguments is."""

    def strict(numbers: Numbers, *arguments: _Computed) -> _Value:
        values = [argument(numbers) for argument in arguments]
        return None if None in values else compute(*values)

    return strict


def _and(numbers: Numbers, left: _Computed, right: _Computed) -> _Value:
    first = left(numbers)
    if first is False:
        return False
    second = right(numbers)
    return second if first or second is False else None


def _or(numbers: Numbers, left: _Computed, right: _Computed) -> _Value:
    first = left(numbers)
    if first:
        return True
    second = right(numbers)
    return second if first is False or second else None


def _choice(numbers: Numbers, question: _Computed, then: _Computed, otherwise: _Computed) -> _Value:
    answer = question(numbers)
    if answer is None:
        return None
    return then(numbers) if answer else otherwise(numbers)


def _whole(compute: Callable[[int, int], int]) -> Callable[[int, int], int | None]:
    """Whole numbers have 64 bits; what goes beyond cannot be computed."""

    def within(left: int, right: int) -> int | None:
        result = compute(left, right)
        return result if -_INT_BOUND <= result < _INT_BOUND else None

    return within


def _whole_quotient(left: int, right: int) -> int | None:
    """Cut towards zero."""
    if right == 0:
        return None
    quotient = abs(left) // abs(right)
    return _whole(operator.mul)(quotient, 1 if (left < 0) == (right < 0) else -1)


def _remainder(left: int, right: int) -> int | None:
    """With the sign of the dividend."""
    quotient = _whole_quotient(left, right)
    return None if quotient is None else left - quotient * right


def _broken(compute: Callable[[float, float], _Value]) -> Callable[[float, float], _Value]:
    return lambda left, right: compute(float(left), float(right))


_LOGIC: Mapping[str, Callable[..., _Value]] = {"&&": _and, "||": _or, "?:": _choice}
_COMPARISONS: Mapping[str, Callable[..., _Value]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul}
_NUMBER_PAIRS = list(product((Kind.INT, Kind.DOUBLE), repeat=2))
_OPERATIONS: Mapping[tuple[str | Kind, ...], Callable[..., _Value]] = {
    ("!", Kind.BOOL): operator.not_,
    # Whole numbers meet broken ones as broken numbers, exact up to 2**53: so does CEL.
    **{(sign, *pair): _broken(compare) for sign, compare in _COMPARISONS.items() for pair in _NUMBER_PAIRS},
    **{(sign, Kind.INT, Kind.INT): compare for sign, compare in _COMPARISONS.items()},
    **{(sign, *pair): _broken(compute) for sign, compute in _ARITHMETIC.items() for pair in _NUMBER_PAIRS},
    **{("/", *pair): _broken(quotient) for pair in _NUMBER_PAIRS},
    **{(sign, Kind.INT, Kind.INT): _whole(compute) for sign, compute in _ARITHMETIC.items()},
    ("/", Kind.INT, Kind.INT): _whole_quotient,
    ("%", Kind.INT, Kind.INT): _remainder,
    ("negate", Kind.INT): lambda number: _whole(operator.sub)(0, number),
    ("negate", Kind.DOUBLE): operator.neg,
    ("double", Kind.INT): float,
    ("double", Kind.DOUBLE): float,
    ("int", Kind.INT): int,
}
