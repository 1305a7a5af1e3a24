"""Diagnostics: what is wrong with an expression that was refused, where, and what would be right there."""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from services.rule_language.checked_expr import operator_symbol
from services.rule_language.environment import OVERLOADS, Language

_LIBRARY_ERROR = re.compile(r"^(?:INVALID_ARGUMENT: )?ERROR: <input>:(-?\d+):(-?\d+): (.*)$", re.MULTILINE)
# A letter more or less is close to "attributes", "statements" is not.
_SIMILAR = 0.8
_TYPE_NAMES = {"int": "integer", "bool": "boolean"}
_STATUS = re.compile(r"^[A-Z_]+: | \[[A-Z_]+\]$")


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """What is wrong, where (counted from 1), and what is expected there."""

    description: str
    line: int
    column: int
    expected: tuple[str, ...] = ()
    # What was probably meant, as it is written.
    meant: str = ""


class ExpressionError(ValueError):
    """An expression is not allowed."""

    def __init__(self, text: str, diagnostic: Diagnostic) -> None:
        hint = f"; expected {_one_of(diagnostic.expected)}" if diagnostic.expected else ""
        hint = f"; did you mean {diagnostic.meant}?" if diagnostic.meant else hint
        super().__init__(f"line {diagnostic.line}, column {diagnostic.column}: {diagnostic.description}{hint}")
        self.text = text
        self.description = diagnostic.description
        self.line = diagnostic.line
        self.column = diagnostic.column
        self.expected = diagnostic.expected


def diagnostic_at(text: str, offset: int, description: str, *, expected: tuple[str, ...] = ()) -> Diagnostic:
    """Return a diagnostic for the character with this number, from 0."""
    before = text[:offset]
    line_start = before.rfind("\n") + 1
    return Diagnostic(description, before.count("\n") + 1, offset - line_start + 1, expected)


def explain(message: str, text: str, language: Language) -> Diagnostic:
    """Turn the first error in the library's message into a diagnostic for people who write rules."""
    errors = [(int(line), int(column), error) for line, column, error in _LIBRARY_ERROR.findall(message)]
    if "recursion" in message:
        return diagnostic_at(text, 0, "is nested too deeply: at most 32 levels are allowed")
    placed = [error for error in errors if error[0] > 0 and error[1] > 0]
    if not placed:
        return diagnostic_at(text, len(text), "is not complete" if errors else _STATUS.sub("", message))
    line, column, error = min(placed, key=lambda placed_error: placed_error[:2])
    return _explain(error.removesuffix(" [INVALID_ARGUMENT]"), _Spot(text, _offset(text, line, column), language))


def type_names(types: str) -> str:
    """Spell out the types in a text: "integer" for int, "boolean" for bool."""
    return re.sub(r"\b(int|bool)\b", lambda match: _TYPE_NAMES[match[1]], types)


@dataclass(frozen=True, slots=True)
class _Spot:
    """The character that the library points at."""

    text: str
    offset: int
    language: Language

    def diagnostic(self, description: str, *expected: str) -> Diagnostic:
        return diagnostic_at(self.text, self.offset, description, expected=expected)

    def diagnostic_from(self, part: str, description: str, *expected: str) -> Diagnostic:
        """Return a diagnostic that begins before the character, where this part of the text does."""
        start = self.text.rfind(part, 0, self.offset + len(part) + 1)
        return diagnostic_at(self.text, max(start, 0), description, expected=expected)


def _explain(error: str, spot: _Spot) -> Diagnostic:
    for pattern, explain_match in _EXPLANATIONS.items():
        if match := re.search(pattern, error, re.DOTALL):
            return explain_match(spot, *match.groups())
    return spot.diagnostic(error.removeprefix("Syntax error: "))


def _unknown_name(spot: _Spot, name: str) -> Diagnostic:
    """Explain an unknown name; the library points behind a function's name and at a dot of a long one."""
    if "." not in name and spot.text[spot.offset : spot.offset + 1] == "(":
        return spot.diagnostic_from(name, f'unknown function "{name}"', *_function_names())
    known = (*spot.language.fields, *spot.language.constants)
    similar = difflib.get_close_matches(name, known, n=1)
    meant = f'"{similar[0]}"' if similar else ""
    if "." in name and "attributes" in known:
        first, _, rest = name.partition(".")
        is_misspelt = difflib.get_close_matches(first, ["attributes"], cutoff=_SIMILAR)
        meant = f"attributes.{rest}" if is_misspelt else f'attributes["{name}"]'
    return replace(spot.diagnostic_from(name, f'unknown name "{name}"', *known), meant=meant)


