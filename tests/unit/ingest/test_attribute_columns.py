"""Columns that become attributes, and attributes that are merged, cut and left out."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.contract.event_columns import EVENT_SCHEMA
from services.ingest.core import attribute_columns
from services.ingest.core.adjustments import AdjustmentAction
from services.ingest.core.field_checks import EventField
from services.ingest.core.foreign_columns import (
    to_events,
)
from tests.unit.ingest.foreign_events import adjusted, converted, rows


def test_any_other_column_becomes_an_attribute_under_its_name() -> None:
    columns = {
        "user": pa.array(
            [{"tier": "silver", "id": 4711, "geo": {"city": "Köln"}}, None],
            pa.struct([("tier", pa.string()), ("id", pa.int64()), ("geo", pa.struct([("city", pa.string())]))]),
        ),
        "tags": [["a", "b"], None],
        "ok": [True, None],
        "labels": pa.array([[("team", 1), ("none", None)], []], pa.map_(pa.large_string(), pa.int8())),
        "nothing": pa.nulls(2),
        "empty": [None, ""],
    }
    assert [dict(row.get("attributes", [])) for row in rows(columns)] == [
        {
            "user.tier": "silver",
            "user.id": "4711",
            "user.geo.city": "Köln",
            "tags": '["a","b"]',
            "ok": "true",
            "labels.team": "1",
        },
        {"empty": ""},
    ]


def test_structs_within_structs_are_json_from_the_eighth_on() -> None:
    value: Any = "deep"
    for _ in range(9):
        value = {"a": value}
    assert rows({"a": pa.array([value])}) == [{"attributes": [("a.a.a.a.a.a.a.a", '{"a":{"a":"deep"}}')]}]


def test_attributes_may_be_a_struct_and_their_values_of_any_type() -> None:
    assert rows({"attributes": [{"a": 1, "b": {"c": "x"}}]}) == [{"attributes": [("a", "1"), ("b.c", "x")]}]
    empty = pa.StructArray.from_arrays([], fields=[], mask=pa.array([False]))
    assert rows({"attributes": empty, "x": ["y"]}) == [{"attributes": [("x", "y")]}]
    of_numbers = pa.array([[("a", 1.5)], None], pa.map_(pa.string(), pa.float64()))
    assert rows({"attributes": of_numbers}) == [{"attributes": [("a", "1.5")]}, {}]


def test_of_two_entries_with_one_key_the_first_stays() -> None:
    sent = pa.array([[("a", "1"), ("a", "2"), ("x", "3")], [("a", "4")]], pa.map_(pa.string(), pa.string()))
    events = converted({"attributes": sent, "x": ["5", "6"]})
    assert events.columns.column("attributes").to_pylist() == [[("a", "1"), ("x", "3")], [("a", "4"), ("x", "6")]]
    assert adjusted(events) == [(EventField.ATTRIBUTES, AdjustmentAction.LEFT_OUT, [0])]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_attributes_beyond_the_limit_are_left_out(count: int) -> None:
    sent = pa.array([[("a", "1"), ("b", "2")], [], [("a", "1")]], pa.map_(pa.string(), pa.string()))
    events = converted({"attributes": sent, "x": ["5", "6", None], "y": ["7", None, None]}, max_attributes=count)
    all_of_them = [[("a", "1"), ("b", "2"), ("x", "5"), ("y", "7")], [("x", "6")], [("a", "1")]]
    assert events.columns.column("attributes").to_pylist() == [row[:count] for row in all_of_them]
    assert adjusted(events) == (
        [(EventField.ATTRIBUTES, AdjustmentAction.LEFT_OUT, [0])] if count < len(all_of_them[0]) else []
    )


def test_columns_alone_beyond_the_limit_are_left_out() -> None:
    events = converted({"x": ["5", None], "y": ["7", "8"]}, max_attributes=1)
    assert events.columns.column("attributes").to_pylist() == [[("x", "5")], [("y", "8")]]


def test_a_part_of_a_map_is_taken_for_that_part_alone() -> None:
    whole = pa.array([[("a", "1")], [("b", "2")], None, [("c", "3")]], pa.map_(pa.string(), pa.string()))
    assert rows({"attributes": whole[1:3]}) == [{"attributes": [("b", "2")]}, {}]


def test_entries_that_no_row_has_are_noticed_and_so_are_keys_that_come_twice() -> None:
    maps = pa.array([[("a", "1")], [("a", "2"), ("b", "3")]], pa.map_(pa.string(), pa.string()))
    assert attribute_columns.has_distinct_keys(maps)
    assert not attribute_columns.has_distinct_keys(maps[1:])
    assert not attribute_columns.has_distinct_keys(maps[:1])
    assert not attribute_columns.has_distinct_keys(pa.array([[("a", "1"), ("a", "2")]], maps.type))


_FEW, _ALIKE, _MANY = ["", "a", "ab"], ["axc", "ayc", "azc"], [str(number) for number in range(12)]


@given(st.lists(st.lists(st.sampled_from(_FEW + _ALIKE) | st.sampled_from(_MANY), max_size=12), max_size=4))
@example([["axc", "ayc"], ["axc"]])
@example([["axc", "b", "axc"]])
@example([_MANY])
@example([[*_MANY, "3"]])
@example([["", "a"], []])
@example([[], []])
@example([])
def test_keys_are_distinct_where_python_says_so(rows: list[list[str]]) -> None:
    maps = pa.array([[(key, "v") for key in row] for row in rows], pa.map_(pa.string(), pa.string()))
    assert attribute_columns.has_distinct_keys(maps) == all(len(set(row)) == len(row) for row in rows)


def test_many_rows_are_merged_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribute_columns, "_MAX_UINT16", 3)
    expected = [{"attributes": [("x", str(row)), ("y", str(-row))]} for row in range(9)]
    assert rows({"x": range(9), "y": [-row for row in range(9)]}) == expected


_cells = st.none() | st.text(max_size=3)

_columns = st.dictionaries(st.sampled_from("abc"), st.lists(_cells, min_size=4, max_size=4), max_size=3)

_maps = st.lists(st.none() | st.lists(st.tuples(st.sampled_from("abcd"), _cells), max_size=4), min_size=4, max_size=4)


@settings(max_examples=100)
@given(_columns, _maps, st.integers(1, 5), st.integers(0, 3))
def test_merged_attributes_are_those_of_each_row_by_itself(
    columns: dict[str, list[str | None]], sent: list[list[tuple[str, str | None]] | None], limit: int, begin: int
) -> None:
    maps = pa.array(sent, pa.map_(pa.string(), pa.string()))
    batch = pa.record_batch(
        {"attributes": maps} | {name: pa.array(rows, pa.string()) for name, rows in columns.items()}
    )
    events = to_events(batch[begin:], EVENT_SCHEMA, max_attributes=limit, max_bytes=1_000_000)
    left_out = [mask for _, mask in events.adjusted]
    for row, found in enumerate(events.columns.column("attributes").to_pylist(), start=begin):
        entries = [*(sent[row] or []), *((name, cells[row]) for name, cells in columns.items())]
        present = [(key, value) for key, value in entries if value is not None]
        first: dict[str, str] = {}
        for key, value in present:
            first.setdefault(key, value)
        assert found == list(first.items())[:limit]
        assert any(mask[row - begin] for mask in left_out) == (len(found) < len(present))
