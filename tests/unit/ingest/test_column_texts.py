"""Columns of any type as strings."""

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingest.core.column_texts import (
    depth_of,
    integers_of,
    is_taken,
    json_texts_of,
    kind_of,
    text_size,
    texts_of,
)

WORDS = pa.array(["a", None, "ccc", "a"])
# The stubs know no such dictionaries.
_LIST: Any = pa.list_(pa.string())
TIME = dt.datetime(2026, 3, 1, 12, 0, 0, 500_000, dt.UTC)


def texts(column: Any) -> list[str | None]:
    found: list[str | None] = texts_of(column).to_pylist()
    return found


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.large_string())], ids=str
)
def test_every_form_of_strings_is_a_string(kind: Any) -> None:
    column = WORDS.dictionary_encode() if pa.types.is_dictionary(kind) else WORDS.cast(kind)
    assert texts(column) == ["a", None, "ccc", "a"]


@pytest.mark.parametrize("kind", [pa.string_view(), pa.int64(), pa.timestamp("s")], ids=str)
def test_a_dictionary_holds_any_plain_values(kind: Any) -> None:
    values = pa.array(["7", "8"], pa.string()).cast(pa.int64()) if kind != pa.string_view() else pa.array(["7", "8"])
    column: Any = pa.DictionaryArray.from_arrays(pa.array([1, None, 0], pa.uint8()), values.cast(kind))
    expected = (
        ["1970-01-01T00:00:08Z", None, "1970-01-01T00:00:07Z"] if pa.types.is_timestamp(kind) else ["8", None, "7"]
    )
    assert texts(column) == expected


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([True, False, None]), ["true", "false", None]),
        (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        (pa.array([1.0, 1.5, float("nan"), float("inf"), float("-inf")]), ["1", "1.5", "NaN", "Infinity", "-Infinity"]),
        (pa.array(np.array([1.5], np.float16)), ["1.5"]),
        (pa.array([0.1], pa.float32()), ["0.1"]),
        (pa.array([Decimal("1.50")]), ["1.50"]),
        (pa.array([TIME, None], pa.timestamp("ms")), ["2026-03-01T12:00:00.500Z", None]),
        (pa.array([0], pa.timestamp("s", "Mars/Olympus")), ["1970-01-01T00:00:00Z"]),
        (pa.array([2**62], pa.timestamp("s")), [str(2**62)]),
        (pa.array([dt.date(2026, 3, 1)]), ["2026-03-01"]),
        (pa.array([2**31 - 1], pa.date32()), [str(2**31 - 1)]),
        (pa.array([TIME.time()], pa.time64("us")), ["12:00:00.500000"]),
        (pa.array([-5], pa.time32("s")), ["-5"]),
        (pa.array([-5], pa.duration("s")), ["-5"]),
        (pa.nulls(2), [None, None]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_numbers_booleans_and_times_are_written_as_in_json(column: Any, expected: list[str | None]) -> None:
    assert texts(column) == expected


_struct = pa.struct([("a b", pa.string()), ("n", pa.list_(pa.int16()))])
_structs = st.none() | st.builds(
    lambda text, numbers: {"a b": text, "n": numbers},
    st.none() | st.text(alphabet='\x00\x1f\n\r\t\b\f"\\/aé🔔', max_size=5),
    st.none() | st.lists(st.none() | st.integers(-9, 9), max_size=2),
)


@pytest.mark.parametrize(
    "kind",
    [pa.list_(_struct), pa.large_list(_struct), pa.list_(_struct, 2), pa.list_(pa.list_(_struct, 2)), _struct],
    ids=["list", "large list", "fixed list", "nested list", "struct"],
)
@settings(max_examples=30)
@given(data=st.data())
def test_nested_values_are_json_that_any_reader_reads(kind: Any, data: st.DataObject) -> None:
    def values(inner: Any) -> st.SearchStrategy[Any]:
        if pa.types.is_struct(inner):
            return _structs
        size = inner.list_size if pa.types.is_fixed_size_list(inner) else None
        return st.none() | st.lists(values(inner.value_type), min_size=size or 0, max_size=size or 3)

    rows = data.draw(st.lists(values(kind), min_size=1, max_size=4))
    begin = data.draw(st.integers(0, len(rows) - 1))
    column = pa.array(rows, kind)[begin:]
    assert [None if text is None else json.loads(text) for text in texts(column)] == rows[begin:]
    assert sum(len(text.encode()) for text in texts(column) if text is not None) <= 2 * text_size(column)


def test_a_map_inside_a_list_is_an_object() -> None:
    column = pa.array([[[("a", 1), ("b", None)], None, []]], pa.list_(pa.map_(pa.string(), pa.int8())))
    assert texts(column) == ['[{"a":1,"b":null},null,{}]']
    assert text_size(column) > len('[{"a":1,"b":null},null,{}]')


def test_lists_are_json() -> None:
    assert texts(pa.array([["a\n\x01", None], None], pa.list_(pa.string(), 2))) == ['["a\\n\\u0001",null]', None]
    assert texts(pa.array([['"\\'], []])) == ['["\\"\\\\"]', "[]"]


def test_structs_without_members_are_empty_objects() -> None:
    column = pa.StructArray.from_arrays([], fields=[], mask=pa.array([False, True]))
    assert texts(column) == ["{}", None]


def test_times_inside_lists_are_strings() -> None:
    assert json_texts_of(pa.array([[0, None]], pa.list_(pa.date32()))).to_pylist() == ['["1970-01-01",null]']
    assert json_texts_of(pa.array([Decimal("1.5"), None])).to_pylist() == ["1.5", "null"]


@pytest.mark.parametrize(
    "column",
    [
        pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int8()), pa.array(["x" * 1000])),
        pa.array(["x" * 1000] * 1000, pa.string_view()),
        pa.array(["x" * 1000] * 1000, pa.large_string()),
        pa.array(["x" * 1000] * 1000)[0:],
    ],
    ids=["dictionary", "view", "large", "plain"],
)
def test_the_size_of_strings_is_known_before_they_are_made(column: Any) -> None:
    assert 1_000_000 <= text_size(column) <= 1_100_000
    assert text_size(column[:10]) < 11_100


