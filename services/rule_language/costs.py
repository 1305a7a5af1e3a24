"""Limits on what an expression costs, checked when it is written: its parts, its patterns, its steps for one event.

An evaluation cannot be stopped half-way, so what is allowed must be cheap enough in the worst case: a message of
32 KiB, an event with as many attributes as ingest takes by default.
"""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from services.rule_language.environment import regex_error
from services.rule_language.syntax_tree import (
    Call,
    Constant,
    FieldRef,
    Listing,
    Node,
    Opaque,
    ValueKind,
    children,
    walk,
)

MAX_PARTS = 1000
MAX_CONCATENATIONS = 4
MAX_PATTERNS = 32
MAX_STEPS = 20_000

# All patterns of an expression, repeated so many times, must fit RE2's own limit (8 MiB of program): they may use this
# share of it.
_PATTERN_COPIES = 32
_TOO_LARGE = "pattern too large"
# Characters of all patterns, those in loops as often as they are compiled.
_MAX_PATTERN_CHARACTERS = 8192
# How many attributes a loop is assumed to go over.
_ATTRIBUTES = 32
# A search or a copy of a long string takes as long as so many comparisons of numbers.
_STRING_STEPS = 20


class LimitViolation(NamedTuple):
    """A node that is not allowed, what is wrong with it, and what is expected there."""

    node: Node
    description: str
    expected: tuple[str, ...] = ()


def find_violation(tree: Node) -> LimitViolation | None:
    """Return the first node that costs too much or is an invalid pattern; None when the expression is allowed."""
    return next(_violations(tree), None)


def _violations(tree: Node) -> Iterator[LimitViolation]:
    """Yield what is not allowed. Each check relies on those before it, which bound what it has to look at."""
    if beyond := next(islice(walk(tree), MAX_PARTS, None), None):
        yield LimitViolation(beyond, f"has more than {MAX_PARTS} parts (names, values and operators)")
    if beyond := next(islice(filter(_is_concatenation, walk(tree)), MAX_CONCATENATIONS, None), None):
        yield LimitViolation(beyond, f"concatenates strings with + more than {MAX_CONCATENATIONS} times")
    calls = [(node, times) for node, times in _repeated(tree) if isinstance(node, Call)]
    if patterns := [(call.arguments[1], times) for call, times in calls if call.function == "matches"]:
        yield from _pattern_violations(patterns)
    if _steps(tree) > MAX_STEPS:
        costly = max(filter(_is_loop, walk(tree)), key=_steps)
        yield LimitViolation(
            costly, f"takes more than {MAX_STEPS} steps for one event: a loop in a loop multiplies them"
        )


def _pattern_violations(patterns: list[tuple[Node, int]]) -> Iterator[LimitViolation]:
    """Check patterns, each with how often it is compiled: once a fetch, but in a loop for each item of each event."""
    if len(patterns) > MAX_PATTERNS:
        yield LimitViolation(patterns[MAX_PATTERNS][0], f"has more than {MAX_PATTERNS} patterns; join them with |")
    texts = []
    for node, _ in patterns:
        match node:
            case Constant(value=str(text)):
                texts.append(text)
            case _:
                yield LimitViolation(node, "a pattern must be a literal", ("a string in quotes",))
    sizes = [times * len(text) for text, (_, times) in zip(texts, patterns, strict=True)]
    repeated = (f"(?:{text})" * times for text, (_, times) in zip(texts, patterns, strict=True))
    is_short = sum(sizes) <= _MAX_PATTERN_CHARACTERS
    re2_error = _re2_error("".join(repeated) * _PATTERN_COPIES) if is_short else _TOO_LARGE
    if _TOO_LARGE in re2_error:
        subject = "this pattern is" if len(patterns) == 1 else "the patterns of one expression are together"
        largest, _ = patterns[sizes.index(max(sizes))]
        why = "repetitions such as {1000}, classes such as \\pL and loops around it make it so"
        yield LimitViolation(largest, f"{subject} too large: {why}")
    for (node, _), text in zip(patterns, texts, strict=True):
        if error := regex_error(text):
            yield LimitViolation(node, f"not a regular expression of RE2: {error}")
    if re2_error:
        yield LimitViolation(patterns[0][0], "a pattern must close \\Q with \\E")


def _re2_error(pattern: str) -> str:
    """Return why RE2 in the columns library refuses a pattern; an empty string when it takes it."""
    # The manager needs it for nothing else, and it would be a seventh of its start.
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    try:
        pc.match_substring_regex(pa.array([""]), pattern)
    except pa.ArrowInvalid as error:
        return str(error)
    return ""


def _steps(node: Node) -> int:
    """Return how many steps one event takes at most."""
    return sum(_own_steps(part) * times for part, times in _repeated(node))


def _repeated(node: Node, times: int = 1) -> Iterator[tuple[Node, int]]:
    """Yield the node and all below it, each with how often it is computed for one event at most."""
    if not _is_loop(node):
        yield node, times
        for child in children(node):
            yield from _repeated(child, times)
        return
    items, first, *repeated, last = children(node)
    for child in (items, first, last):
        yield from _repeated(child, times)
    for child in repeated:
        yield from _repeated(child, times * _length(items))


def _own_steps(node: Node) -> int:
    match node:
        case Call(function="matches" | "contains" | "size"):
            return _STRING_STEPS
        case Call() if _is_concatenation(node):
            return _STRING_STEPS
        case _:
            return 1


def _length(items: Node) -> int:
    """Return how many items a loop goes over at most."""
    listed = (len(node.elements) for node in walk(items) if isinstance(node, Listing))
    has_attributes = any(isinstance(node, FieldRef) for node in walk(items))
    return max(_ATTRIBUTES if has_attributes else 1, *listed, 1)


def _is_concatenation(node: Node) -> bool:
    return isinstance(node, Call) and node.function == "+" and node.kind is ValueKind.STRING


def _is_loop(node: Node) -> bool:
    return isinstance(node, Opaque) and node.form == "LOOP"
