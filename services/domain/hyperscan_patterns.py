"""How Hyperscan is given a regular expression.

Hyperscan scans many texts at once, with newlines between them. Inside of the texts NUL stands in for newlines, and no
pattern takes a newline, so no match reaches from one text into the next. What takes a newline or NUL in the tree takes
NUL here. So a match of the tree is never missed, and one is invented at most in a text that has a newline or NUL, and
only if some set of characters has one of these two and not the other (`tells_newline_from_nul`).

Behind the last text stands END: where a newline, or nothing, follows the end of a line at the end of what is scanned,
Hyperscan misses matches of `$`, also some of earlier lines. What it reports in END itself is to be dropped.

A pattern like `backend-7 .*retries` is not scanned as a whole: with a thousand of them, each `retries` in a text would
concern them all. Only one piece between such gaps is looked for, and what it proposes is confirmed.
Where it is the first piece, and the gap takes any character, the rest only has to come somewhere after its first match.
"""

from dataclasses import dataclass
from itertools import pairwise

from services.domain.regex import (
    MAX_ASCII,
    Alternatives,
    Assertion,
    Characters,
    CodeRanges,
    Position,
    Regex,
    Repetition,
    Sequence,
    character_sets,
    invert,
    may_be_empty,
    merge_ranges,
    takes,
)

# The end of the last line, and something that is not one.
END = b"\n\0"
# Repetitions of more than this become unlimited: a counted one costs as much as its text written out.
MAX_COUNTED = 16
# A repetition of this many characters, without a limit, is a gap.
_WIDE = 128
# Characters that stand for one letter in either case.
_CASES = 2
_NEWLINE = ord("\n")
# Code points that no text has: halves of UTF-16.
_SURROGATES = (0xD800, 0xDFFF)


def trim(tree: Regex) -> Regex:
    """Cut what may be empty off both ends: there is a match with it where there is one without.

    A pattern that ends in .* would otherwise be reported once for each character.
    """
    return _trim(_trim(tree, -1), 0)


def _trim(tree: Regex, end: int) -> Regex:
    match tree:
        case Sequence(parts=parts):
            rest = list(parts)
            while rest and may_be_empty(rest[end], at_assertions=False):
                del rest[end]
            if rest:
                rest[end] = _trim(rest[end], end)
            return Sequence(tuple(rest))
        case Alternatives(branches=branches):
            return Alternatives(tuple(_trim(branch, end) for branch in branches))
        case Repetition(part=part, minimum=minimum) if minimum:
            repeated = [Repetition(part, minimum - 1, minimum - 1)] if minimum > 1 else []
            last = _trim(part, end)
            return Sequence((last, *repeated) if end == 0 else (*repeated, last))
        case _:
            return tree


