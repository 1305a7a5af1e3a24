"""What an event must have for a rule to select it: conditions on one field each, which an index can answer.

A filter is split at its && into conjuncts. A conjunct that depends on one field is a term; one that joins terms by ||
is a clause of several. What is left over is evaluated on the events that all clauses let through.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.domain.hyperscan_patterns import (
    Piece,
    pieces,
    positions,
    tells_newline_from_nul,
    trim,
    widen,
)
from services.domain.regex import Assertion, Position, Regex, literal
from services.domain.regex import Sequence as Series
from services.domain.regex_syntax import UnsupportedError, parse_regex
from services.evaluator.core.match.lowering import lower
from services.rule_language.checking import Expression
from services.rule_language.syntax_tree import (
    Attribute,
    Call,
    Constant,
    FieldRef,
    HasAttribute,
    Listing,
    Node,
    ValueKind,
    walk,
)


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the event, or one of its attributes."""

    name: str
    attribute: str | None = None

    @property
    def is_coded(self) -> bool:
        """Whether events share few values, so that it is worthwhile to find the distinct ones."""
        return self.name not in {"message", "trace_id", "response_time"}


@dataclass(frozen=True, slots=True)
class Equals:
    """The field has one of these values."""

    field: Field
    values: frozenset[int | str]


@dataclass(frozen=True, slots=True)
class Differs:
    """The field has a value, and none of these."""

    field: Field
    values: frozenset[int | str]


@dataclass(frozen=True, slots=True)
class Compares:
    """The field is below or above a number."""

    field: Field
    sign: str
    bound: float


@dataclass(frozen=True, slots=True)
class Matches:
    """A pattern is in the field."""

    field: Field
    node: Node
    # Each is in the text wherever the whole is.
    pieces: tuple[Piece, ...]
    whole: Regex
    # Whether the whole is as good as the node; and whether it is also for texts with newlines or NUL.
    is_exact: bool
    is_exact_with_newlines: bool


@dataclass(frozen=True, slots=True)
class Satisfies:
    """Any condition on a field with few values."""

    field: Field
    node: Node


Term = Equals | Differs | Compares | Matches | Satisfies
Clause = frozenset[Term]


@dataclass(frozen=True, slots=True)
class Conditions:
    """An event is selected when in each clause one term is true, and all of the rest."""

    clauses: tuple[Clause, ...]
    rest: tuple[tuple[Expression, Node], ...]
    # For each term the expression that it is a part of.
    sources: dict[Term, Expression]


_SWAPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_SEARCHES = frozenset({"contains", "startsWith", "endsWith", "matches"})
# Doubles are exact up to here.
_EXACT_INTEGERS = 2**53
# What one pattern may cost.
_MAX_POSITIONS = 400


def split(expressions: Sequence[Expression]) -> Conditions:
    """Split what a rule selects into clauses and the rest."""
    clauses: dict[Clause, None] = {}
    rest: list[tuple[Expression, Node]] = []
    sources: dict[Term, Expression] = {}
    for expression in expressions:
        for node in _conjuncts(expression.tree):
            clause = _clause(node)
            if clause is None:
                rest.append((expression, node))
                clause = _cover(node)
            if clause is not None:
                clauses[clause] = None
                sources |= dict.fromkeys(clause, expression)
    return Conditions(tuple(clauses), tuple(rest), sources)


def _conjuncts(node: Node) -> Iterator[Node]:
    match node:
        case Call(function="&&", arguments=arguments):
            for argument in arguments:
                yield from _conjuncts(argument)
        case Call(function="!", arguments=(Call(function="||", arguments=arguments),)):
            for argument in arguments:
                yield from _conjuncts(Call(function="!", arguments=(argument,), kind=ValueKind.BOOL, place=node.place))
        case _:
            yield node


def _clause(node: Node) -> Clause | None:
    """Return terms of which one is true exactly where the node is true; None when there are no such terms."""
    if (terms := _indexed(node)) is not None:
        return terms
    if isinstance(node, Call) and node.function == "||":
        branches = [clause for argument in node.arguments if (clause := _clause(argument)) is not None]
        if len(branches) == len(node.arguments):
            return frozenset().union(*branches)
    field = _only_field(node)
    return frozenset([Satisfies(field, node)]) if field and field.is_coded and lower(node) else None


def _cover(node: Node) -> Clause | None:
    """Return terms of which one is true where the node is true, and maybe elsewhere."""
    match node:
        case Call(function="||", arguments=arguments):
            branches = [_clause(argument) or _cover(argument) for argument in arguments]
            return None if None in branches else frozenset().union(*(branch for branch in branches if branch))
        case Call(function="&&", arguments=arguments):
            covers = [cover for argument in arguments if (cover := _clause(argument) or _cover(argument))]
            return min(covers, key=_looseness, default=None)
        case _:
            return None


