"""Columns of any schema as events."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from services.ingest.core.adjustments import AdjustmentAction
from services.ingest.core.column_texts import MAX_DEPTH
from services.ingest.core.field_checks import EventField
from services.ingest.core.foreign_columns import (
    MAX_COLUMNS,
    UnusableColumnsError,
    check_schema,
)
from tests.unit.ingest.foreign_events import NOTHING, NS, TIME, adjusted, converted, refused, rows


def test_columns_that_are_absent_are_empty() -> None:
    assert converted({"x": pa.nulls(1)}).columns.to_pylist() == [NOTHING]


@pytest.mark.parametrize("names", [("record_id", "status_code", "trace_id"), ("recordId", "statusCode", "traceId")])
def test_fields_have_their_names_in_either_spelling(names: tuple[str, ...]) -> None:
    assert rows(dict(zip(names, (["r1"], [200], ["a1" * 16]), strict=True))) == [
        {"record_id": "r1", "status_code": 200, "trace_id": "a1" * 16}
    ]


@pytest.mark.parametrize("name", ["service", "message", "host", "trace_id", "record_id"])
@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.uint8(), pa.string())], ids=str
)
def test_strings_come_in_any_of_their_forms_and_null_is_empty(name: str, kind: Any) -> None:
    column = pa.array(["é", None]).dictionary_encode() if pa.types.is_dictionary(kind) else pa.array(["é", None], kind)
    assert rows({name: column}) == [{name: "é"}, {}]


def test_a_record_id_may_be_a_number() -> None:
    assert rows({"record_id": [4711, None]}) == [{"record_id": "4711"}, {}]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["error", "Fatal", "5", "loud", "", None, "x" * 9]),
        pa.array(["error", "Fatal", "5", "loud", "", None, "x" * 9]).dictionary_encode(),
        pa.array([5, 6, 5, 7, 0, None, -1], pa.int8()),
        pa.array([5, 6, 5, 2**63, 0, None, 8], pa.uint64()),
        pa.array([5.0, 6.0, 5.0, 5.5, float("nan"), None, float("inf")]),
    ],
    ids=lambda column: str(column.type),
)
def test_a_level_is_a_name_in_any_case_or_a_number(column: Any) -> None:
    assert converted({"level": column}).columns.column("level").to_pylist() == [5, 6, 5, 0, 0, 0, 0]


def test_a_dictionary_may_hold_more_levels_than_there_are_events() -> None:
    column: Any = pa.DictionaryArray.from_arrays(pa.array([2]), pa.array(["TRACE", "DEBUG", "INFO"]))
    assert rows({"level": column}) == [{"level": 3}]


def test_a_level_that_is_null_in_its_dictionary_is_none() -> None:
    column: Any = pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array([None, "INFO"]))
    assert rows({"level": column}) == [{}, {"level": 3}]


@pytest.mark.parametrize(
    "column",
    [
        *[
            pa.array([TIME, None], pa.timestamp(unit, zone))
            for unit in ("us", "ns")
            for zone in (None, "UTC", "Asia/Tokyo")
        ],
        pa.array([NS, None]),
        pa.array([NS // 1000, None], pa.uint64()),
        pa.array(["2026-03-01T12:00:00.123456Z", None]),
        pa.array(["2026-03-01T13:00:00.123456+01:00", None]).dictionary_encode(),
        pa.array([str(NS // 1000), None]),
    ],
    ids=lambda column: str(column.type),
)
def test_an_event_time_is_a_timestamp_a_number_or_a_string(column: Any) -> None:
    assert rows({"event_time": column}) == [{"event_time": NS}, {}]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1_772_366_400], pa.timestamp("s")),
        pa.array([1_772_366_400_000], pa.timestamp("ms")),
        pa.array([1_772_366_400]),
        pa.array([1_772_366_400_000]),
        pa.array([1_772_366_400.0]),
    ],
    ids=lambda column: str(column.type),
)
def test_an_event_time_may_be_in_any_unit(column: Any) -> None:
    assert rows({"eventTime": column}) == [{"event_time": 1_772_366_400_000_000_000}]


def test_a_number_of_seconds_keeps_its_fraction() -> None:
    assert rows({"event_time": [1_772_366_400.5]}) == [{"event_time": 1_772_366_400_500_000_000}]


@pytest.mark.parametrize(
    ("column", "found"),
    [
        (pa.array([2**62], pa.timestamp("s")), str(2**62)),
        (pa.array([-1], pa.timestamp("s")), "1969-12-31T23:59:59Z"),
        (pa.array([5]), "5"),
        (pa.array([-(2**63)]), str(-(2**63))),
        (pa.array([2**63], pa.uint64()), str(2**63)),
        (pa.array([99_999_999_999]), "99999999999"),
        (pa.array([float("nan")]), "NaN"),
        (pa.array(["yesterday"]), '"yesterday"'),
        (pa.array(["tomorrow"], pa.string_view()), '"tomorrow"'),
        (pa.array(["9999-12-31T00:00:00Z"]), '"9999-12-31T00:00:00Z"'),
        (pa.array(["1960-01-01T00:00:00Z"]), '"1960-01-01T00:00:00Z"'),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_what_is_no_time_of_ours_is_a_time_that_no_check_accepts(column: Any, found: str) -> None:
    events = converted({"event_time": column})
    assert events.columns.column("event_time").cast(pa.int64()).to_pylist() == [-1]
    assert events.found_values == {(0, EventField.EVENT_TIME): found}


def test_what_was_found_is_said_where_it_is_known() -> None:
    events = converted({"level": ["loud", None, "INFO"], "event_time": [None, "noon", None]})
    assert events.found_values == {
        (0, EventField.LEVEL): '"loud"',
        (1, EventField.LEVEL): "null",
        (1, EventField.EVENT_TIME): '"noon"',
    }


@pytest.mark.parametrize("name", ["timestamp", "time", "@timestamp"])
@pytest.mark.parametrize("column", [pa.array([TIME, None]), pa.array(["2026-03-01T12:00:00.123456Z", None])], ids=str)
def test_without_an_event_time_it_is_taken_from_where_loggers_write_it(name: str, column: Any) -> None:
    assert rows({name: column}) == [{"event_time": NS}, {}]


def test_a_time_that_cannot_be_read_elsewhere_stays_an_attribute() -> None:
    assert rows({"timestamp": ["noon"], "time": pa.nulls(1, pa.int8()), "@timestamp": [TIME]}) == [
        {"event_time": NS, "attributes": [("timestamp", "noon")]}
    ]
    assert rows({"time": [True]}) == [{"attributes": [("time", "true")]}]


def test_with_an_event_time_the_other_names_are_attributes() -> None:
    assert rows({"event_time": pa.nulls(1), "time": ["noon"]}) == [{"attributes": [("time", "noon")]}]


@pytest.mark.parametrize(
    "kind", [pa.int16(), pa.int32(), pa.int64(), pa.uint64(), pa.float16(), pa.float32(), pa.float64()], ids=str
)
def test_numbers_come_in_any_width(kind: Any) -> None:
    column = pa.array(np.array([200, 404], np.float16)) if kind == pa.float16() else pa.array([200, 404], kind)
    expected = [{"status_code": 200, "response_time": 200.0}, {"status_code": 404, "response_time": 404.0}]
    assert rows({"status_code": column, "response_time": column}) == expected


def test_numbers_that_do_not_fit_are_kept_as_attributes_before_all_others() -> None:
    events = converted(
        {
            "zone": ["a", "b", "c"],
            "attributes": pa.array([[("k", "v")]] * 3, pa.map_(pa.string(), pa.string())),
            "status_code": [2**40, 200, None],
            "response_time": [1.5, float("nan"), -1.0],
        }
    )
    assert events.columns.column("attributes").to_pylist() == [
        [("status_code", str(2**40)), ("k", "v"), ("zone", "a")],
        [("response_time", "NaN"), ("k", "v"), ("zone", "b")],
        [("response_time", "-1"), ("k", "v"), ("zone", "c")],
    ]
    assert events.columns.column("status_code").to_pylist() == [None, 200, None]
    assert events.columns.column("response_time").to_pylist() == [1.5, None, None]
    assert adjusted(events) == [
        (EventField.STATUS_CODE, AdjustmentAction.KEPT_AS_ATTRIBUTE, [0]),
        (EventField.RESPONSE_TIME, AdjustmentAction.KEPT_AS_ATTRIBUTE, [1, 2]),
    ]


@pytest.mark.parametrize(
    ("name", "column", "expected"),
    [
        ("service", [1], 'column "service": expected a string, found int64'),
        ("message", [b"x"], "expected a string, found binary"),
        ("host", [["x"]], "expected a string, found list"),
        ("traceId", [1.5], 'column "traceId": expected a string, found double'),
        ("recordId", [TIME], "expected a string or a number, found timestamp"),
        ("level", [True], "expected a string or an integer, found bool"),
        ("status_code", ["503"], "expected an integer, found string"),
        ("response_time", [{"a": 1}], "expected a number, found struct"),
        ("event_time", [True], "expected a timestamp, a string .* or a number since 1970, found bool"),
        ("attributes", ["{}"], "expected a map with keys that are strings, or a struct, found string"),
        ("other", [b"x"], "expected a string, number, boolean, time, struct, list or map, found binary"),
    ],
)
def test_a_type_that_cannot_hold_the_field_is_refused(name: str, column: Any, expected: str) -> None:
    refused({name: column}, expected)


def test_names_that_come_twice_are_refused() -> None:
    one = pa.array([1], pa.int32())
    with pytest.raises(UnusableColumnsError, match='column "x": expected each column once, found a second one'):
        check_schema(pa.schema([("x", pa.int8()), ("x", pa.int8())]))
    refused({"status_code": one, "statusCode": one}, 'column "statusCode": expected each column once')
    refused({"a": [{"b": 1}], "a.b": [2]}, 'column "a.b": expected each column once')


def test_too_many_columns_are_refused() -> None:
    wide = pa.struct([(str(index), pa.int8()) for index in range(MAX_COLUMNS)])
    with pytest.raises(UnusableColumnsError, match="at most 256 columns, those in structs included, found 257"):
        check_schema(pa.schema([("a", wide)]))


def test_values_that_are_nested_too_deep_are_refused() -> None:
    kind: Any = pa.int8()
    for _ in range(MAX_DEPTH):
        kind = pa.list_(kind)
    with pytest.raises(UnusableColumnsError, match='column "a": expected values at most 16 deep'):
        check_schema(pa.schema([("a", kind)]))


def test_a_dictionary_that_repeats_a_long_string_is_refused_before_it_is_read() -> None:
    indices: Any = pa.array([0] * 10_000, pa.int8())
    bomb = pa.DictionaryArray.from_arrays(indices, pa.array(["x" * 1_000_000]))
    refused({"message": bomb}, "expected at most 1000000 bytes")


def test_a_long_name_of_a_column_counts_for_each_event() -> None:
    refused({"x" * 120: [True] * 1000}, "expected at most 100000 bytes", max_bytes=100_000)


def test_a_name_is_quoted_and_cut() -> None:
    refused({'"\n' * 100: [b"x"]}, r'column "\\"\\n')
