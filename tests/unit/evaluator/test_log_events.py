"""Records of `log-events`, of columns and of the former form, become one batch of columns."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.chassis.kafka import Record
from services.contract.event_columns import EVENT_SCHEMA
from services.evaluator.adapters.log_events import UNDECODABLE, LogDecoder
from tests.fakes.log_events import allowed_events, an_event, events_of, record_of
from tocsin.logs.v1.log_event_pb2 import EventColumns, LogBatch, LogEvent

DECODER = LogDecoder()


def former(*events: LogEvent) -> bytes:
    return LogBatch(events=events).SerializeToString()


def records_of(values: Sequence[bytes]) -> list[Record]:
    return [Record("log-events", 0, offset, None, value, (), 1_000 + offset) for offset, value in enumerate(values)]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from([former, record_of]), st.lists(allowed_events, max_size=3)), max_size=6))
def test_the_events_of_both_forms_stand_in_the_order_of_offsets(fetched: list[tuple[type, list[LogEvent]]]) -> None:
    batch, unreadable = DECODER.decode(records_of([form(*events) for form, events in fetched]))
    assert unreadable == ()
    assert batch.columns.batch.schema == EVENT_SCHEMA
    assert batch.lengths.tolist() == [len(events) for _, events in fetched]
    assert events_of(batch.columns.batch) == [event for _, events in fetched for event in events]
    assert [record.offset for record in batch.records] == list(range(len(fetched)))


def _damaged(record: bytes) -> bytes:
    batch = LogBatch.FromString(record)
    batch.columns.stream = batch.columns.stream[:-4]
    return batch.SerializeToString()


UNREADABLE = [
    pytest.param(b"\xff", id="no protobuf"),
    pytest.param(former(an_event())[:-1], id="a former record that is cut off"),
    pytest.param(b"\x0a\x0b\x12\xf6" + b"\xff" * 8 + b"\x01", id="a former record at which ptars panics"),
    pytest.param(record_of(an_event())[:-1], id="columns that are cut off"),
    pytest.param(_damaged(record_of(an_event())), id="a stream that is cut off"),
    pytest.param(LogBatch(columns=EventColumns(schema_version=2)).SerializeToString(), id="a version to come"),
    pytest.param(former(an_event()) + record_of(an_event()), id="both forms, events first"),
    pytest.param(record_of(an_event()) + former(an_event()), id="both forms, columns first"),
]


@pytest.mark.parametrize("value", UNREADABLE)
def test_an_unreadable_record_is_named_and_the_others_are_read(value: bytes) -> None:
    records = records_of([record_of(an_event(host="1")), former(an_event(host="2")), value, former(an_event(host="3"))])
    batch, unreadable = DECODER.decode(records)
    assert [(each.record, each.reason) for each in unreadable] == [(records[2], UNDECODABLE)]
    assert batch.lengths.tolist() == [1, 1, 0, 1]
    assert batch.columns.column("host").to_pylist() == ["1", "2", "3"]


@pytest.mark.parametrize("value", UNREADABLE)
def test_a_fetch_of_an_unreadable_record_alone_has_no_events(value: bytes) -> None:
    batch, unreadable = DECODER.decode(records_of([value]))
    assert len(unreadable) == 1
    assert (batch.lengths.tolist(), len(batch.columns)) == ([0], 0)


def test_each_record_says_whose_events_it_has() -> None:
    tenant = LogBatch(tenant="acme").SerializeToString()
    values = [record_of(an_event()) + tenant, former(an_event()) + tenant, record_of(an_event()), former(an_event())]
    batch, unreadable = DECODER.decode(records_of([*values, b"\xff"]))
    assert [record.tenant for record in batch.records] == ["acme", "acme", "default", "default", "default"]
    assert len(unreadable) == 1
    assert batch.lengths.tolist() == [1, 1, 1, 1, 0]
