"""Lowering: from a checked CEL expression to operations on columns with the same results.

Null stands for what CEL calls an error: an absent value, or one that cannot be computed. Arrow's Kleene operations
treat null as CEL's && and || treat errors. What is not lowered here is evaluated by CEL itself.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import pyarrow as pa
import pyarrow.compute

from services.evaluator.core.match.events import EventColumns
from services.rule_language.environment import parse_double, parse_int
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

# An array of the events' length, or a scalar. pa.ArrowInvalid: some row cannot be computed this way, CEL must do it.
Vector = Any
# The library's own types cannot express "an array or a scalar, as the arguments are".
pc: Any = pyarrow.compute
Lowered = Callable[[EventColumns], Vector]
_Operation = Callable[..., Vector]

_TYPES = {
    ValueKind.BOOL: pa.bool_(),
    ValueKind.INT: pa.int64(),
    ValueKind.DOUBLE: pa.float64(),
    ValueKind.STRING: pa.string(),
}


def lower(node: Node) -> Lowered | None:
    """Lower a node with all below it; None when a part of it must be left to CEL."""
    match node:
        case Call():
            return _lower_call(node)
        case Constant(value=value, kind=kind):
            scalar = _scalar(value, kind)
            return lambda _: scalar
        case _:
            return _lower_column(node)


def _lower_column(node: Node) -> Lowered | None:
    """Lower what stands in the events themselves."""
    match node:
        case FieldRef(kind=ValueKind.INT, name=name):
            return lambda columns: columns.integers(name)
        case FieldRef(kind=ValueKind.STRING | ValueKind.DOUBLE, name=name):
            return lambda columns: columns.column(name)
        case Attribute(key=key):
            return lambda columns: columns.attribute(key)
        case HasAttribute(key=key):
            return lambda columns: pc.is_valid(columns.attribute(key))
        case _:
            return None


def _scalar(value: Scalar | None, kind: ValueKind) -> Vector:
    typed: Any = pa.scalar
    return typed(value, _TYPES[kind])


def _lower_call(call: Call) -> Lowered | None:
    match call.arguments:
        case (item, Listing(elements=elements)) if call.function == "in":
            return _lower_membership(item, elements)
        case (subject, Constant(value=str(pattern))) if call.function in _SEARCHES:
            search = _SEARCHES[call.function]
            return _apply(lambda strings: search(strings, pattern), (subject,))
    operation = _OPERATIONS.get((call.function, *(argument.kind for argument in call.arguments)))
    return operation and _apply(operation, call.arguments)


def _apply(operation: _Operation, arguments: Sequence[Node]) -> Lowered | None:
    lowered = [operand for argument in arguments if (operand := lower(argument)) is not None]
    if len(lowered) < len(arguments):
        return None
    return lambda columns: operation(*(operand(columns) for operand in lowered))


def _lower_membership(item: Node, elements: Sequence[Node]) -> Lowered | None:
    """Lower `value in [constants]`."""
    constants = [element for element in elements if isinstance(element, Constant)]
    if len(constants) < len(elements):
        return None
    if item.kind in {ValueKind.INT, ValueKind.STRING} and all(constant.kind is item.kind for constant in constants):
        typed: Any = pa.array
        listed = typed([constant.value for constant in constants], _TYPES[item.kind])
        return _apply(functools.partial(_is_in, listed), (item,))
    scalars = [_scalar(constant.value, constant.kind) for constant in constants]
    return _apply(functools.partial(_equals_any, scalars), (item,))


def _is_in(listed: Vector, item: Vector) -> Vector:
    return pc.if_else(pc.is_valid(item), pc.is_in(item, value_set=listed), _scalar(None, ValueKind.BOOL))


def _equals_any(scalars: Sequence[Vector], item: Vector) -> Vector:
    none = pc.if_else(pc.is_valid(item), False, _scalar(None, ValueKind.BOOL))
    return functools.reduce(lambda equal, scalar: pc.or_kleene(equal, pc.equal(item, scalar)), scalars, none)


def _concatenate(left: Vector, right: Vector) -> Vector:
    return pc.binary_join_element_wise(left, right, "")


def _size(string: Vector) -> Vector:
    return pc.cast(pc.utf8_length(string), pa.int64())


def _unchanged(number: Vector) -> Vector:
    return number


def _to_double(number: Vector) -> Vector:
    return pc.cast(number, pa.float64(), safe=False)


def _integer_quotient(left: Vector, right: Vector) -> Vector:
    """Divide, cut towards zero; null where the divisor is zero."""
    return pc.divide_checked(left, pc.if_else(pc.equal(right, 0), _scalar(None, ValueKind.INT), right))


def _remainder(left: Vector, right: Vector) -> Vector:
    """Return the remainder, with the sign of the dividend."""
    return pc.subtract_checked(left, pc.multiply_checked(_integer_quotient(left, right), right))


def _truncate(number: Vector) -> Vector:
    """Cut a double towards zero."""
    if pc.any(pc.invert(pc.less(pc.abs(number), _TRUNCATION_BOUND))).as_py():
        raise pa.ArrowInvalid("beyond 64-bit integers")
    return pc.cast(pc.trunc(number), pa.int64())


def _parse(pattern: str, kind: ValueKind, parse: Callable[[str], int | float | None]) -> _Operation:
    """Parse strings as numbers: plain spellings by Arrow, others by CEL, each distinct string once."""

    def operation(strings: Vector) -> Vector:
        if isinstance(strings, pa.Scalar):
            return _scalar(None if strings.as_py() is None else parse(strings.as_py()), kind)
        encoded = pc.dictionary_encode(strings)
        distinct = encoded.dictionary
        is_plain = pc.match_substring_regex(distinct, pattern)
        numbers = pc.cast(pc.if_else(is_plain, distinct, _scalar(None, ValueKind.STRING)), _TYPES[kind])
        others = [parse(string) for string in distinct.filter(pc.invert(is_plain)).to_pylist()]
        typed: Any = pa.array
        return pc.replace_with_mask(numbers, pc.invert(is_plain), typed(others, _TYPES[kind])).take(encoded.indices)

    return operation


def _as_doubles(operation: _Operation) -> _Operation:
    return lambda left, right: operation(_to_double(left), _to_double(right))


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
_INTEGER_ARITHMETIC: Mapping[str, _Operation] = {
    "+": pc.add_checked,
    "-": pc.subtract_checked,
    "*": pc.multiply_checked,
    "/": _integer_quotient,
}
_DOUBLE_ARITHMETIC: Mapping[str, _Operation] = {"+": pc.add, "-": pc.subtract, "*": pc.multiply, "/": pc.divide}

_BOOL, _INT, _DOUBLE, _STRING = ValueKind.BOOL, ValueKind.INT, ValueKind.DOUBLE, ValueKind.STRING
_COMPARABLE = [*product((_INT, _DOUBLE), repeat=2), (_STRING, _STRING), (_BOOL, _BOOL)]

# Below this, a double cut towards zero surely fits a 64-bit integer.
_TRUNCATION_BOUND = 2.0**62

# What computes a function, by its name and the types of its arguments.
_OPERATIONS: Mapping[tuple[str | ValueKind, ...], _Operation] = {
    ("&&", _BOOL, _BOOL): pc.and_kleene,
    ("||", _BOOL, _BOOL): pc.or_kleene,
    ("!", _BOOL): pc.invert,
    **{("?:", _BOOL, kind, kind): pc.if_else for kind in _TYPES},
    **{(sign, *kinds): compare for sign, compare in _COMPARISONS.items() for kinds in _COMPARABLE},
    **{
        (sign, *kinds): _as_doubles(compute)
        for sign, compute in _DOUBLE_ARITHMETIC.items()
        for kinds in product((_INT, _DOUBLE), repeat=2)
    },
    **{(sign, _INT, _INT): compute for sign, compute in _INTEGER_ARITHMETIC.items()},
    ("%", _INT, _INT): _remainder,
    ("+", _STRING, _STRING): _concatenate,
    ("negate", _INT): pc.negate_checked,
    ("negate", _DOUBLE): pc.negate,
    ("size", _STRING): _size,
    ("int", _INT): _unchanged,
    ("double", _DOUBLE): _unchanged,
    ("double", _INT): _to_double,
    ("int", _DOUBLE): _truncate,
    ("int", _STRING): _parse(r"^-?[0-9]{1,18}$", _INT, parse_int),
    ("double", _STRING): _parse(r"^-?[0-9]{1,18}(\.[0-9]{1,18})?$", _DOUBLE, parse_double),
}
