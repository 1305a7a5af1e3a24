"""What is said to people whose expression was refused."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from services.rule_language.checked_expr import written
from services.rule_language.environment import OVERLOADS, Language

_COMPLAINT = re.compile(r"^(?:INVALID_ARGUMENT: )?ERROR: <input>:(-?\d+):(-?\d+): (.*)$", re.MULTILINE)
_STATUS = re.compile(r"^[A-Z_]+: | \[[A-Z_]+\]$")


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong, where (counted from 1), and what would be right there."""

    description: str
    line: int
    column: int
    expected: tuple[str, ...] = ()


class ExpressionError(ValueError):
    """An expression is not allowed."""

    def __init__(self, text: str, mistake: Mistake) -> None:
        hint = f"; expected {_one_of(mistake.expected)}" if mistake.expected else ""
        super().__init__(f"line {mistake.line}, column {mistake.column}: {mistake.description}{hint}")
        self.text = text
        self.description = mistake.description
        self.line = mistake.line
        self.column = mistake.column
        self.expected = mistake.expected


def mistake_at(text: str, offset: int, description: str, *, expected: tuple[str, ...] = ()) -> Mistake:
    """A mistake at the character with this number, from 0."""
    before = text[:offset]
    line_start = before.rfind("\n") + 1
    return Mistake(description, before.count("\n") + 1, offset - line_start + 1, expected)


def explained(complaint: str, text: str, language: Language) -> Mistake:
    """The first of the library's complaints, in words for the people who write rules."""
    found = [(int(line), int(column), said) for line, column, said in _COMPLAINT.findall(complaint)]
    if "recursion" in complaint:
        return mistake_at(text, 0, "is nested too deeply: at most 32 levels are allowed")
    placed = [one for one in found if one[0] > 0 and one[1] > 0]
    if not placed:
        return mistake_at(text, len(text), "is not complete" if found else _STATUS.sub("", complaint))
    line, column, said = min(placed, key=lambda one: one[:2])
    return _explained(said.removesuffix(" [INVALID_ARGUMENT]"), _Spot(text, _offset(text, line, column), language))


@dataclass(frozen=True, slots=True)
class _Spot:
    """The character that the library points at."""

    text: str
    offset: int
    language: Language

    def mistake(self, description: str, *expected: str) -> Mistake:
        return mistake_at(self.text, self.offset, description, expected=expected)

    def mistake_in(self, part: str, description: str, *expected: str) -> Mistake:
        """A mistake that begins before the character, where this part of the text does."""
        start = self.text.rfind(part, 0, self.offset + len(part) + 1)
        return mistake_at(self.text, max(start, 0), description, expected=expected)


def _explained(said: str, spot: _Spot) -> Mistake:
    for pattern, explain in _EXPLANATIONS.items():
        if match := re.search(pattern, said, re.DOTALL):
            return explain(spot, *match.groups())
    return spot.mistake(said.removeprefix("Syntax error: "))


def _unknown(spot: _Spot, name: str) -> Mistake:
    """A name that does not exist; the library points behind a function's name and at a dot of a long one."""
    if "." not in name and spot.text[spot.offset : spot.offset + 1] == "(":
        return spot.mistake_in(name, f'unknown function "{name}"', *_function_names())
    return spot.mistake_in(name, f'unknown name "{name}"', *spot.language.fields, *spot.language.constants)


def _misfit(spot: _Spot, function: str, given: str) -> Mistake:
    takes = dict.fromkeys(", ".join(overload.parameters) for overload in OVERLOADS if overload.function == function)
    expected = tuple(f"({parameters})" for parameters in takes) or _LOGIC.get(function, ())
    quoted_level = given == "int, string" and "level" in spot.text
    hint = " (levels are written without quotes: level >= ERROR)" if quoted_level else ""
    return spot.mistake(f'"{written(function)}" cannot take ({given}){hint}', *expected)


_LOGIC = {
    "_&&_": ("(bool, bool)",),
    "_||_": ("(bool, bool)",),
    "!_": ("(bool)",),
    "_?_:_": ("(bool, A, A)",),
}


def _unexpected(spot: _Spot, found: str, wanted: str) -> Mistake:
    description = "ends too early" if found == "<EOF>" else f'unexpected "{found}"'
    return spot.mistake(description, *_wanted(wanted))


def _missing(spot: _Spot, wanted: str, found: str) -> Mistake:
    return _unexpected(spot, found, wanted)


def _wanted(listed: str) -> tuple[str, ...]:
    """What the parser would have taken, when that is short enough to help."""
    if "IDENTIFIER" in listed:
        return ("a value",)
    return ("the end",) if listed == "<EOF>" else tuple(one.strip("' ") for one in listed.strip("{}").split(", "))


def _unreadable(spot: _Spot, found: str) -> Mistake:
    first = found.strip()[:1]
    if first in {'"', "'"}:
        return spot.mistake("a text without its closing quote, or with an escape that does not exist")
    instead = {"=": ("==",), "&": ("&&",), "|": ("||",)}.get(first, ())
    return spot.mistake_in(found, f'unexpected "{found.strip()}"', *instead)


def _fieldless(spot: _Spot, kind: str) -> Mistake:
    hint = ('attributes["name.with.dots"]',) if kind == "string" else ()
    return spot.mistake(f"a value of type {kind} has no fields", *hint)


def _not_askable(spot: _Spot) -> Mistake:
    return spot.mistake("only attributes can be asked for", "has(attributes.NAME)")


_EXPLANATIONS: Mapping[str, Callable[..., Mistake]] = {
    r"undeclared reference to '([^']*)'": _unknown,
    r"found no matching overload for '([^']*)' applied to '\((.*)\)'": _misfit,
    r"Syntax error: (?:mismatched|extraneous) input '(.*)' expecting (.*)": _unexpected,
    r"Syntax error: missing '(.*)' at '(.*)'$": _missing,
    r"Syntax error: token recognition error at: '(.*)'$": _unreadable,
    r"expression of type '(.*)' cannot be the operand of a select operation": _fieldless,
    r"has\(\) argument must be a field selection": _not_askable,
}


def _function_names() -> tuple[str, ...]:
    named = {overload.function for overload in OVERLOADS if overload.function.isidentifier()}
    return (*sorted(named), "has", "all", "exists", "exists_one")


def _offset(text: str, line: int, column: int) -> int:
    """The number of the character, from 0."""
    lines = text.split("\n")
    return sum(len(one) + 1 for one in lines[: line - 1]) + column - 1


def _one_of(expected: tuple[str, ...]) -> str:
    return expected[0] if len(expected) == 1 else f"one of {', '.join(expected)}"
