r"""Matchers over labels, in the syntax of Alertmanager: `severity="CRITICAL", service=~"payment-.*"`.

A matcher is a label's name, an operator and a value. Several are separated by commas, may stand in braces, and must all
hold. Names and values may be bare or in double quotes; in quotes anything may stand, with the escapes of Go (`\"`,
`\\`, `\n`, `\x41`, `\u00e9`, …), and bare no space and none of {}!=~,\"'`. A label that is missing is the empty string.
A regular expression must match the whole value. What compiles it is an argument, so that this module needs no library
of expressions.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from services.domain.found_values import shortened

# The labels that every alert has, which no rule can set.
ALERTNAME: Final = "alertname"
SEVERITY: Final = "severity"
SERVICE: Final = "service"
RESERVED_LABELS: Final = frozenset({ALERTNAME, SEVERITY})

MAX_MATCHERS: Final = 32
# Characters.
MAX_LABEL_NAME: Final = 256
MAX_MATCHER_VALUE: Final = 1024
MAX_TEXT: Final = 16_384

# Return a test of whole values; ValueError when the text is no regular expression, or a too large one.
CompileRegex = Callable[[str], Callable[[str], bool]]


class MatchOperator(StrEnum):
    """How a label is compared."""

    EQUAL = "="
    NOT_EQUAL = "!="
    REGEX = "=~"
    NOT_REGEX = "!~"

    @property
    def is_regex(self) -> bool:
        """Return whether the value is a regular expression."""
        return self in {MatchOperator.REGEX, MatchOperator.NOT_REGEX}

    @property
    def is_negative(self) -> bool:
        """Return whether the matcher holds where the test of the value fails."""
        return self in {MatchOperator.NOT_EQUAL, MatchOperator.NOT_REGEX}


class MatcherError(ValueError):
    """A text is no list of matchers. The place is counted from 1."""

    def __init__(self, text: str, offset: int, description: str) -> None:
        before = text[:offset]
        self.line = before.count("\n") + 1
        self.column = offset - before.rfind("\n")
        self.description = description
        super().__init__(f"line {self.line}, column {self.column}: {description}")


@dataclass(frozen=True, slots=True)
class LabelMatcher:
    """One condition on a label. `str` returns it in a form that parses back to it."""

    name: str
    operator: MatchOperator
    value: str
    # The test of a regular expression, which its text decides.
    _test: Callable[[str], bool] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, name: str, operator: MatchOperator, value: str, compile_regex: CompileRegex) -> "LabelMatcher":
        """Return a matcher, its regular expression compiled. Raises ValueError, which says what is wrong with it."""
        if not name:
            raise ValueError("the label's name is empty")
        for noun, text, limit in (("name", name, MAX_LABEL_NAME), ("value", value, MAX_MATCHER_VALUE)):
            if len(text) > limit:
                raise ValueError(f"the label's {noun} has {len(text)} characters, at most {limit} are allowed")
        return cls(name, operator, value, compile_regex(value) if operator.is_regex else None)

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether the matcher holds of these labels."""
        return self.accepts(labels.get(self.name, ""))

    def accepts(self, value: str) -> bool:
        """Return whether the matcher holds where its label has this value; the empty one: where it is missing."""
        is_equal = value == self.value if self._test is None else self._test(value)
        return is_equal is not self.operator.is_negative

    def __str__(self) -> str:
        name = quote(self.name) if _NEEDS_QUOTES.search(self.name) else self.name
        return f"{name}{self.operator}{quote(self.value)}"


def all_match(matchers: Iterable[LabelMatcher], labels: Mapping[str, str]) -> bool:
    """Return whether all matchers hold of these labels."""
    return all(matcher.matches(labels) for matcher in matchers)


def format_matchers(matchers: Iterable[LabelMatcher]) -> str:
    """Return matchers as one text, which parses back to them."""
    return ", ".join(map(str, matchers))


def parse_matchers(text: str, compile_regex: CompileRegex) -> tuple[LabelMatcher, ...]:
    """Return the matchers of a text, none for a blank one. Raises MatcherError."""
    if len(text) > MAX_TEXT:
        raise MatcherError(text, MAX_TEXT, f"longer than {MAX_TEXT} characters")
    if surrogate := _SURROGATE.search(text):
        raise MatcherError(text, surrogate.start(), "found half of a character, expected whole ones")
    return _Parser(text, compile_regex).parse()


def quote(text: str) -> str:
    """Return a text in double quotes, with escapes for quotes, backslashes and what cannot be printed."""
    return f'"{"".join(_escaped(char) for char in text)}"'


class _Token(NamedTuple):
    kind: str
    text: str
    offset: int


