"""Reads regular expressions of RE2 into trees.

Only the part of the syntax is read whose meaning is surely kept; anything else is refused and left to RE2.
"""

from dataclasses import dataclass, replace

from services.domain.regex import (
    MAX_ASCII,
    MAX_CODE_POINT,
    Alternatives,
    Assertion,
    Characters,
    CodeRanges,
    Position,
    Regex,
    Repetition,
    Sequence,
    invert,
    merge_ranges,
)


class UnsupportedError(ValueError):
    """A pattern must be left to RE2."""


def _of(characters: str) -> CodeRanges:
    return merge_ranges((ord(character), ord(character)) for character in characters)


_DIGIT: CodeRanges = ((ord("0"), ord("9")),)
_WORD = merge_ranges([*_DIGIT, (ord("A"), ord("Z")), (ord("_"), ord("_")), (ord("a"), ord("z"))])
_SPACE = _of("\t\n\f\r ")
# A capital letter stands for all other characters.
_CLASSES = {"d": _DIGIT, "w": _WORD, "s": _SPACE}
_CONTROLS = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_POSITIONS = {"A": Position.START, "z": Position.END, "b": Position.WORD_BOUNDARY, "B": Position.NO_WORD_BOUNDARY}
_ANY: CodeRanges = ((0, MAX_CODE_POINT),)
_REPEATS: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_MAX_DIGITS = len("1000")
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")
# ASCII letters with a form beyond ASCII: the Kelvin sign and the long s.
_FURTHER_FORMS = {"k": "\u212a", "s": "\u017f"}


@dataclass(frozen=True, slots=True)
class _Flags:
    ignores_case: bool = False
    dot_takes_newline: bool = False


def parse_regex(pattern: str) -> Regex:
    """Return the tree of a pattern that RE2 accepts; raise UnsupportedError."""
    reader = _Reader(pattern)
    tree = _read_alternatives(reader, _Flags())
    if reader.peek():
        raise UnsupportedError("a group that was not opened")
    return tree


