"""The CEL environment: names, functions and their types; the only module that imports the CEL library.

The language is closed: only what is declared here exists, so what a rule may contain stays under our control. Unlike
plain CEL it takes an int beside a double in comparisons, arithmetic and lists.
"""

import functools
import json
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from cel_expr_python import cel
from google.protobuf.struct_pb2 import Struct, Value

from services.domain.level import Level
from services.rule_language.checked_expr import rewrite_to_map

# The fields of an event. status_code, response_time and each attribute may be absent.
EVENT_FIELDS: Mapping[str, str] = {
    "service": "string",
    "level": "int",
    "message": "string",
    "status_code": "int",
    "response_time": "double",
    "host": "string",
    "trace_id": "string",
    "attributes": "map",
}
# The numbers of a window. avg, min and max are absent where no event had a value.
WINDOW_FIELDS: Mapping[str, str] = {
    "count": "int",
    "total": "int",
    "rate": "double",
    "sum": "double",
    "avg": "double",
    "min": "double",
    "max": "double",
    "threshold": "double",
}
_STRING_FIELDS = [name for name, kind in EVENT_FIELDS.items() if kind == "string"]
# A variable that no expression can name.
_STRINGS = "@strings"
LEVELS: Mapping[str, int] = {level.name: level.value for level in Level}

_NUMBERS = ("int", "double")
_MIXED = [("int", "double"), ("double", "int")]
_ORDERED = [*product(_NUMBERS, repeat=2), ("string", "string")]
# Taken from the standard library as they are.
_STANDARD = ["_&&_", "_||_", "!_", "_?_:_", "@not_strictly_false"]
_MACROS = ["has", "all", "exists", "exists_one"]

# A type as the library's configuration writes it.
_TYPES: Mapping[str, Any] = {
    "map": {"type_name": "map", "params": [{"type_name": "string"}, {"type_name": "string"}]},
    **{
        f"list<{element}>": {"type_name": "list", "params": [{"type_name": element}]}
        for element in ("string", "int", "double", "bool")
    },
}


@dataclass(frozen=True, slots=True)
class Overload:
    """One way to call a function."""

    function: str
    parameters: tuple[str, ...]
    result: str
    is_method: bool = False
    # Computes what the library has no overload for: an int beside a double.
    implementation: Callable[[float, float], float] | None = None

    @property
    def id(self) -> str:
        """A name that no other overload has."""
        return " ".join([self.function, *self.parameters, *(["method"] if self.is_method else [])])

    def declaration(self) -> Mapping[str, object]:
        """Return the overload as the library's configuration has it; the receiver of a method is its target."""
        arguments = [_declared(parameter) for parameter in self.parameters]
        receiver = {"target": arguments[0]} if self.is_method else {}
        return {"id": self.id, **receiver, "args": arguments[len(receiver) :], "return": _declared(self.result)}


def _declared(name: str) -> Any:
    return _TYPES.get(name, {"type_name": name})


def quotient(dividend: float, divisor: float) -> float:
    """Divide as IEEE 754 does: by zero it is infinite, or no number at all."""
    if divisor:
        return dividend / divisor
    if not dividend or math.isnan(dividend):
        return math.nan
    return math.copysign(math.inf, dividend) * math.copysign(1.0, divisor)


def _on_doubles(compute: Callable[[float, float], float]) -> Callable[[float, float], float]:
    return lambda left, right: compute(float(left), float(right))


def _arithmetic(function: str, compute: Callable[[float, float], float]) -> list[Overload]:
    same = [Overload(function, (number, number), number) for number in _NUMBERS]
    return [*same, *(Overload(function, mixed, "double", implementation=_on_doubles(compute)) for mixed in _MIXED)]


def _overloads() -> list[Overload]:
    """List every function of the language that is not taken over whole from the standard library."""
    return [
        *(Overload(f"_{sign}_", pair, "bool") for sign in ("<", "<=", ">", ">=") for pair in _ORDERED),
        *(Overload(f"_{sign}_", pair, "bool") for sign in ("==", "!=") for pair in [*_ORDERED, ("bool", "bool")]),
        *_arithmetic("_+_", operator.add),
        Overload("_+_", ("string", "string"), "string"),
        *_arithmetic("_-_", operator.sub),
        *_arithmetic("_*_", operator.mul),
        *_arithmetic("_/_", quotient),
        Overload("_%_", ("int", "int"), "int"),
        *(Overload("-_", (number,), number) for number in _NUMBERS),
        *(Overload("@in", (item, f"list<{item}>"), "bool") for item in ("string", "int", "double", "bool")),
        *(Overload("@in", (item, f"list<{element}>"), "bool") for item, element in _MIXED),
        Overload("@in", ("string", "map"), "bool"),
        Overload("_[_]", ("map", "string"), "string"),
        *(
            Overload(name, ("string", "string"), "bool", is_method=True)
            for name in ("contains", "startsWith", "endsWith", "matches")
        ),
        *(Overload("size", (sized,), "int", is_method) for sized in ("string", "map") for is_method in (False, True)),
        *(Overload(name, (given,), name) for name in _NUMBERS for given in (*_NUMBERS, "string")),
    ]