# White space as Go has it; Python's also knows four separators of ASCII.
_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_RESERVED = _SPACE + "{}!=~,\\\\\"'`"
_TOKEN = re.compile(
    f"[{_SPACE}]*(?:(?P<mark>[{{}},])|(?P<operator>=~|!=|!~|=)"
    f'|"(?P<quoted>(?:[^"\\\\]|\\\\.)*)"|(?P<bare>[^{_RESERVED}]+)|(?P<end>\\Z)|(?P<wrong>.))',
    re.DOTALL,
)
_NEEDS_QUOTES = re.compile(f"[{_RESERVED}]|[^\\x20-\\x7e]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPE = re.compile(
    r"\\(?:(?P<char>[abfnrtv\\\"])|(?P<octal>[0-3][0-7]{2})|x(?P<hex>[0-9a-fA-F]{2})"
    r"|u(?P<short>[0-9a-fA-F]{4})|U(?P<long>[0-9a-fA-F]{8}))"
)
_BASES = {"octal": 8, "hex": 16, "short": 16, "long": 16}
_CHARS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"'}
_ESCAPES = {char: f"\\{letter}" for letter, char in _CHARS.items()}
_MAX_SHORT = 0xFFFF
_MAX_SHOWN = 40
_OPERATORS = "one of =, !=, =~ and !~"
_NAMES = ("quoted", "bare")


class _Parser:
    """Reads tokens one after the other."""

    def __init__(self, text: str, compile_regex: CompileRegex) -> None:
        self._text = text
        self._compile_regex = compile_regex
        self._tokens = map(_token_of, _TOKEN.finditer(text))
        self._next = next(self._tokens)

    def parse(self) -> tuple[LabelMatcher, ...]:
        has_brace = self._accept("{")
        matchers: list[LabelMatcher] = []
        expected = "a label's name"
        while self._next.kind in _NAMES:
            if len(matchers) == MAX_MATCHERS:
                raise MatcherError(self._text, self._next.offset, f"more than {MAX_MATCHERS} matchers")
            matchers.append(self._matcher())
            expected = "a comma"
            if not self._accept(","):
                break
            expected = "a label's name"
        if has_brace:
            self._expect(f'{expected} or "}}"', "}")
            expected = ""
        self._expect(" or ".join(filter(None, [expected, "the end of the text"])), "end")
        return tuple(matchers)

    def _matcher(self) -> LabelMatcher:
        start = self._next.offset
        name = self._string(self._expect("a label's name", *_NAMES))
        operator = self._expect(_OPERATORS, "operator")
        value = self._string(self._expect("a value, in quotes where it has a space or one of {}!=~,\\\"'`", *_NAMES))
        try:
            return LabelMatcher.of(name, MatchOperator(operator.text), value, self._compile_regex)
        except ValueError as error:
            raise MatcherError(self._text, start, str(error)) from None

    def _accept(self, mark: str) -> bool:
        """Go on to the next token if this one is the mark."""
        is_mark = self._next.kind == mark
        if is_mark:
            self._next = next(self._tokens)
        return is_mark

    def _expect(self, expected: str, *kinds: str) -> _Token:
        """Return the token and go on to the next one; MatcherError when it is of another kind."""
        token = self._next
        if token.kind not in kinds:
            raise MatcherError(self._text, token.offset, f"found {_shown(token)}, expected {expected}")
        if token.kind != "end":
            self._next = next(self._tokens)
        return token

    def _string(self, token: _Token) -> str:
        """Return the text of a name or a value, without quotes and escapes."""
        if token.kind == "bare":
            return token.text
        parts: list[bytes] = []
        place = 0
        if "\n" in token.text:
            raise self._error_inside(token, token.text.index("\n"), "found a line break in quotes, expected \\n")
        while (start := token.text.find("\\", place)) >= 0:
            parts.append(token.text[place:start].encode())
            match = _ESCAPE.match(token.text, start)
            if match is None:
                found = token.text[start : start + 2]
                description = f'found "{found}", expected an escape such as \\n, \\", \\\\, \\x41 or \\u00e9'
                raise self._error_inside(token, start, description)
            try:
                parts.append(_bytes_of(match))
            except ValueError:
                raise self._error_inside(token, start, f"{match[0]} is no character") from None
            place = match.end()
        try:
            return b"".join([*parts, token.text[place:].encode()]).decode()
        except UnicodeDecodeError:
            raise self._error_inside(token, -1, "the escapes make no text in UTF-8") from None

    def _error_inside(self, token: _Token, place: int, description: str) -> MatcherError:
        return MatcherError(self._text, token.offset + 1 + place, description)


def _token_of(match: re.Match[str]) -> _Token:
    """Return the token; the kind of a mark is the mark itself. The last token is the end."""
    kind = str(match.lastgroup)
    return _Token(match[kind] if kind == "mark" else kind, match[kind], match.start(kind) - (kind == "quoted"))


def _bytes_of(match: re.Match[str]) -> bytes:
    """Return what an escape stands for. Raises ValueError for what is no character."""
    kind = str(match.lastgroup)
    if kind == "char":
        return _CHARS[match[kind]].encode()
    number = int(match[kind], _BASES[kind])
    return bytes([number]) if kind in {"octal", "hex"} else chr(number).encode()


def _escaped(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    return f"\\u{ord(char):04x}" if ord(char) <= _MAX_SHORT else f"\\U{ord(char):08x}"


def _shown(token: _Token) -> str:
    if token.kind == "end":
        return "the end of the text"
    if token.text == '"':
        return "a quote that is not closed"
    return quote(shortened(token.text, _MAX_SHOWN))
