"""What an expression may cost, checked when it is written: its parts, its patterns, and its steps for one event.

Nothing that is judged can be stopped half-way, so what is allowed must be cheap enough at its worst: a message of
32 KiB, an event with as many attributes as ingest takes by default.
"""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from services.rule_language.environment import regex_error
from services.rule_language.syntax_tree import Call, Constant, Field, Listing, Node, Opaque, ValueKind, children, walk

MAX_PARTS = 1000
MAX_JOINS = 4
MAX_PATTERNS = 32
MAX_STEPS = 20_000

# How often RE2 takes all patterns of an expression one after another before it calls them too large: that is, which
# share of RE2's own limit (8 MiB of program) they may use.
_PATTERN_COPIES = 32
_TOO_LARGE = "pattern too large"
# Characters of all patterns, those in loops as often as they are compiled.
_PATTERN_TEXT = 8192
# How many attributes a loop goes over.
_ATTRIBUTES = 32
# A search or a copy of a long text takes as long as so many comparisons of numbers.
_TEXT_STEPS = 20


class Excess(NamedTuple):
    """A node that is not allowed, what is wrong with it, and what would be right there."""

    node: Node
    description: str
    expected: tuple[str, ...] = ()


def excess(tree: Node) -> Excess | None:
    """Give the first thing that makes an expression cost too much, or that is no pattern; None when all is well."""
    return next(_excesses(tree), None)


def _excesses(tree: Node) -> Iterator[Excess]:
    """Each check relies on those before it, which bound what it has to look at."""
    if beyond := next(islice(walk(tree), MAX_PARTS, None), None):
        yield Excess(beyond, f"has more than {MAX_PARTS} parts (names, values and operators)")
    if beyond := next(islice(filter(_is_join, walk(tree)), MAX_JOINS, None), None):
        yield Excess(beyond, f"joins texts with + more than {MAX_JOINS} times")
    calls = [(node, times) for node, times in _repeated(tree) if isinstance(node, Call)]
    yield from _in_patterns([(call.arguments[1], times) for call, times in calls if call.function == "matches"])
    if _steps(tree) > MAX_STEPS:
        costly = max(filter(_is_loop, walk(tree)), key=_steps)
        yield Excess(costly, f"takes more than {MAX_STEPS} steps for one event: a loop in a loop multiplies them")


def _in_patterns(patterns: list[tuple[Node, int]]) -> Iterator[Excess]:
    """Patterns, each with how often it is compiled: once for a fetch, but in a loop for each item of each event."""
    if len(patterns) > MAX_PATTERNS:
        yield Excess(patterns[MAX_PATTERNS][0], f"has more than {MAX_PATTERNS} patterns; join them with |")
    texts = []
    for node, _ in patterns:
        match node:
            case Constant(value=str(text)):
                texts.append(text)
            case _:
                yield Excess(node, "a pattern must be written out", ("a text in quotes",))
    sizes = [times * len(text) for text, (_, times) in zip(texts, patterns, strict=True)]
    repeated = (f"(?:{text})" * times for text, (_, times) in zip(texts, patterns, strict=True))
    obstacle = _obstacle("".join(repeated) * _PATTERN_COPIES) if sum(sizes) <= _PATTERN_TEXT else _TOO_LARGE
    if _TOO_LARGE in obstacle:
        whose = "this pattern is" if len(patterns) == 1 else "the patterns of one expression are together"
        largest, _ = patterns[sizes.index(max(sizes))]
        why = "repetitions such as {1000}, classes such as \\pL and loops around it make it so"
        yield Excess(largest, f"{whose} too large: {why}")
    for (node, _), text in zip(patterns, texts, strict=True):
        if mistake := regex_error(text):
            yield Excess(node, f"not a regular expression of RE2: {mistake}")
    if obstacle:
        yield Excess(patterns[0][0], "a pattern must close \\Q with \\E")


def _obstacle(pattern: str) -> str:
    """Say what RE2 has against a pattern, as the library that searches columns has it; empty when nothing."""
    try:
        pc.match_substring_regex(pa.array([""]), pattern)
    except pa.ArrowInvalid as error:
        return str(error)
    return ""


def _steps(node: Node) -> int:
    """How often something is computed for one event, at most."""
    return sum(_own_steps(one) * times for one, times in _repeated(node))


def _repeated(node: Node, times: int = 1) -> Iterator[tuple[Node, int]]:
    """Give the node and all below it, each with how often it is computed for one event, at most."""
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
            return _TEXT_STEPS
        case Call() if _is_join(node):
            return _TEXT_STEPS
        case _:
            return 1


def _length(items: Node) -> int:
    """How many items a loop goes over, at most."""
    listed = (len(node.elements) for node in walk(items) if isinstance(node, Listing))
    has_attributes = any(isinstance(node, Field) for node in walk(items))
    return max(_ATTRIBUTES if has_attributes else 1, *listed, 1)


def _is_join(node: Node) -> bool:
    return isinstance(node, Call) and node.function == "+" and node.kind is ValueKind.STRING


def _is_loop(node: Node) -> bool:
    return isinstance(node, Opaque) and node.form == "LOOP"
