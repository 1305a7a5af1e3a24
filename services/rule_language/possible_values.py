"""Which values an expression can have, over all events or windows that there can be.

Each node gets a set that holds every value it can take: for numbers an interval, for strings a few values or all, for
booleans the outcomes, where None stands for what is absent or cannot be computed. A set may be too large, never too
small: what it does not hold cannot happen. Numbers are rounded as the language rounds them, and rounding keeps their
order, so the ends of an interval bound all that lies between.
"""

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from services.rule_language.environment import quotient
from services.rule_language.syntax_tree import (
    Attribute,
    Call,
    Constant,
    FieldRef,
    HasAttribute,
    Listing,
    Node,
    Scalar,
    ValueKind,
)

_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1
# Sets of more strings than this are not compared one by one.
_MAX_TEXTS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberRange:
    """All numbers from `low` to `high`, both integers or both doubles."""

    low: float
    high: float
    may_be_nan: bool = False
    may_be_absent: bool = False

    @property
    def is_double(self) -> bool:
        """Whether these are doubles."""
        return isinstance(self.low, float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """Some strings; None stands for all."""

    values: frozenset[str] | None = None
    may_be_absent: bool = False


Outcomes = frozenset[bool | None]
Possible = NumberRange | Texts | Outcomes
# What the fields can be; an attribute is called "attributes.NAME".
Ranges = Mapping[str, Possible]

_BOTH: Outcomes = frozenset({True, False})
_ALL_INTS = NumberRange(low=_INT_MIN, high=_INT_MAX, may_be_absent=True)
_ALL_DOUBLES = NumberRange(low=-math.inf, high=math.inf, may_be_nan=True, may_be_absent=True)
_UNKNOWN: Mapping[ValueKind, Possible] = {
    ValueKind.BOOL: _BOTH | {None},
    ValueKind.INT: _ALL_INTS,
    ValueKind.DOUBLE: _ALL_DOUBLES,
    ValueKind.STRING: Texts(may_be_absent=True),
    # Nothing is known of lists and maps.
    ValueKind.OTHER: _BOTH | {None},
}


def possible_values(node: Node, ranges: Ranges) -> Possible:
    """Return all values that a node can have where its fields lie in these ranges."""
    match node:
        case Constant(value=value):
            return _exactly(value)
        case HasAttribute():
            return _BOTH
        case Call(function="in", arguments=[item, Listing(elements=elements)]):
            return _contained(possible_values(item, ranges), [possible_values(each, ranges) for each in elements])
        case Call(function=function) if function in _FUNCTIONS:
            arguments = [possible_values(each, ranges) for each in node.arguments]
            return _FUNCTIONS[function](*arguments) or _UNKNOWN[node.kind]
        case _:
            return ranges.get(name_of(node), _UNKNOWN[node.kind])


def _exactly(value: Scalar) -> Possible:
    match value:
        case bool():
            return frozenset({value})
        case str():
            return Texts(values=frozenset({value}))
        case _:
            return NumberRange(low=value, high=value)


def name_of(node: Node) -> str:
    """Return the name of a field or attribute; an empty string for anything else."""
    match node:
        case FieldRef(name=name):
            return name
        case Attribute(key=key):
            return f"attributes.{key}"
        case _:
            return ""


def compared(sign: str, left: Possible, right: Possible) -> Outcomes | None:
    """Return what a comparison can be; None when nothing is known."""
    match left, right:
        case NumberRange(), NumberRange():
            return _compared_numbers(sign, left, right)
        case Texts(), Texts():
            return _each_pair(_COMPARISONS[sign], left, right)
        case frozenset(), frozenset() if sign in {"==", "!="}:
            outcomes = {one == other for one, other in product(left - {None}, right - {None})}
            return frozenset(outcomes if sign == "==" else {not each for each in outcomes}) | ((left | right) & {None})
        case _:
            return None


def _compared_numbers(sign: str, left: NumberRange, right: NumberRange) -> Outcomes:
    if left.is_double != right.is_double:
        left, right = _as_doubles(left), _as_doubles(right)
    if sign in {">", ">="}:
        left, right = right, left
    outcomes: set[bool | None] = {None} if left.may_be_absent or right.may_be_absent else set()
    match sign:
        case "<" | ">":
            facts = left.low < right.high, left.high >= right.low
        case "<=" | ">=":
            facts = left.low <= right.high, left.high > right.low
        case _:
            is_same = left.low == left.high == right.low == right.high
            facts = max(left.low, right.low) <= min(left.high, right.high), not is_same
    can_hold, can_fail = facts if sign != "!=" else facts[::-1]
    if left.may_be_nan or right.may_be_nan:
        can_hold, can_fail = can_hold or sign == "!=", can_fail or sign != "!="
    outcomes |= {True} if can_hold else set()
    outcomes |= {False} if can_fail else set()
    return frozenset(outcomes)


def _as_doubles(numbers: NumberRange) -> NumberRange:
    return replace(numbers, low=float(numbers.low), high=float(numbers.high))


def _each_pair(test: Callable[[str, str], bool], left: Possible, right: Possible) -> Outcomes | None:
    """Return the outcomes of a test over all pairs of strings."""
    if not isinstance(left, Texts) or not isinstance(right, Texts):
        return None
    absent: Outcomes = frozenset({None} if left.may_be_absent or right.may_be_absent else ())
    if left.values is None or right.values is None or len(left.values) * len(right.values) > _MAX_TEXTS:
        return _BOTH | absent
    return frozenset(test(one, other) for one, other in product(left.values, right.values)) | absent


def _contained(item: Possible, elements: Sequence[Possible]) -> Outcomes:
    """Return what `item in [elements]` can be."""
    matches = [match for each in elements if (match := compared("==", item, each)) is not None]
    if len(matches) < len(elements):
        return _BOTH | {None}
    outcomes: set[bool | None] = {outcome for each in matches for outcome in each if outcome is not False}
    outcomes |= {None} if _may_be_absent(item) else set()
    outcomes |= {False} if all(False in each for each in matches) else set()
    return frozenset(outcomes)


def _may_be_absent(value: Possible) -> bool:
    return None in value if isinstance(value, frozenset) else value.may_be_absent


def _and(left: Possible, right: Possible) -> Outcomes:
    return frozenset(map(_conjunction, product(_outcomes(left), _outcomes(right))))


def _or(left: Possible, right: Possible) -> Outcomes:
    return _not(_and(_not(left), _not(right)))


def _not(value: Possible) -> Outcomes:
    return frozenset(None if each is None else not each for each in _outcomes(value))


def _conjunction(outcomes: tuple[bool | None, bool | None]) -> bool | None:
    if False in outcomes:
        return False
    return None if None in outcomes else True


def _outcomes(value: Possible) -> Outcomes:
    return value if isinstance(value, frozenset) else _BOTH | {None}


def _chosen(condition: Possible, then: Possible, otherwise: Possible) -> Possible | None:
    branches = [then] * (True in _outcomes(condition)) + [otherwise] * (False in _outcomes(condition))
    may_be_absent = None in _outcomes(condition)
    match branches:
        case []:
            return None
        case [frozenset(), *_]:
            return frozenset[bool | None]().union(*map(_outcomes, branches)) | ({None} if may_be_absent else set())
        case [NumberRange() | Texts() as only]:
            return replace(only, may_be_absent=only.may_be_absent or may_be_absent)
        case [NumberRange() as one, NumberRange() as other] if one.is_double == other.is_double:
            return NumberRange(
                low=min(one.low, other.low),
                high=max(one.high, other.high),
                may_be_nan=one.may_be_nan or other.may_be_nan,
                may_be_absent=one.may_be_absent or other.may_be_absent or may_be_absent,
            )
        case _:
            return None


def _arithmetic(compute: Callable[[float, float], float]) -> Callable[[Possible, Possible], Possible | None]:
    """Bound an operation that rises or falls with each of its operands by its results at their ends."""

    def bound(left: Possible, right: Possible) -> Possible | None:
        if not isinstance(left, NumberRange) or not isinstance(right, NumberRange):
            return None
        if left.is_double != right.is_double:
            left, right = _as_doubles(left), _as_doubles(right)
        ends = (left.low, left.high), (right.low, right.high)
        # What becomes of infinity and of what is no number is not followed.
        if left.may_be_nan or right.may_be_nan or any(map(math.isinf, ends[0] + ends[1])):
            return None
        results = [compute(one, other) for one, other in product(*ends)]
        return _bounded(results, may_be_absent=left.may_be_absent or right.may_be_absent)

    return bound


def _bounded(results: Iterable[float], *, may_be_absent: bool) -> NumberRange:
    """Return the interval of these results; an integer beyond 64 bits is absent."""
    low, high = min(results := list(results)), max(results)
    if isinstance(low, float):
        return NumberRange(low=low, high=high, may_be_absent=may_be_absent)
    is_beyond = low < _INT_MIN or high > _INT_MAX
    low, high = (max(_INT_MIN, min(_INT_MAX, end)) for end in (low, high))
    return NumberRange(low=low, high=high, may_be_absent=may_be_absent or is_beyond)


def _quotient(dividend: Possible, divisor: Possible) -> Possible | None:
    match dividend, divisor:
        case NumberRange(), NumberRange() if dividend.is_double or divisor.is_double:
            return None if divisor.low <= 0 <= divisor.high else _arithmetic(quotient)(dividend, divisor)
        case _:
            return None


def _negated(value: Possible) -> Possible | None:
    if not isinstance(value, NumberRange):
        return None
    negated = _bounded((-value.low, -value.high), may_be_absent=value.may_be_absent)
    return replace(negated, may_be_nan=value.may_be_nan)


def _double(value: Possible) -> Possible | None:
    return _as_doubles(value) if isinstance(value, NumberRange) else None


def _int(value: Possible) -> Possible | None:
    return value if isinstance(value, NumberRange) and not value.is_double else None


def _size(_value: Possible) -> Possible:
    return NumberRange(low=0, high=_INT_MAX, may_be_absent=True)


def _comparison(sign: str) -> Callable[[Possible, Possible], Possible | None]:
    return lambda left, right: compared(sign, left, right)


def _search(test: Callable[[str, str], bool]) -> Callable[[Possible, Possible], Possible | None]:
    return lambda text, part: _each_pair(test, text, part)


_COMPARISONS: Mapping[str, Callable[[str, str], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
# Each returns None where nothing is known.
_FUNCTIONS: Mapping[str, Callable[..., Possible | None]] = {
    "&&": _and,
    "||": _or,
    "!": _not,
    "?:": _chosen,
    **{sign: _comparison(sign) for sign in _COMPARISONS},
    "+": _arithmetic(operator.add),
    "-": _arithmetic(operator.sub),
    "*": _arithmetic(operator.mul),
    "/": _quotient,
    "negate": _negated,
    "double": _double,
    "int": _int,
    "size": _size,
    "contains": _search(lambda text, part: part in text),
    "startsWith": _search(str.startswith),
    "endsWith": _search(str.endswith),
}
