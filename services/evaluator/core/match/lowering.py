"""Operations on columns that say the same as a checked expression.

Null is what CEL calls an error: something absent, or what cannot be computed. Arrow's Kleene operations treat null as
CEL's && and || treat errors. What is not lowered here is left to CEL itself.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import pyarrow as pa
import pyarrow.compute

from services.evaluator.core.match.events import Columns
from services.rule_language.environment import double_of, int_of
from services.rule_language.syntax_tree import (
    Attribute,
    Call,
    Constant,
    Field,
    HasAttribute,
    Kind,
    Listing,
    Node,
    Scalar,
)

# An array of the events' length, or a scalar. pa.ArrowInvalid: some row cannot be computed this way; ask CEL.
Vector = Any
# The library's own types cannot say "an array or a scalar, as the arguments are".
pc: Any = pyarrow.compute
Lowered = Callable[[Columns], Vector]
_Operation = Callable[..., Vector]

_TYPES = {Kind.BOOL: pa.bool_(), Kind.INT: pa.int64(), Kind.DOUBLE: pa.float64(), Kind.STRING: pa.string()}


def lower(node: Node) -> Lowered | None:
    """Lower a node with all below it; None when something in it has to be left to CEL."""
    match node:
        case Call():
            return _call(node)
        case Constant(value=value, kind=kind):
            scalar = _scalar(value, kind)
            return lambda _: scalar
        case _:
            return _column(node)


def _column(node: Node) -> Lowered | None:
    """What stands in the events themselves."""
    match node:
        case Field(kind=Kind.INT, name=name):
            return lambda columns: columns.integers(name)
        case Field(kind=Kind.STRING | Kind.DOUBLE, name=name):
            return lambda columns: columns.column(name)
        case Attribute(key=key):
            return lambda columns: columns.attribute(key)
        case HasAttribute(key=key):
            return lambda columns: pc.is_valid(columns.attribute(key))
        case _:
            return None


def _scalar(value: Scalar | None, kind: Kind) -> Vector:
    typed: Any = pa.scalar
    return typed(value, _TYPES[kind])


def _call(call: Call) -> Lowered | None:
    match call.arguments:
        case (item, Listing(elements=elements)) if call.function == "in":
            return _membership(item, elements)
        case (subject, Constant(value=str(pattern))) if call.function in _SEARCHES:
            search = _SEARCHES[call.function]
            return _applied(lambda texts: search(texts, pattern), (subject,))
    operation = _OPERATIONS.get((call.function, *(argument.kind for argument in call.arguments)))
    return operation and _applied(operation, call.arguments)


def _applied(operation: _Operation, arguments: Sequence[Node]) -> Lowered | None:
    lowered = [one for argument in arguments if (one := lower(argument)) is not None]
    if len(lowered) < len(arguments):
        return None
    return lambda columns: operation(*(one(columns) for one in lowered))


def _membership(item: Node, elements: Sequence[Node]) -> Lowered | None:
    """Whether a value is one of some constants."""
    constants = [element for element in elements if isinstance(element, Constant)]
    if len(constants) < len(elements):
        return None
    if item.kind in {Kind.INT, Kind.STRING} and all(constant.kind is item.kind for constant in constants):
        typed: Any = pa.array
        listed = typed([constant.value for constant in constants], _TYPES[item.kind])
        return _applied(functools.partial(_one_of, listed), (item,))
    scalars = [_scalar(constant.value, constant.kind) for constant in constants]
    return _applied(functools.partial(_equal_to_any, scalars), (item,))


def _one_of(listed: Vector, item: Vector) -> Vector:
    return pc.if_else(pc.is_valid(item), pc.is_in(item, value_set=listed), _scalar(None, Kind.BOOL))


def _equal_to_any(scalars: Sequence[Vector], item: Vector) -> Vector:
    none = pc.if_else(pc.is_valid(item), False, _scalar(None, Kind.BOOL))
    return functools.reduce(lambda found, scalar: pc.or_kleene(found, pc.equal(item, scalar)), scalars, none)


def _joined(left: Vector, right: Vector) -> Vector:
    return pc.binary_join_element_wise(left, right, "")


def _size(text: Vector) -> Vector:
    return pc.cast(pc.utf8_length(text), pa.int64())


def _same(number: Vector) -> Vector:
    return number


def _as_double(number: Vector) -> Vector:
    return pc.cast(number, pa.float64(), safe=False)


def _whole_quotient(left: Vector, right: Vector) -> Vector:
    """Nothing can be divided by zero: null."""
    return pc.divide_checked(left, pc.if_else(pc.equal(right, 0), _scalar(None, Kind.INT), right))


def _remainder(left: Vector, right: Vector) -> Vector:
    """With the sign of the dividend."""
    return pc.subtract_checked(left, pc.multiply_checked(_whole_quotient(left, right), right))


def _whole_part(number: Vector) -> Vector:
    """Cut towards zero."""
    if pc.any(pc.invert(pc.less(pc.abs(number), _WHOLE_BOUND))).as_py():
        raise pa.ArrowInvalid("beyond what whole numbers can hold")
    return pc.cast(pc.trunc(number), pa.int64())


def _read(pattern: str, kind: Kind, read: Callable[[str], int | float | None]) -> _Operation:
    """Read numbers from texts: at once where they are written plainly, else by CEL, each different text once."""

    def operation(texts: Vector) -> Vector:
        if isinstance(texts, pa.Scalar):
            return _scalar(None if texts.as_py() is None else read(texts.as_py()), kind)
        encoded = pc.dictionary_encode(texts)
        words = encoded.dictionary
        is_plain = pc.match_substring_regex(words, pattern)
        numbers = pc.cast(pc.if_else(is_plain, words, _scalar(None, Kind.STRING)), _TYPES[kind])
        others = [read(word) for word in words.filter(pc.invert(is_plain)).to_pylist()]
        typed: Any = pa.array
        return pc.replace_with_mask(numbers, pc.invert(is_plain), typed(others, _TYPES[kind])).take(encoded.indices)

    return operation


def _on_doubles(operation: _Operation) -> _Operation:
    return lambda left, right: operation(_as_double(left), _as_double(right))


_SEARCHES: Mapping[str, _Operation] = {
    "contains": pc.match_substring,
    "startsWith": pc.starts_with,
    "endsWith": pc.ends_with,
    "matches": pc.match_substring_regex,
}
_COMPARISONS: Mapping[str, _Operation] = {
    "==": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
_WHOLE: Mapping[str, _Operation] = {
    "+": pc.add_checked,
    "-": pc.subtract_checked,
    "*": pc.multiply_checked,
    "/": _whole_quotient,
}
_BROKEN: Mapping[str, _Operation] = {"+": pc.add, "-": pc.subtract, "*": pc.multiply, "/": pc.divide}

_BOOL, _INT, _DOUBLE, _STRING = Kind.BOOL, Kind.INT, Kind.DOUBLE, Kind.STRING
_COMPARABLE = [*product((_INT, _DOUBLE), repeat=2), (_STRING, _STRING), (_BOOL, _BOOL)]

# Below this, a double cut towards zero is surely a whole number of 64 bits.
_WHOLE_BOUND = 2.0**62

# What computes a function of arguments of these types.
_OPERATIONS: Mapping[tuple[str | Kind, ...], _Operation] = {
    ("&&", _BOOL, _BOOL): pc.and_kleene,
    ("||", _BOOL, _BOOL): pc.or_kleene,
    ("!", _BOOL): pc.invert,
    **{("?:", _BOOL, kind, kind): pc.if_else for kind in _TYPES},
    **{(sign, *kinds): compare for sign, compare in _COMPARISONS.items() for kinds in _COMPARABLE},
    **{
        (sign, *kinds): _on_doubles(compute)
        for sign, compute in _BROKEN.items()
        for kinds in product((_INT, _DOUBLE), repeat=2)
    },
    **{(sign, _INT, _INT): compute for sign, compute in _WHOLE.items()},
    ("%", _INT, _INT): _remainder,
    ("+", _STRING, _STRING): _joined,
    ("negate", _INT): pc.negate_checked,
    ("negate", _DOUBLE): pc.negate,
    ("size", _STRING): _size,
    ("int", _INT): _same,
    ("double", _DOUBLE): _same,
    ("double", _INT): _as_double,
    ("int", _DOUBLE): _whole_part,
    ("int", _STRING): _read(r"^-?[0-9]{1,18}$", _INT, int_of),
    ("double", _STRING): _read(r"^-?[0-9]{1,18}(\.[0-9]{1,18})?$", _DOUBLE, double_of),
}
