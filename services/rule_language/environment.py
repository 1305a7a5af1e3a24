"""The words of the language and their types; the only module that knows the CEL library.

The language is closed: only what is declared here exists, so what a rule may say can be kept. Unlike plain CEL it lets
int and double meet in comparisons, arithmetic and lists.
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
from services.rule_language.checked_expr import read_from_map

# What an event is made of. status_code, response_time and each attribute may be absent.
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
# What a window is made of. avg, min and max are absent where no event had a value.
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
_TEXT_FIELDS = [name for name, kind in EVENT_FIELDS.items() if kind == "string"]
# A name that no expression can write.
_TEXTS = "@texts"
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
    # Computes where the library has no such overload itself, because int and double meet.
    meet: Callable[[float, float], float] | None = None

    @property
    def id(self) -> str:
        """A name that no other overload has."""
        return " ".join([self.function, *self.parameters, *(["method"] if self.is_method else [])])

    def declaration(self) -> Mapping[str, object]:
        """As the library's configuration writes it; the receiver of a method is its target."""
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
    return [*same, *(Overload(function, mixed, "double", meet=_on_doubles(compute)) for mixed in _MIXED)]


def _overloads() -> list[Overload]:
    """Every function of the language that is not taken over whole from the standard library."""
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


class RefusedError(ValueError):
    """The library refused a text."""

    def __init__(self, complaint: str) -> None:
        super().__init__(complaint)
        self.complaint = complaint


class StepLimitError(Exception):
    """The library gave up: computing would have taken more steps than it allows."""


class Program:
    """A text that was parsed and type-checked."""

    def __init__(self, env: Any, compiled: Any) -> None:
        self._env = env
        self._compiled = compiled

    @property
    def wire(self) -> bytes:
        """A google.protobuf.Any that holds the cel.expr.CheckedExpr."""
        return bytes(self._compiled.serialize())

    def evaluate(self, values: Mapping[str, object]) -> bool | None:
        """Say true or false; None where that depends on something absent, or cannot be computed. See `value`."""
        answer = self.value(values)
        return answer if isinstance(answer, bool) else None

    def value(self, values: Mapping[str, object]) -> object:
        """Compute the value; None where that depends on something absent, or cannot be done. Raises GivenUpError."""
        result = self._result(values)
        return None if result.type() == cel.Type.ERROR else result.plain_value()

    def obstacle(self, values: Mapping[str, object]) -> str:
        """Why nothing can be computed, in the library's words; empty when it can."""
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
        """The program for values with the character NUL, at which the library cuts every text that Python gives it.

        What comes in a protobuf message stays whole. A map may be such a message and a text may not, so this program
        reads its texts from a map.
        """
        return self._env.deserialize(read_from_map(self.wire, _TEXT_FIELDS, _TEXTS))


class Language:
    """Some fields, and all the functions."""

    def __init__(self, fields: Mapping[str, str], constants: Mapping[str, int]) -> None:
        self.fields = fields
        self.constants = constants
        self._env = cel.NewEnv(
            config=cel.NewEnvConfigFromYaml(json.dumps(_configuration(fields, constants))),
            function_impls={overload.id: overload.meet for overload in OVERLOADS if overload.meet},
        )

    def compile(self, text: str) -> Program:
        """Parse and type-check; RefusedError when it is not allowed."""
        try:
            return Program(self._env, self._env.compile(text))
        except RuntimeError as error:
            raise RefusedError(str(error)) from None

    def load(self, wire: bytes) -> Program:
        """The program whose `wire` this is."""
        return Program(self._env, self._env.deserialize(wire))


def _has_nul(value: object) -> bool:
    match value:
        case str():
            return "\0" in value
        case Mapping():
            return any("\0" in text for pair in value.items() for text in pair)
        case _:
            return False


def _as_structs(values: Mapping[str, object]) -> Mapping[str, object]:
    """Maps as messages, and the texts in one of their own."""
    texts = {name: value for name, value in values.items() if isinstance(value, str)}
    others = {name: value for name, value in values.items() if name not in texts}
    return {_TEXTS: _struct(texts)} | {
        name: _struct(value) if isinstance(value, Mapping) else value for name, value in others.items()
    }


def _struct(texts: Mapping[str, str]) -> Struct:
    return Struct(fields={name: Value(string_value=text) for name, text in texts.items()})


def _configuration(fields: Mapping[str, str], constants: Mapping[str, int]) -> Mapping[str, object]:
    functions = sorted({overload.function for overload in OVERLOADS})
    return {
        "stdlib": {"include_functions": [{"name": name} for name in _STANDARD], "include_macros": _MACROS},
        "variables": [
            *({"name": name, **_declared(kind)} for name, kind in fields.items()),
            *({"name": name, "type_name": "int", "value": value} for name, value in constants.items()),
        ],
        "functions": [
            {"name": name, "overloads": [one.declaration() for one in OVERLOADS if one.function == name]}
            for name in functions
        ],
    }


@functools.cache
def events() -> Language:
    """The language of filters and scopes."""
    return Language(EVENT_FIELDS, LEVELS)


@functools.cache
def windows() -> Language:
    """The language of conditions."""
    return Language(WINDOW_FIELDS, {})


def regex_error(pattern: str) -> str | None:
    """What is wrong with a regular expression of RE2; None when nothing is."""
    obstacle = _program("message.matches(host)").obstacle({"message": "", "host": pattern})
    return obstacle.removeprefix("INVALID_ARGUMENT: ").removeprefix("invalid regular expression: ") or None


def parse_int(text: str) -> int | None:
    """What `int(text)` is; None when the text is no whole number of 64 bits."""
    number = _program("int(host)").value({"host": text})
    return number if isinstance(number, int) else None


def parse_double(text: str) -> float | None:
    """What `double(text)` is; None when the text is no number."""
    number = _program("double(host)").value({"host": text})
    return number if isinstance(number, float) else None


@functools.cache
def _program(text: str) -> Program:
    return events().compile(text)