class _Reader:
    """A pattern and the place in it."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def peek(self, length: int = 1) -> str:
        return self._pattern[self._at : self._at + length]

    def next(self) -> str:
        character = self.peek()
        if not character:
            raise UnsupportedError("ends early")
        self._at += 1
        return character

    def take(self, text: str) -> bool:
        found = self.peek(len(text)) == text
        self._at += len(text) if found else 0
        return found

    def until(self, end: str) -> str:
        """Return the text before the next `end`, and go behind it."""
        text, found, _ = self._pattern[self._at :].partition(end)
        if not found:
            raise UnsupportedError(f"no {end}")
        self._at += len(text) + len(end)
        return text


def _read_alternatives(reader: _Reader, flags: _Flags) -> Regex:
    """Read up to the end of the pattern or of the group."""
    branches: list[list[Regex]] = [[]]
    while reader.peek() not in {"", ")"}:
        if reader.take("|"):
            branches.append([])
        elif reader.peek(2) == "(?" and reader.peek(3) not in {"(?P", "(?<", "(?:"}:
            flags = _read_flags(reader, flags, branches[-1])
        else:
            branches[-1].append(_read_repeated(reader, flags))
    trees = [Sequence(tuple(parts)) for parts in branches]
    return trees[0] if len(trees) == 1 else Alternatives(tuple(trees))


def _read_flags(reader: _Reader, flags: _Flags, parts: list[Regex]) -> _Flags:
    """Read flags; return those for what follows. A group of its own goes to the parts."""
    reader.take("(?")
    changed, value = flags, True
    while (letter := reader.next()) not in {":", ")"}:
        match letter:
            case "-":
                value = False
            case "i":
                changed = replace(changed, ignores_case=value)
            case "s":
                changed = replace(changed, dot_takes_newline=value)
            case _:
                raise UnsupportedError(f"flag {letter}")
    if letter == ")":
        return changed
    parts.append(_read_repeats(reader, _read_rest_of_group(reader, changed)))
    return flags


def _read_rest_of_group(reader: _Reader, flags: _Flags) -> Regex:
    inner = _read_alternatives(reader, flags)
    if not reader.take(")"):
        raise UnsupportedError("a group without an end")
    return inner


def _read_repeated(reader: _Reader, flags: _Flags) -> Regex:
    return _read_repeats(reader, _read_atom(reader, flags))


def _read_repeats(reader: _Reader, atom: Regex) -> Regex:
    bounds = _read_bounds(reader)
    if bounds is None:
        return atom
    reader.take("?")
    if isinstance(atom, Assertion) or _read_bounds(reader):
        raise UnsupportedError("a repetition of a repetition, or of an assertion")
    return Repetition(atom, *bounds)


def _read_bounds(reader: _Reader) -> tuple[int, int | None] | None:
    sign = reader.peek()
    if sign in _REPEATS:
        return _REPEATS[reader.next()]
    if sign != "{":
        return None
    reader.next()
    minimum, comma, maximum = reader.until("}").partition(",")
    if not (_is_number(minimum) and (not maximum or _is_number(maximum))):
        raise UnsupportedError("a brace that is no repetition")
    return int(minimum), (int(maximum) if maximum else None) if comma else int(minimum)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS


def _read_atom(reader: _Reader, flags: _Flags) -> Regex:
    match reader.next():
        case "(":
            if reader.take("?P<") or reader.take("?<"):
                reader.until(">")
            else:
                reader.take("?:")
            return _read_rest_of_group(reader, flags)
        case "^" | "$" as sign:
            return Assertion(Position(sign))
        case "\\":
            return _read_escape(reader, flags)
        case character:
            return Characters(_read_set(reader, character, flags))


def _read_set(reader: _Reader, first: str, flags: _Flags) -> CodeRanges:
    match first:
        case "[":
            return _read_class(reader, flags)
        case ".":
            return _ANY if flags.dot_takes_newline else invert(_of("\n"))
        case "*" | "+" | "?" | "{":
            raise UnsupportedError(f"{first} after nothing")
        case _:
            return _cased(_of(first), flags)


def _read_escape(reader: _Reader, flags: _Flags) -> Regex:
    if reader.peek() in _POSITIONS:
        return Assertion(_POSITIONS[reader.next()])
    if reader.peek().lower() in _CLASSES:
        return Characters(_class(reader.next(), flags))
    code = _read_escaped(reader)
    return Characters(_cased(((code, code),), flags))


def _read_escaped(reader: _Reader) -> int:
    """Read what stands behind a backslash for one character."""
    character = reader.next()
    if character in _CONTROLS:
        return ord(_CONTROLS[character])
    if character == "x":
        return _code(reader.until("}") if reader.take("{") else reader.next() + reader.next())
    if not character.isascii() or character.isalnum() or character == "_":
        raise UnsupportedError(f"escape {character}")
    return ord(character)


def _code(digits: str) -> int:
    if not set(digits) <= _HEX_DIGITS or not 0 < len(digits) <= len("10ffff") or int(digits, 16) > MAX_CODE_POINT:
        raise UnsupportedError(f"{digits} is no code point")
    return int(digits, 16)


def _read_class(reader: _Reader, flags: _Flags) -> CodeRanges:
    """Read what stands in brackets; a bracket that closes is a character where it comes first."""
    is_inverted = reader.take("^")
    ranges = [*_read_class_part(reader, flags)]
    while not reader.take("]"):
        if reader.peek() == "-" and reader.peek(2) != "-]":
            raise UnsupportedError("- between ranges")
        ranges += _read_class_part(reader, flags)
    return invert(merge_ranges(ranges)) if is_inverted else merge_ranges(ranges)


def _read_class_part(reader: _Reader, flags: _Flags) -> CodeRanges:
    if reader.peek(2) == "[:":
        raise UnsupportedError("a class of POSIX")
    if reader.peek() == "\\" and reader.peek(2)[1:].lower() in _CLASSES:
        reader.next()
        return _class(reader.next(), flags)
    low = high = _read_class_character(reader)
    if reader.peek() == "-" and reader.peek(2) != "-]":
        reader.next()
        high = _read_class_character(reader)
    return _cased(((low, high),), flags)


def _read_class_character(reader: _Reader) -> int:
    return _read_escaped(reader) if reader.take("\\") else ord(reader.next())


def _class(letter: str, flags: _Flags) -> CodeRanges:
    """Return the characters of a class like digits; an inverted one is the inverse of all forms."""
    ranges = _cased(_CLASSES[letter.lower()], flags)
    return invert(ranges) if letter.isupper() else ranges


def _cased(ranges: CodeRanges, flags: _Flags) -> CodeRanges:
    """Return the characters in all their forms, if the flags say so; only ASCII."""
    if not flags.ignores_case:
        return ranges
    if ranges[-1][1] > MAX_ASCII:
        raise UnsupportedError("case beyond ASCII")
    letters = [chr(code) for low, high in ranges for code in range(low, high + 1) if chr(code).isalpha()]
    forms = "".join(letter.upper() + letter.lower() + _FURTHER_FORMS.get(letter.lower(), "") for letter in letters)
    return merge_ranges([*ranges, *_of(forms)])
