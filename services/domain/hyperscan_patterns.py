"""How Hyperscan is given a regular expression.

Hyperscan scans many texts at once, with newlines between them. Inside of the texts NUL stands in for newlines, and no
pattern takes a newline, so no match reaches from one text into the next. What takes a newline or NUL in the tree takes
NUL here. So a match of the tree is never missed, and one is invented at most in a text that has a newline or NUL, and
only if some set of characters has one of these two and not the other (`tells_newline_from_nul`).

Behind the last text stands END: where a newline, or nothing, follows the end of a line at the end of what is scanned,
Hyperscan misses matches of `$`, also some of earlier lines. What it reports in END itself is to be dropped.

A pattern like `backend-7 .*retries` is not scanned as a whole: with a thousand of them, each `retries` in a text would
concern them all. Only the piece between two such gaps that is rarest is looked for, and what it proposes is confirmed.
"""

from services.domain.regex import (
    MAX_ASCII,
    Alternatives,
    Assertion,
    Characters,
    CodeRanges,
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


def rarest_piece(tree: Regex) -> Regex:
    """Return the part between gaps that has the longest fixed text: it is wherever the tree is."""
    pieces: list[list[Regex]] = [[]]
    for part in _flat(tree):
        if _is_gap(part):
            pieces.append([])
        else:
            pieces[-1].append(part)
    return trim(max((Sequence(tuple(piece)) for piece in pieces), key=_fixed_length))


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
    return any(takes(ranges, ord("\n")) != takes(ranges, 0) for ranges in character_sets(tree))


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
    if not takes(ranges, ord("\n")):
        return ranges
    newline = (ord("\n"), ord("\n"))
    return invert(merge_ranges([*invert(merge_ranges([*ranges, (0, 0)])), newline]))


def _spell_set(ranges: CodeRanges) -> str:
    apart = invert(merge_ranges([*invert(ranges), _SURROGATES])) if ranges[-1][1] > _SURROGATES[0] else ranges
    if len(apart) == 1 and apart[0][0] == apart[0][1]:
        return _spell(apart[0][0])
    return f"[{''.join(f'{_spell(low)}-{_spell(high)}' for low, high in apart)}]"


def _spell(code: int) -> str:
    return f"\\x{{{code:x}}}" if code > MAX_ASCII else f"\\x{code:02x}"