def _wrong_types(spot: _Spot, function: str, types: str) -> Diagnostic:
    signatures = dict.fromkeys(
        type_names(", ".join(overload.parameters)) for overload in OVERLOADS if overload.function == function
    )
    expected = tuple(f"({parameters})" for parameters in signatures) or _LOGIC.get(function, ())
    description = f'"{operator_symbol(function)}" cannot take ({type_names(types)}){_hint(types, spot.text)}'
    return spot.diagnostic(description, *expected)


def _hint(types: str, text: str) -> str:
    """Return what is often meant by a string and a number."""
    if types == "int, string" and "level" in text:
        return " (levels are written without quotes: level >= ERROR)"
    if set(types.split(", ")) in ({"string", "int"}, {"string", "double"}):
        return " (int() and double() make a number of a string)"
    return ""


_LOGIC = {
    "_&&_": ("(boolean, boolean)",),
    "_||_": ("(boolean, boolean)",),
    "!_": ("(boolean)",),
    "_?_:_": ("(boolean, A, A)",),
}


def _unexpected_input(spot: _Spot, found: str, expected: str) -> Diagnostic:
    description = "ends too early" if found == "<EOF>" else f'unexpected "{found}"'
    return spot.diagnostic(description, *_expected_input(expected))


def _missing_input(spot: _Spot, expected: str, found: str) -> Diagnostic:
    return _unexpected_input(spot, found, expected)


def _expected_input(listed: str) -> tuple[str, ...]:
    """Return what the parser expected, when that is short enough to help."""
    if "IDENTIFIER" in listed:
        return ("a value",)
    return ("the end",) if listed == "<EOF>" else tuple(token.strip("' ") for token in listed.strip("{}").split(", "))


def _unknown_token(spot: _Spot, found: str) -> Diagnostic:
    first = found.strip()[:1]
    if first in {'"', "'"}:
        return spot.diagnostic("a string without its closing quote, or with an unknown escape")
    instead = {"=": ("==",), "&": ("&&",), "|": ("||",)}.get(first, ())
    return spot.diagnostic_from(found, f'unexpected "{found.strip()}"', *instead)


def _no_fields(spot: _Spot, value_type: str) -> Diagnostic:
    hint = ('attributes["name.with.dots"]',) if value_type == "string" else ()
    return spot.diagnostic(f"a value of type {type_names(value_type)} has no fields", *hint)


def _wrong_has(spot: _Spot) -> Diagnostic:
    return spot.diagnostic("has() takes only an attribute", "has(attributes.NAME)")


def _too_large_integer(spot: _Spot) -> Diagnostic:
    return spot.diagnostic("an integer beyond 64 bits")


_EXPLANATIONS: Mapping[str, Callable[..., Diagnostic]] = {
    r"undeclared reference to '([^']*)'": _unknown_name,
    r"found no matching overload for '([^']*)' applied to '\((.*)\)'": _wrong_types,
    r"Syntax error: (?:mismatched|extraneous) input '(.*)' expecting (.*)": _unexpected_input,
    r"Syntax error: missing '(.*)' at '(.*)'$": _missing_input,
    r"Syntax error: token recognition error at: '(.*)'$": _unknown_token,
    r"expression of type '(.*)' cannot be the operand of a select operation": _no_fields,
    r"has\(\) argument must be a field selection": _wrong_has,
    r"invalid int literal": _too_large_integer,
}


def _function_names() -> tuple[str, ...]:
    names = {overload.function for overload in OVERLOADS if overload.function.isidentifier()}
    return (*sorted(names), "has", "all", "exists", "exists_one")


def _offset(text: str, line: int, column: int) -> int:
    """Return the number of the character, from 0."""
    lines = text.split("\n")
    return sum(len(previous) + 1 for previous in lines[: line - 1]) + column - 1


def _one_of(expected: tuple[str, ...]) -> str:
    return expected[0] if len(expected) == 1 else f"one of {', '.join(expected)}"
