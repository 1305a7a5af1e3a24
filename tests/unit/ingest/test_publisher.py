"""No more bytes are in flight than allowed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.worker.publisher import InFlightBytes


@given(st.lists(st.integers(min_value=0, max_value=60)))
def test_reserved_bytes_never_exceed_the_limit(sizes: list[int]) -> None:
    in_flight = InFlightBytes(100)
    held = [size for size in sizes if in_flight.reserve(size)]
    assert in_flight.reserved == sum(held) <= 100
    for size in held:
        in_flight.release(size)
    assert in_flight.reserved == 0


def test_a_size_that_does_not_fit_reserves_nothing() -> None:
    in_flight = InFlightBytes(10)
    assert in_flight.reserve(8)
    assert not in_flight.reserve(3)
    assert in_flight.reserve(2)


def test_nothing_is_released_twice() -> None:
    in_flight = InFlightBytes(10)
    in_flight.reserve(3)
    with pytest.raises(ValueError, match="only 3"):
        in_flight.release(4)
