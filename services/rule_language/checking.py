"""Checking what a rule says, with the place of the mistake."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.rule_language.checked_expr import part_of, tree_of
from services.rule_language.costs import excess
from services.rule_language.diagnostics import ExpressionError, explained, mistake_at
from services.rule_language.environment import Language, Program, RefusedError, events, windows
from services.rule_language.syntax_tree import Node, ValueKind, names

MAX_CHARACTERS = 4096


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression that was checked; two are equal when they mean the same, however they are spaced."""

    text: str = field(compare=False)
    tree: Node
    names: frozenset[str]
    _language: Language = field(compare=False, repr=False)
    _program: Program = field(compare=False, repr=False)

    def evaluate(self, values: Mapping[str, object]) -> bool | None:
        """Judge one event or window by CEL itself: slow, and what every faster way has to agree with.

        Leave absent fields out of `values`. None: the answer depends on something absent or impossible, such as a
        division by zero; the event is not selected. Raises GivenUpError.
        """
        return self._program.evaluate(values)

    def part(self, node: Node) -> "Expression":
        """A node of the tree, which must be true or false itself, as an expression of its own."""
        program = self._language.load(part_of(self._program.wire, node.place.id))
        return Expression(self.text, node, self.names.intersection(names(node)), self._language, program)


# The same few texts are checked when a rule is written, compared and compiled; many rules share a condition.
@functools.lru_cache(maxsize=256)
def check_filter(text: str) -> Expression:
    """Check a filter or scope; ExpressionError when it is not allowed."""
    return _check(text, events())


@functools.lru_cache(maxsize=256)
def check_condition(text: str) -> Expression:
    """Check a condition; ExpressionError when it is not allowed."""
    return _check(text, windows())


def reads_total(condition: Expression) -> bool:
    """Whether a condition depends on how many events the scope selects."""
    return not condition.names.isdisjoint({"total", "rate"})


def _check(text: str, language: Language) -> Expression:
    if len(text) > MAX_CHARACTERS:
        raise ExpressionError(text, mistake_at(text, MAX_CHARACTERS, f"longer than {MAX_CHARACTERS} characters"))
    if not text.strip():
        raise ExpressionError(text, mistake_at(text, 0, "is empty", expected=("an expression that is true or false",)))
    try:
        program = language.compile(text)
    except RefusedError as refused:
        raise ExpressionError(text, explained(refused.complaint, text, language)) from None
    tree = tree_of(program.wire, language.constants)
    _refuse_other_than_bool(tree, text)
    _refuse_excess(tree, text)
    return Expression(text, tree, names(tree).intersection(language.fields), language, program)


def _refuse_other_than_bool(tree: Node, text: str) -> None:
    if tree.kind is not ValueKind.BOOL:
        found = "list or map" if tree.kind is ValueKind.OTHER else tree.kind.value
        raise ExpressionError(
            text, mistake_at(text, 0, f"must be true or false, but is of type {found}", expected=("a comparison",))
        )


def _refuse_excess(tree: Node, text: str) -> None:
    if found := excess(tree):
        place = found.node.place.offset
        raise ExpressionError(text, mistake_at(text, place, found.description, expected=found.expected))
