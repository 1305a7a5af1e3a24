"""Records hold several events, but not too many and not too large."""

from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.contract.event_columns import encode_log_batch
from services.ingest.core.batching import BatchPolicy, BatchStep, JoinPolicy, event_sizes, record_cuts
from tests.fakes.log_events import any_events, columns_of
from tocsin.logs.v1.log_event_pb2 import EventColumns, LogBatch, LogEvent

POLICY = BatchPolicy(linger=timedelta(milliseconds=3), max_events=3, max_bytes=100)


@pytest.mark.parametrize(
    ("events", "size", "added_size", "step"),
    [
        pytest.param(0, 0, 10, BatchStep.WAIT, id="the first waits for others"),
        pytest.param(1, 10, 10, BatchStep.WAIT, id="the second too"),
        pytest.param(2, 20, 10, BatchStep.FLUSH, id="the last that fits sends all"),
        pytest.param(1, 50, 50, BatchStep.WAIT, id="exactly full in bytes"),
        pytest.param(1, 50, 51, BatchStep.FLUSH_BEFORE, id="too large together"),
        pytest.param(0, 0, 101, BatchStep.WAIT, id="alone it may be as large as it is"),
    ],
)
def test_the_step_follows_from_the_pending_events(events: int, size: int, added_size: int, step: BatchStep) -> None:
    assert POLICY.step(events=events, size=size, added_size=added_size) is step


def test_without_linger_each_event_is_flushed_at_once() -> None:
    assert (
        BatchPolicy(linger=timedelta(0), max_events=3, max_bytes=9).step(events=0, size=0, added_size=1)
        is BatchStep.FLUSH
    )


@pytest.mark.parametrize("bad", [{"max_events": 0, "max_bytes": 1}, {"max_events": 1, "max_bytes": 0}])
def test_a_policy_that_can_never_flush_is_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        BatchPolicy(linger=timedelta(0), **bad)


@pytest.mark.parametrize(
    ("flush_cpu_s", "since_flush_s", "wait_s"),
    [
        pytest.param(0.0, 100.0, 0.003, id="before the first flush: the linger"),
        pytest.param(0.001, 1.0, 0.003, id="the last flush is long ago: the linger"),
        pytest.param(0.003, 0.002, 0.007, id="soon after a flush: three times its CPU since then"),
        pytest.param(0.001, 0.008, 0.003, id="never less than the linger"),
        pytest.param(1.0, 0.0, 0.015, id="never more than that"),
    ],
)
def test_an_event_waits_longer_soon_after_a_costly_flush(
    flush_cpu_s: float, since_flush_s: float, wait_s: float
) -> None:
    waited = POLICY.linger_seconds(flush_cpu_s=flush_cpu_s, since_flush_s=since_flush_s)
    assert waited == pytest.approx(wait_s)


def test_a_call_with_many_events_waits_for_the_linger_at_most() -> None:
    policy = JoinPolicy(linger=timedelta(milliseconds=3), max_bytes=9)
    assert policy.linger_seconds(flush_cpu_s=1.0, since_flush_s=0.0) == 0.003


@pytest.mark.parametrize(
    ("size", "added_size", "in_flight", "step"),
    [
        pytest.param(0, 10, 0, BatchStep.FLUSH, id="a call that is alone does not wait"),
        pytest.param(0, 10, 1, BatchStep.WAIT, id="the first waits while a record is on its way"),
        pytest.param(50, 10, 2, BatchStep.WAIT, id="the second too"),
        pytest.param(50, 49, 1, BatchStep.WAIT, id="not quite full"),
        pytest.param(50, 50, 1, BatchStep.FLUSH, id="full"),
        pytest.param(50, 51, 1, BatchStep.FLUSH_BEFORE, id="too large together"),
        pytest.param(0, 101, 1, BatchStep.FLUSH, id="a large one does not wait"),
    ],
)
def test_a_call_waits_while_a_record_is_on_its_way(size: int, added_size: int, in_flight: int, step: BatchStep) -> None:
    policy = JoinPolicy(linger=timedelta(milliseconds=3), max_bytes=100)
    assert policy.step(size=size, added_size=added_size, in_flight=in_flight) is step


def test_without_linger_no_call_waits() -> None:
    assert JoinPolicy(linger=timedelta(0), max_bytes=9).step(size=0, added_size=1, in_flight=1) is BatchStep.FLUSH


def test_a_policy_without_room_for_a_byte_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one byte, got 0"):
        JoinPolicy(linger=timedelta(0), max_bytes=0)


@settings(max_examples=60)
@given(st.lists(any_events, max_size=8), st.integers(min_value=1, max_value=6_000))
def test_records_are_full_and_hold_all_events_in_order(events: list[LogEvent], most: int) -> None:
    columns = columns_of(*events)
    sizes = event_sizes(columns).tolist()
    records = [sizes[begin:end] for begin, end in pairwise(record_cuts(columns, most))]
    assert [size for record in records for size in record] == sizes
    if columns.nbytes > most:
        assert all(record and (sum(record) <= most or len(record) == 1) for record in records)
        for record, following in pairwise(records):
            assert sum(record) + following[0] > most
    else:
        assert len(records) == bool(events)


@settings(max_examples=40)
@given(st.lists(any_events, min_size=1, max_size=8))
def test_a_stream_is_as_large_as_its_events_and_a_few_kilobytes(events: list[LogEvent]) -> None:
    columns = columns_of(*events)
    record = LogBatch.FromString(encode_log_batch(columns, EventColumns.NONE))
    own = event_sizes(columns).sum()
    assert own - 20 <= record.columns.stream_size <= own + 4_000
    assert columns.nbytes <= own + 64
