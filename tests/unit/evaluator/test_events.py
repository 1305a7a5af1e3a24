from datetime import UTC, datetime

import numpy as np
import ptars
import pyarrow as pa
import pytest

from services.evaluator.core.match.events import EventColumns, field_values, mask_of
from tests.unit.evaluator.expressions import batch_of
from tocsin.logs.v1 import log_event_pb2

EVENT = {
    "service": "a",
    "level": 5,
    "message": "m",
    "status_code": None,
    "response_time": None,
    "host": "",
    "trace_id": "",
    "attributes": {},
}


def columns_of(*changes: dict[str, object]) -> EventColumns:
    return EventColumns.of(batch_of([EVENT | change for change in changes]))


def test_decoded_events_are_taken_as_they_are() -> None:
    batch = log_event_pb2.LogBatch()
    event = batch.events.add(service="a", level="ERROR", message="m", status_code=500, attributes={"k": "v"})
    event.event_time.FromDatetime(datetime(2026, 1, 1, tzinfo=UTC))
    batch.events.add(service="b", level="INFO", message="n", response_time=1.5)
    handler = ptars.HandlerPool([log_event_pb2.DESCRIPTOR]).get_for_message(log_event_pb2.LogBatch.DESCRIPTOR)
    decoded = handler.list_to_record_batch([batch.SerializeToString()])
    columns = EventColumns.of(decoded.column("events").flatten())
    assert len(columns) == 2
    assert columns.column("service").to_pylist() == ["a", "b"]
    assert columns.integers("status_code").to_pylist() == [500, None]
    assert columns.column("response_time").to_pylist() == [None, 1.5]
    assert columns.attribute("k").to_pylist() == ["v", None]
    assert columns.batch.column("event_time").to_pylist()[1] is None


def test_of_a_repeated_attribute_the_last_counts() -> None:
    attributes = pa.array([[("k", "first"), ("k", "last")]], pa.map_(pa.string(), pa.string()))
    assert EventColumns.of(pa.RecordBatch.from_pydict({"attributes": attributes})).attribute("k").to_pylist() == [
        "last"
    ]


def test_some_rows_and_fields_can_be_taken() -> None:
    taken = columns_of({"host": "x"}, {"host": "y"}, {"host": "z"}).take(np.array([2, 0]), ["host", "level"])
    assert taken.batch.to_pylist() == [{"host": "z", "level": 5}, {"host": "x", "level": 5}]
    assert len(columns_of({}, {}).take(np.array([1])).batch.schema) == len(EVENT)


def test_what_was_computed_is_cached() -> None:
    columns = columns_of({})
    assert columns.cached("key", lambda: [1]) is columns.cached("key", list)


@pytest.mark.parametrize("offset", range(10))
@pytest.mark.parametrize(
    "booleans", [[True, None, False] * 7, [True, False, False] * 7, [True], [], [None], [None] * 9 + [False]]
)
def test_a_mask_holds_the_rows_with_one_value(booleans: list[bool | None], offset: int) -> None:
    array = pa.array(booleans, pa.bool_())[offset:]
    assert mask_of(array).tolist() == [answer is True for answer in booleans[offset:]]
    assert mask_of(array, value=False).tolist() == [answer is False for answer in booleans[offset:]]


@pytest.mark.parametrize(
    ("change", "field", "number"),
    [
        pytest.param({"response_time": 2.5}, "response_time", 2.5, id="a double"),
        pytest.param({}, "response_time", None, id="none"),
        pytest.param({"response_time": float("inf")}, "response_time", None, id="not finite"),
        pytest.param({"status_code": 404}, "status_code", 404.0, id="an integer"),
        pytest.param({"attributes": {"size": "12"}}, "attributes.size", 12.0, id="digits"),
        pytest.param({"attributes": {"size": "-1.5e3"}}, "attributes.size", -1500.0, id="as JSON writes it"),
        pytest.param({"attributes": {"size": "1e999"}}, "attributes.size", None, id="beyond all doubles"),
        pytest.param({"attributes": {"size": "12 kB"}}, "attributes.size", None, id="with a unit"),
        pytest.param({"attributes": {"size": "nan"}}, "attributes.size", None, id="no number by name"),
        pytest.param({"attributes": {"size": ""}}, "attributes.size", None, id="empty"),
        pytest.param({}, "attributes.size", None, id="no such attribute"),
    ],
)
def test_a_value_field_gives_numbers_where_there_are_any(
    change: dict[str, object], field: str, number: float | None
) -> None:
    numbers, present = field_values(columns_of(change, {"response_time": 7.0}), field)
    assert present[0] == (number is not None)
    if number is not None:
        assert numbers[0] == number


def test_the_distinct_values_of_a_field_and_of_an_attribute_are_found_once() -> None:
    columns = columns_of({"status_code": 5}, {"attributes": {"k": "v"}}, {"status_code": 5})
    codes, values = columns.distinct("status_code")
    assert (codes.tolist(), values.to_pylist()) == ([0, 1, 0], [5, None])
    codes, values = columns.distinct("attributes", "k")
    assert (codes.tolist(), values.to_pylist()) == ([0, 1, 0], [None, "v"])
    assert columns.distinct("attributes", "k")[1] is values
