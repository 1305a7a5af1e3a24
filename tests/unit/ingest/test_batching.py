"""Records hold several events, but not too many and not too large."""

from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.core.batching import BatchPolicy, BatchStep, framed_sizes, record_cuts
from tocsin.logs.v1.log_ingest_service_pb2 import IngestRequest

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


@given(st.lists(st.integers(min_value=2, max_value=50), max_size=40), st.integers(min_value=1, max_value=60))
def test_records_are_full_and_hold_all_events_in_order(sizes: list[int], most: int) -> None:
    cuts = record_cuts(np.array(sizes, dtype=np.int64), most).tolist()
    records = [sizes[begin:end] for begin, end in pairwise(cuts)]
    assert [size for record in records for size in record] == sizes
    assert all(record and (sum(record) <= most or len(record) == 1) for record in records)
    for record, following in pairwise(records):
        assert sum(record) + following[0] > most


@given(st.sampled_from([0, 1, 127, 128, 16383, 16384, 2**21 - 1, 2**21]))
def test_framed_sizes_are_those_of_the_wire(size: int) -> None:
    assert framed_sizes(np.array([size])).tolist() == [
        len(IngestRequest().SerializeToString()) + len(_varint(size)) + 1 + size
    ]


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])
