"""Strategies: events, and well-typed expressions of every shape that the language has."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from hypothesis import assume
from hypothesis import strategies as st

from services.rule_language.diagnostics import ExpressionError

_FIELDS: list["pa.Field[Any]"] = [
    pa.field("service", pa.string()),
    pa.field("level", pa.int32()),
    pa.field("message", pa.string()),
    pa.field("status_code", pa.int32()),
    pa.field("response_time", pa.float64()),
    pa.field("host", pa.string()),
    pa.field("trace_id", pa.string()),
    pa.field("attributes", pa.map_(pa.string(), pa.string())),
]
SCHEMA = pa.schema(_FIELDS)

_WORDS = [
    "",
    "a",
    "b",
    "ab",
    "timeout",
    "Timeout: refused",
    "zwölf €",
    "line\nbreak",
    "500",
    "-7",
    "2.5",
    " 1",
    "007",
    "1e3",
    "inf",
    "-0",
    "a\0b",
    "7\0",
]
_texts = st.sampled_from(["a", "ab", "zwölf €"]) | st.sampled_from(_WORDS) | st.text(alphabet="ab\n\0 é", max_size=4)
_attributes = st.dictionaries(st.sampled_from(["a", "a\0", "b c", "n"]), _texts, max_size=3)

events = st.fixed_dictionaries(
    {
        "service": _texts,
        "level": st.integers(1, 6),
        "message": _texts,
        "status_code": st.none() | st.sampled_from([200, 404, 500]) | st.integers(0, 999),
        "response_time": st.none() | st.sampled_from([0.0, 1.5, 2000.0, 2001.0]) | st.floats(0, 1e300),
        "host": _texts,
        "trace_id": _texts,
        "attributes": _attributes,
    }
)


def batch_of(events: list[dict[str, Any]]) -> pa.RecordBatch:
    rows = [{**event, "attributes": list(event["attributes"].items())} for event in events]
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


def present(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


@contextmanager
def within_limits() -> Iterator[None]:
    """Throw away the example when it is larger than the language allows."""
    try:
        yield
    except ExpressionError as error:
        assume(not any(limit in error.description for limit in ("nested too deeply", "concatenates strings")))
        raise


def literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\0", "\\000")
    return f'"{escaped}"'


_INTS = ["0", "1", "-1", "2", "5", "500", "2147483648", "9007199254740993", "9223372036854775807"]
_DOUBLES = ["0.0", "-0.0", "0.5", "1.5", "2000.0", "1e308", "-3.25", "9007199254740992.0"]
_PATTERNS = ["", "a", "^a", "b$", "time.ut|refused", r"(?i)TIMEOUT", r"\\d+", "[^a]", "é", ".", "a.b", r"\\x00$"]
_COMPARED = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
_strings = st.sampled_from(_WORDS).map(literal)


def _joined(*parts: Any) -> st.SearchStrategy[str]:
    return st.tuples(*(part if isinstance(part, st.SearchStrategy) else st.just(part) for part in parts)).map("".join)


def _numbers(fields: list[str], kind: str, other: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Expressions of one kind of number; arithmetic with the other kind makes doubles."""
    leaves = st.sampled_from([*fields, *(_INTS if kind == "int" else _DOUBLES)])
    signs = ["+", "-", "*", "/", "%"] if kind == "int" else ["+", "-", "*", "/"]

    def extended(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        sign = st.sampled_from(signs)
        mixed = [_joined("(", inner, sign, other, ")"), _joined("double(", other, ")")] if kind == "double" else []
        return st.one_of(
            _joined("(", inner, " ", sign, " ", inner, ")"),
            _joined("-(", inner, ")"),
            _joined(f"{kind}(", inner, ")"),
            *mixed,
        )

    return st.recursive(leaves, extended, max_leaves=3)


def _booleans(tests: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def extended(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.one_of(
            _joined("(", inner, " && ", inner, ")"),
            _joined("(", inner, " || ", inner, ")"),
            _joined("!(", inner, ")"),
            _joined("(", inner, " ? ", inner, " : ", inner, ")"),
            _joined("((", inner, ") ", st.sampled_from(["==", "!="]), " (", inner, "))"),
            _joined("((", inner, st.sampled_from([" || ", " && "]), inner, ") == true)"),
        )

    return st.recursive(tests, extended, max_leaves=6)


def _lists(items: list[str]) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(items), max_size=3).map(lambda listed: f"[{', '.join(listed)}]")


_event_ints = _numbers(
    ["level", "status_code", "size(message)", "host.size()", "int(response_time)", "int(attributes.n)"],
    "int",
    st.nothing(),
)
_event_doubles = _numbers(
    ["response_time", "double(status_code)", "double(attributes.n)", "double(host)"], "double", _event_ints
)
_event_numbers = _event_ints | _event_doubles
_event_texts = st.one_of(
    st.sampled_from(["service", "message", "host", "trace_id", "attributes.a", 'attributes["b c"]']),
    _strings,
    _joined("(", st.sampled_from(["service", "attributes.a"]), " + ", _strings, ")"),
    _joined("(status_code > 400 ? attributes.a : ", _strings, ")"),
)

# Tests that are true of some events, false of others and absent for a third kind, so that what joins them shows.
_plain_filters = st.one_of(
    _joined("level ", _COMPARED, " ", st.sampled_from(["INFO", "WARN", "ERROR"])),
    _joined("status_code ", _COMPARED, " ", st.sampled_from(["404", "500.0"])),
    _joined("status_code in [", st.sampled_from(["200", "404, 500", "404.0"]), "]"),
    _joined("response_time ", _COMPARED, " ", st.sampled_from(["1.5", "2000"])),
    _joined(st.sampled_from(["service", "attributes.a", "host"]), " ", _COMPARED, ' "a"'),
    _joined(st.sampled_from(["service", "attributes.a"]), '.contains("b")'),
    st.sampled_from(["status_code / 100 == 5", "-status_code % 7 == -3", "size(message) == 7", "has(attributes.a)"]),
)

filters = _booleans(
    _plain_filters
    | _plain_filters
    | st.one_of(
        _joined(_event_numbers, " ", _COMPARED, " ", _event_numbers),
        _joined(_event_texts, " ", _COMPARED, " ", _event_texts),
        _joined(
            _event_texts,
            ".",
            st.sampled_from(["contains", "startsWith", "endsWith"]),
            "(",
            _strings | _event_texts,
            ")",
        ),
        _joined(_event_texts, ".matches(", st.sampled_from(_PATTERNS).map(lambda one: f'"{one}"'), ")"),
        _joined(_event_numbers, " in ", _lists(_INTS) | _lists(_DOUBLES)),
        _joined(_event_texts, " in ", st.lists(_strings, max_size=3).map(lambda listed: f"[{', '.join(listed)}]")),
        _joined("level in [status_code, ", st.sampled_from(_INTS), "]"),
        st.sampled_from(
            [
                "true",
                "false",
                "has(attributes.a)",
                '"n" in attributes',
                "service in attributes",
                '"a\\000" in attributes',
                "attributes.exists(message, message.contains(host))",
                "[message].exists(message, message.endsWith(service))",
                "size(attributes) > 1",
                "int(attributes.n) > 3",
                "int(response_time) == 1",
                'int("12") + int("x") > 0',
                'double("1.5") > 1',
                'attributes.exists(key, key == "a")',
                "attributes.all(key, attributes[key] != service)",
                "1 / 0 == 1",
            ]
        ),
    )
)

_window_ints = _numbers(["count", "total"], "int", st.nothing())
_window_doubles = _numbers(["rate", "sum", "avg", "min", "max", "threshold"], "double", _window_ints)
_window_numbers = _window_ints | _window_doubles

_plain_conditions = st.one_of(
    _joined(st.sampled_from(["count", "total"]), " ", _COMPARED, " ", st.sampled_from(["3", "5.0", "threshold"])),
    _joined(st.sampled_from(["avg", "min"]), " ", _COMPARED, " ", st.sampled_from(["0", "2.5", "threshold"])),
    st.sampled_from(["rate > 0.5", "(1 - count) / 2 == -1", "(1 - total) % 3 == -2", "sum / count > 1.0"]),
)

conditions = _booleans(
    _plain_conditions
    | _plain_conditions
    | st.one_of(
        _joined(_window_numbers, " ", _COMPARED, " ", _window_numbers),
        _joined(_window_numbers, " in ", _lists(["0", "1", "5"])),
        st.sampled_from(
            ["true", "false", "1 / 0 == 1", '"a" < "b"', "int(avg) > 1", "[count, total].exists(n, n > 3)"]
        ),
    )
)