def test_a_null_in_a_dictionary_or_a_view_has_no_size() -> None:
    indices: Any = pa.array([None, None], pa.int8())
    assert text_size(pa.DictionaryArray.from_arrays(indices, pa.array([], pa.string()))) == 0
    assert text_size(pa.nulls(3, pa.string_view())) == 0
    assert text_size(pa.nulls(3)) == 0


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([1, None, -3], pa.int8()), [1, 0, -3]),
        (pa.array([2**64 - 1, 7], pa.uint64()), [0, 7]),
        (pa.array([1.0, 1.5, float("nan"), float("inf"), None, 1e300]), [1, 0, 0, 0, 0, 0]),
        (pa.array(np.array([3.0], np.float16)), [3]),
    ],
    ids=str,
)
def test_integers_are_found_in_any_numbers(column: Any, expected: list[int]) -> None:
    assert integers_of(column).tolist() == expected


@pytest.mark.parametrize(
    "kind",
    [
        pa.binary(),
        pa.binary(4),
        pa.month_day_nano_interval(),
        pa.list_view(pa.int8()),
        pa.run_end_encoded(pa.int32(), pa.string()),
        pa.dense_union([pa.field("a", pa.int8())]),
        pa.map_(pa.int8(), pa.string()),
        pa.struct([("a", pa.list_(pa.binary()))]),
        pa.dictionary(pa.int8(), pa.binary()),
        pa.dictionary(pa.int8(), _LIST),
        pa.uuid(),
    ],
    ids=str,
)
def test_types_without_a_plain_form_are_not_taken(kind: Any) -> None:
    assert not is_taken(kind)


def test_types_are_described_without_what_they_hold() -> None:
    kind = pa.struct([("secret", pa.list_(pa.int8()))])
    assert (kind_of(kind), depth_of(kind), kind_of(pa.decimal128(3, 2))) == ("struct", 3, "decimal128")
    assert kind_of(pa.timestamp("ns", "UTC")) == "timestamp[ns, tz=UTC]"