def _looseness(clause: Clause) -> int:
    """Estimate how much a clause lets through."""
    return max(_LOOSENESS[type(term)] for term in clause)


_LOOSENESS: dict[type, int] = {Equals: 0, Matches: 1, Compares: 2, Satisfies: 3, Differs: 4}


def _only_field(node: Node) -> Field | None:
    """Return the field that the node depends on; None if it depends on several, or on none."""
    fields = {field for part in walk(node) if (field := _field(part))}
    return fields.pop() if len(fields) == 1 else None


def _field(node: Node) -> Field | None:
    match node:
        case FieldRef(name=name):
            return Field(name)
        case Attribute(key=key) | HasAttribute(key=key):
            return Field("attributes", key)
        case _:
            return None


def _indexed(node: Node) -> Clause | None:
    """Return terms that need no evaluation of the node itself, if there are such."""
    match node:
        case Call(function="==", arguments=(Constant() as constant, subject) | (subject, Constant() as constant)):
            return _equals(node, subject, [constant])
        case Call(function="in", arguments=(subject, Listing(elements=elements))):
            constants = [element for element in elements if isinstance(element, Constant)]
            return _equals(node, subject, constants) if len(constants) == len(elements) else None
        case Call(function="<" | "<=" | ">" | ">=" as sign, arguments=(subject, Constant(value=bound))):
            return _compares(subject, sign, bound)
        case Call(function="<" | "<=" | ">" | ">=" as sign, arguments=(Constant(value=bound), subject)):
            return _compares(subject, _SWAPPED[sign], bound)
        case Call(function=function, arguments=(subject, Constant(value=str(text)))) if function in _SEARCHES:
            return _matches(node, subject, function, text)
        case _:
            return _excluding(node)


def _excluding(node: Node) -> Clause | None:
    """Return the term of a node that is true where a field has a value, and none of some."""
    match node:
        case Call(function="!=", arguments=(Constant() as constant, subject) | (subject, Constant() as constant)):
            excluded = _equals(node, subject, [constant])
        case Call(function="!", arguments=(Call(function="==" | "in") as negated,)):
            excluded = _indexed(negated)
        case _:
            excluded = None
    match tuple(excluded or ()):
        case (Equals(field=field, values=values),):
            return frozenset([Differs(field, values)])
        case _:
            return None


def _equals(node: Node, subject: Node, constants: Sequence[Constant]) -> Clause | None:
    field = _field(subject)
    values = [constant.value for constant in constants if constant.kind is subject.kind]
    if field is None or isinstance(subject, HasAttribute) or len(values) < len(constants) or not values:
        return None
    if field.is_coded and subject.kind in {ValueKind.INT, ValueKind.STRING}:
        return frozenset([Equals(field, frozenset(value for value in values if isinstance(value, int | str)))])
    if subject.kind is ValueKind.STRING:
        found = [_matches(node, subject, "==", str(value)) for value in values]
        return None if None in found else frozenset().union(*(clause for clause in found if clause))
    return None


def _compares(subject: Node, sign: str, bound: object) -> Clause | None:
    if not isinstance(subject, FieldRef) or subject.kind not in {ValueKind.INT, ValueKind.DOUBLE}:
        return None
    if not isinstance(bound, int | float) or not math.isfinite(bound) or abs(bound) > _EXACT_INTEGERS:
        return None
    return frozenset([Compares(Field(subject.name), sign, float(bound))])


def _matches(node: Node, subject: Node, function: str, text: str) -> Clause | None:
    field, searched = _field(subject), _searched(function, text)
    if searched is None or field is None or subject.kind is not ValueKind.STRING:
        return None
    return frozenset([Matches(field, node, *searched)])


# What did not change is split again with each change of the rules.
@functools.lru_cache(maxsize=8192)
def _searched(function: str, text: str) -> tuple[tuple[Piece, ...], Regex, bool, bool] | None:
    """Return the last four members of Matches; None for a pattern that only RE2 can look for."""
    try:
        trimmed = trim(_pattern(function, text))
    except UnsupportedError:
        return None
    whole = widen(trimmed)
    found = pieces(whole)
    if not found or positions(whole) > _MAX_POSITIONS:
        return None
    is_exact = whole == trimmed
    return found, whole, is_exact, is_exact and not tells_newline_from_nul(whole)


def _pattern(function: str, text: str) -> Regex:
    if function == "matches":
        return parse_regex(text)
    return _anchored(text, start=function in {"==", "startsWith"}, end=function in {"==", "endsWith"})


def _anchored(text: str, *, start: bool, end: bool) -> Regex:
    before = [Assertion(Position.START)] if start else []
    after = [Assertion(Position.END)] if end else []
    return Series((*before, *literal(text).parts, *after))
