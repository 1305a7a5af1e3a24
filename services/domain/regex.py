"""Regular expressions as trees.

A tree knows characters, sequences, alternatives, repetitions and assertions; flags, escapes and spellings are gone.
Only whether there is a match counts, not which: greedy and lazy repetitions are the same, as are all kinds of groups.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

MAX_CODE_POINT = 0x10FFFF
MAX_ASCII = 0x7F
# CodeRanges of code points, rising and apart.
CodeRanges = tuple[tuple[int, int], ...]


class Position(Enum):
    """Where an assertion holds; the values are its spelling."""

    START = "^"
    END = "$"
    WORD_BOUNDARY = r"\b"
    NO_WORD_BOUNDARY = r"\B"


@dataclass(frozen=True, slots=True)
class Characters:
    """One character of a set."""

    ranges: CodeRanges


@dataclass(frozen=True, slots=True)
class Sequence:
    """One part after the other."""

    parts: "tuple[Regex, ...]"


@dataclass(frozen=True, slots=True)
class Alternatives:
    """One of several."""

    branches: "tuple[Regex, ...]"


@dataclass(frozen=True, slots=True)
class Repetition:
    """A part so many times; without end when `maximum` is None."""

    part: "Regex"
    minimum: int
    maximum: int | None


@dataclass(frozen=True, slots=True)
class Assertion:
    """A condition on a place between characters."""

    position: Position


Regex = Characters | Sequence | Alternatives | Repetition | Assertion


def merge_ranges(ranges: Iterable[tuple[int, int]]) -> CodeRanges:
    """Return ranges in order and apart."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(merged[-1][1], high)
        else:
            merged.append((low, high))
    return tuple(merged)


def invert(ranges: CodeRanges) -> CodeRanges:
    """Return all other code points."""
    starts = [0, *(high + 1 for _, high in ranges)]
    ends = [*(low - 1 for low, _ in ranges), MAX_CODE_POINT]
    return tuple((start, end) for start, end in zip(starts, ends, strict=True) if start <= end)


def literal(text: str) -> Sequence:
    """Return the tree of a fixed text."""
    return Sequence(tuple(Characters(((ord(character), ord(character)),)) for character in text))


def may_be_empty(tree: Regex, *, at_assertions: bool = True) -> bool:
    """Whether it matches without a character; with `at_assertions` also where one holds."""
    match tree:
        case Characters():
            return False
        case Assertion():
            return at_assertions
        case Sequence(parts=parts):
            return all(may_be_empty(part, at_assertions=at_assertions) for part in parts)
        case Alternatives(branches=branches):
            return any(may_be_empty(branch, at_assertions=at_assertions) for branch in branches)
        case _:
            return not tree.minimum or may_be_empty(tree.part, at_assertions=at_assertions)


def is_ascii(tree: Regex) -> bool:
    """Whether it takes no character beyond ASCII."""
    return all(high <= MAX_ASCII for ranges in character_sets(tree) for _, high in ranges)


def character_sets(tree: Regex) -> Iterator[CodeRanges]:
    """Yield the sets of characters of the tree."""
    match tree:
        case Characters(ranges=ranges):
            yield ranges
        case Sequence(parts=parts) | Alternatives(branches=parts):
            for part in parts:
                yield from character_sets(part)
        case Repetition(part=part):
            yield from character_sets(part)
        case _:
            return


def takes(ranges: CodeRanges, code: int) -> bool:
    """Whether a code point is in the ranges."""
    return any(low <= code <= high for low, high in ranges)
