"""Whether an expression can ever be true: what all parts of a conjunction demand of a field is taken together."""

import math
from dataclasses import replace

from services.rule_language.possible_values import (
    NumberRange,
    Outcomes,
    Possible,
    Ranges,
    Texts,
    name_of,
    possible_values,
)
from services.rule_language.syntax_tree import Call, Listing, Node, conjuncts

_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "=="}
# Up to here a double stands for one integer only.
_EXACT = 2.0**53
_TRUE: Outcomes = frozenset({True})


def can_hold(nodes: list[Node], ranges: Ranges) -> bool:
    """Return whether these can all be true of one event or window; true also where that is not known."""
    narrowed = ranges_where(nodes, ranges)
    return narrowed is not None and all(_can_hold_alone(part, narrowed) for part in _all_conjuncts(nodes))


def ranges_where(nodes: list[Node], ranges: Ranges) -> Ranges | None:
    """Return what the fields can be where these are all true; None when one of them can be nothing."""
    for part in _all_conjuncts(nodes):
        narrowed = _narrowed(part, ranges)
        if narrowed is None:
            return None
        ranges = narrowed
    return ranges


def always_holds(node: Node, ranges: Ranges) -> bool:
    """Return whether this is true of every event or window; false also where that is not known."""
    return possible_values(node, ranges) == _TRUE


def _all_conjuncts(nodes: list[Node]) -> list[Node]:
    return [part for node in nodes for part in conjuncts(node)]


def _can_hold_alone(node: Node, ranges: Ranges) -> bool:
    match node:
        case Call(function="||", arguments=arguments):
            return any(can_hold([argument], ranges) for argument in arguments)
        case _:
            outcomes = possible_values(node, ranges)
            return not isinstance(outcomes, frozenset) or True in outcomes


def _narrowed(node: Node, ranges: Ranges) -> Ranges | None:
    """Return the ranges of the fields where the node is true; None when one is empty."""
    match node:
        case Call(function="in", arguments=[field, Listing(elements=elements)]) if name_of(field):
            return _replaced(ranges, field, _among(ranges, field, elements))
        case Call(function=sign, arguments=[left, right]) if sign in _MIRRORED:
            for field, other, its_sign in ((left, right, sign), (right, left, _MIRRORED[sign])):
                if name_of(field):
                    given = _compared(its_sign, possible_values(field, ranges), possible_values(other, ranges))
                    narrowed = _replaced(ranges, field, given)
                    if narrowed is None:
                        return None
                    ranges = narrowed
            return ranges
        case _:
            return ranges


def _replaced(ranges: Ranges, field: Node, given: Possible) -> Ranges | None:
    match given:
        case NumberRange(low=low, high=high) if low > high:
            return None
        case Texts(values=values) if values is not None and not values:
            return None
        case _:
            return {**ranges, name_of(field): given}


def _among(ranges: Ranges, field: Node, elements: tuple[Node, ...]) -> Possible:
    """Return what a field can be that is in a list."""
    present = possible_values(field, ranges)
    listed = [possible_values(element, ranges) for element in elements]
    if not isinstance(present, Texts):
        return present
    texts = [each.values for each in listed if isinstance(each, Texts) and each.values is not None]
    return _common(present, frozenset[str]().union(*texts)) if len(texts) == len(listed) else present


def _compared(sign: str, field: Possible, other: Possible) -> Possible:
    """Return what a field can be of which a comparison holds."""
    match field, other:
        case Texts(), Texts(values=frozenset() as values) if sign == "==":
            return _common(field, values)
        case NumberRange(), NumberRange():
            present = replace(field, may_be_absent=False, may_be_nan=False)
            low = _least(other.low, field, is_strict=sign == ">") if sign in {">", ">=", "=="} else field.low
            high = -_least(-other.high, field, is_strict=sign == "<") if sign in {"<", "<=", "=="} else field.high
            return replace(present, low=max(field.low, low), high=min(field.high, high))
        case _:
            return field


def _common(field: Texts, values: frozenset[str]) -> Texts:
    return Texts(values=values if field.values is None else field.values & values)


def _least(bound: float, field: NumberRange, *, is_strict: bool) -> float:
    """Return the least number of the field's type that is at least the bound, or above it."""
    if field.is_double:
        return math.nextafter(float(bound), math.inf) if is_strict else float(bound)
    if isinstance(bound, float) and not -_EXACT < bound < _EXACT:
        return -(2**63)
    return math.floor(bound) + 1 if is_strict else math.ceil(bound)