OVERLOADS = _overloads()


class CompileError(ValueError):
    """The library cannot compile a text."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class StepLimitError(Exception):
    """An evaluation would take more steps than the library allows."""


class CelProgram:
    """A text that was parsed and type-checked."""

    def __init__(self, env: Any, compiled: Any) -> None:
        self._env = env
        self._compiled = compiled

    @property
    def serialized(self) -> bytes:
        """A google.protobuf.Any that holds the cel.expr.CheckedExpr."""
        return bytes(self._compiled.serialize())

    def evaluate(self, values: Mapping[str, object]) -> bool | None:
        """Return true or false; None where that depends on something absent, or cannot be computed. See `value`."""
        value = self.value(values)
        return value if isinstance(value, bool) else None

    def value(self, values: Mapping[str, object]) -> object:
        """Compute the value; None where it depends on something absent, or is impossible. Raise StepLimitError."""
        result = self._result(values)
        return None if result.type() == cel.Type.ERROR else result.plain_value()

    def error(self, values: Mapping[str, object]) -> str:
        """Return the library's error message for these values; an empty string when there is none."""
        result = self._result(values)
        return str(result.plain_value()) if result.type() == cel.Type.ERROR else ""

    def _result(self, values: Mapping[str, object]) -> Any:
        try:
            if any(map(_has_nul, values.values())):
                return self._on_structs.eval(data=_as_structs(values))
            return self._compiled.eval(data=values)
        except RuntimeError as error:
            raise StepLimitError(str(error)) from None

    @functools.cached_property
    def _on_structs(self) -> Any:
        """The program for values with the character NUL, at which the library cuts every string that Python passes.

        Strings inside a protobuf message stay whole. A map may be such a message and a string may not, so this program
        reads its strings from a map.
        """
        return self._env.deserialize(rewrite_to_map(self.serialized, _STRING_FIELDS, _STRINGS))


class Language:
    """Some fields, and all the functions."""

    def __init__(self, fields: Mapping[str, str], constants: Mapping[str, int]) -> None:
        self.fields = fields
        self.constants = constants
        self._env = cel.NewEnv(
            config=cel.NewEnvConfigFromYaml(json.dumps(_configuration(fields, constants))),
            function_impls={overload.id: overload.implementation for overload in OVERLOADS if overload.implementation},
        )

    def compile(self, text: str) -> CelProgram:
        """Parse and type-check; raise CompileError when that fails."""
        try:
            return CelProgram(self._env, self._env.compile(text))
        except RuntimeError as error:
            raise CompileError(str(error)) from None

    def load(self, serialized: bytes) -> CelProgram:
        """Load a program from its `serialized` form."""
        return CelProgram(self._env, self._env.deserialize(serialized))


def _has_nul(value: object) -> bool:
    match value:
        case str():
            return "\0" in value
        case Mapping():
            return any("\0" in string for pair in value.items() for string in pair)
        case _:
            return False


def _as_structs(values: Mapping[str, object]) -> Mapping[str, object]:
    """Return maps as messages, and all strings in one message of their own."""
    strings = {name: value for name, value in values.items() if isinstance(value, str)}
    others = {name: value for name, value in values.items() if name not in strings}
    return {_STRINGS: _struct(strings)} | {
        name: _struct(value) if isinstance(value, Mapping) else value for name, value in others.items()
    }


def _struct(strings: Mapping[str, str]) -> Struct:
    return Struct(fields={name: Value(string_value=string) for name, string in strings.items()})


def _configuration(fields: Mapping[str, str], constants: Mapping[str, int]) -> Mapping[str, object]:
    functions = sorted({overload.function for overload in OVERLOADS})
    return {
        "stdlib": {"include_functions": [{"name": name} for name in _STANDARD], "include_macros": _MACROS},
        "variables": [
            *({"name": name, **_declared(kind)} for name, kind in fields.items()),
            *({"name": name, "type_name": "int", "value": value} for name, value in constants.items()),
        ],
        "functions": [
            {"name": name, "overloads": [each.declaration() for each in OVERLOADS if each.function == name]}
            for name in functions
        ],
    }


@functools.cache
def event_language() -> Language:
    """Return the language of filters and scopes."""
    return Language(EVENT_FIELDS, LEVELS)


@functools.cache
def window_language() -> Language:
    """Return the language of conditions."""
    return Language(WINDOW_FIELDS, {})


def regex_error(pattern: str) -> str | None:
    """Return what is wrong with a regular expression of RE2; None when nothing is."""
    error = _compiled("message.matches(host)").error({"message": "", "host": pattern})
    return error.removeprefix("INVALID_ARGUMENT: ").removeprefix("invalid regular expression: ") or None


def parse_int(text: str) -> int | None:
    """Return what `int(text)` is in CEL; None when the text is no 64-bit integer."""
    number = _compiled("int(host)").value({"host": text})
    return number if isinstance(number, int) else None


def parse_double(text: str) -> float | None:
    """Return what `double(text)` is in CEL; None when the text is no number."""
    number = _compiled("double(host)").value({"host": text})
    return number if isinstance(number, float) else None


@functools.cache
def _compiled(text: str) -> CelProgram:
    return event_language().compile(text)
