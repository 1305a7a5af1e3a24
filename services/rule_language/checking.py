"""Check the expressions of a rule; a refused one gets a diagnostic with its place."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.rule_language.checked_expr import extract_part, parse_tree
from services.rule_language.costs import find_violation
from services.rule_language.diagnostics import ExpressionError, diagnostic_at, explain, type_names
from services.rule_language.environment import CelProgram, CompileError, Language, event_language, window_language
from services.rule_language.syntax_tree import Node, ValueKind, names

MAX_CHARACTERS = 4096


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression that was checked; two are equal when they mean the same, however they are spaced."""

    text: str = field(compare=False)
    tree: Node
    names: frozenset[str]
    _language: Language = field(compare=False, repr=False)
    _program: CelProgram = field(compare=False, repr=False)

    def evaluate(self, values: Mapping[str, object]) -> bool | None:
        """Judge one event or window by CEL itself: slow, and what every faster way has to agree with.

        Leave absent fields out of `values`. Return None where the outcome depends on something absent or impossible,
        such as a division by zero; the event is not selected. Raise StepLimitError.
        """
        return self._program.evaluate(values)

    def part(self, node: Node) -> "Expression":
        """Return a node of the tree, which must be a boolean itself, as an expression of its own."""
        program = self._language.load(extract_part(self._program.serialized, node.place.id))
        return Expression(self.text, node, self.names.intersection(names(node)), self._language, program)


# The same few texts are checked when a rule is written, compared and compiled; many rules share a condition.
@functools.lru_cache(maxsize=256)
def check_filter(text: str) -> Expression:
    """Check a filter or scope; raise ExpressionError when it is not allowed."""
    return _check(text, event_language())


@functools.lru_cache(maxsize=256)
def check_condition(text: str) -> Expression:
    """Check a condition; raise ExpressionError when it is not allowed."""
    return _check(text, window_language())


def reads_total(condition: Expression) -> bool:
    """Whether a condition depends on how many events the scope selects."""
    return not condition.names.isdisjoint({"total", "rate"})


def _check(text: str, language: Language) -> Expression:
    if len(text) > MAX_CHARACTERS:
        raise ExpressionError(text, diagnostic_at(text, MAX_CHARACTERS, f"longer than {MAX_CHARACTERS} characters"))
    if not text.strip():
        raise ExpressionError(text, diagnostic_at(text, 0, "is empty", expected=("a boolean expression",)))
    try:
        program = language.compile(text)
    except CompileError as error:
        raise ExpressionError(text, explain(error.message, text, language)) from None
    tree = parse_tree(program.serialized, language.constants)
    _require_boolean(tree, text)
    _require_limits(tree, text)
    return Expression(text, tree, names(tree).intersection(language.fields), language, program)


def _require_boolean(tree: Node, text: str) -> None:
    if tree.kind is not ValueKind.BOOL:
        found = "list or map" if tree.kind is ValueKind.OTHER else type_names(tree.kind.value)
        description = f"must be a boolean, but is of type {found}"
        raise ExpressionError(text, diagnostic_at(text, 0, description, expected=("a comparison",)))


def _require_limits(tree: Node, text: str) -> None:
    if violation := find_violation(tree):
        place = violation.node.place.offset
        raise ExpressionError(text, diagnostic_at(text, place, violation.description, expected=violation.expected))