def widen(tree: Regex) -> Regex:
    """Return a tree without large counted repetitions, which matches all that the tree does and may match more."""
    match tree:
        case Sequence(parts=parts):
            return Sequence(tuple(map(widen, parts)))
        case Alternatives(branches=branches):
            return Alternatives(tuple(map(widen, branches)))
        case Repetition(part=part, minimum=minimum, maximum=maximum):
            is_large = max(minimum, maximum or 0) > MAX_COUNTED
            return Repetition(widen(part), min(minimum, MAX_COUNTED), None if is_large else maximum)
        case _:
            return tree


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a tree between gaps: it is in a text wherever the tree is."""

    tree: Regex
    # How many characters in a row are given, at least.
    fixed_length: int
    # Whether the tree is wherever the piece is: there are no gaps.
    is_all: bool
    # What is behind its first match in just those texts in which the tree is; None where there is no such thing. In
    # texts with newlines or NUL only if no set of characters in the tree has just one of the two.
    rest: Regex | None = None


def pieces(tree: Regex) -> tuple[Piece, ...]:
    """Return the parts between gaps that are never empty."""
    parts = _flat(tree)
    gaps = [place for place, part in enumerate(parts) if _is_gap(part)]
    found = []
    for before, behind in pairwise([-1, *gaps, len(parts)]):
        piece = trim(Sequence(tuple(parts[before + 1 : behind])))
        if not may_be_empty(piece):
            rest = _rest(parts[behind:]) if before < 0 else None
            found.append(Piece(piece, _fixed_length(piece), is_all=not gaps, rest=rest))
    return tuple(found)


def rarest_piece(tree: Regex) -> Regex:
    """Return the part between gaps that has the longest fixed text; an empty one if all of them may be empty."""
    return max(pieces(tree), key=lambda piece: piece.fixed_length).tree if pieces(tree) else Sequence(())


def _rest(parts: list[Regex]) -> Regex | None:
    """Return what is behind the first match of a piece wherever these parts follow one of its matches."""
    match parts:
        case [Repetition(part=Characters(ranges=ranges) as part, minimum=minimum), *others]:
            takes_any = not invert(merge_ranges([*ranges, (_NEWLINE, _NEWLINE)]))
            rest = trim(Sequence((*[part] * minimum, *others)))
            return rest if takes_any and not may_be_empty(rest) and not _looks_back(rest) else None
        case _:
            return None


def _looks_back(tree: Regex) -> bool:
    """Whether it may depend on what is before it."""
    match tree:
        case Assertion(position=position):
            return position is not Position.END
        case Sequence(parts=parts) | Alternatives(branches=parts):
            return any(map(_looks_back, parts))
        case Repetition(part=part):
            return _looks_back(part)
        case _:
            return False


def _flat(tree: Regex) -> list[Regex]:
    return [each for part in tree.parts for each in _flat(part)] if isinstance(tree, Sequence) else [tree]


def _is_gap(part: Regex) -> bool:
    match part:
        case Repetition(part=Characters(ranges=ranges), maximum=None):
            return sum(high - low + 1 for low, high in ranges) >= _WIDE
        case _:
            return False


def _fixed_length(tree: Regex) -> int:
    """Return how many characters in a row are given, at least."""
    match tree:
        case Characters(ranges=ranges):
            return int(sum(high - low + 1 for low, high in ranges) <= _CASES)
        case Sequence():
            longest = run = 0
            for part in _flat(tree):
                length = _fixed_length(part)
                run = run + 1 if length and isinstance(part, Characters) else 0
                longest = max(longest, run, length)
            return longest
        case Alternatives(branches=branches):
            return min(map(_fixed_length, branches))
        case Repetition(part=part, minimum=minimum) if minimum:
            return _fixed_length(part)
        case _:
            return 0


def positions(tree: Regex) -> int:
    """Return how many characters it has, each counted as often as it may be repeated: what compiling it costs."""
    match tree:
        case Characters():
            return 1
        case Assertion():
            return 0
        case Sequence(parts=parts) | Alternatives(branches=parts):
            return sum(map(positions, parts))
        case _:
            return positions(tree.part) * max(tree.minimum, tree.maximum or 1)


def tells_newline_from_nul(tree: Regex) -> bool:
    """Whether some set of characters has only one of the two."""
    return any(takes(ranges, _NEWLINE) != takes(ranges, 0) for ranges in character_sets(tree))


def to_hyperscan(tree: Regex) -> str:
    """Return the pattern for texts that are each followed by a newline, with NUL instead of newlines inside."""
    match tree:
        case Characters(ranges=ranges):
            return _spell_set(_without_newline(ranges))
        case Assertion(position=position):
            return position.value
        case Sequence(parts=parts):
            return "".join(map(to_hyperscan, parts))
        case Alternatives(branches=branches):
            return f"(?:{'|'.join(map(to_hyperscan, branches))})"
        case _:
            return f"(?:{to_hyperscan(tree.part)}){{{tree.minimum},{'' if tree.maximum is None else tree.maximum}}}"


def _without_newline(ranges: CodeRanges) -> CodeRanges:
    if not takes(ranges, _NEWLINE):
        return ranges
    return invert(merge_ranges([*invert(merge_ranges([*ranges, (0, 0)])), (_NEWLINE, _NEWLINE)]))


def _spell_set(ranges: CodeRanges) -> str:
    apart = invert(merge_ranges([*invert(ranges), _SURROGATES])) if ranges[-1][1] > _SURROGATES[0] else ranges
    if len(apart) == 1 and apart[0][0] == apart[0][1]:
        return _spell(apart[0][0])
    return f"[{''.join(f'{_spell(low)}-{_spell(high)}' for low, high in apart)}]"


def _spell(code: int) -> str:
    return f"\\x{{{code:x}}}" if code > MAX_ASCII else f"\\x{code:02x}"
