"""Panes: merging is exact in any order."""

import math
import sys
from fractions import Fraction
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.evaluator.core.records import Sample, Tally
from services.evaluator.core.window.panes import Pane, Totals

finite = st.floats(allow_nan=False, allow_infinity=False)
samples = st.builds(
    Sample,
    st.integers(0, 3),
    st.sampled_from("ab"),
    st.none(),
    st.sampled_from("xy"),
    st.sampled_from((None, 1, 20)),
    st.none(),
    st.just(""),
    st.just(""),
)
tallies = st.builds(
    Tally,
    counted=st.integers(0, 9),
    total=st.integers(0, 9),
    value_count=st.integers(0, 9),
    sum=st.floats(allow_nan=False),
    min=st.none() | finite,
    max=st.none() | finite,
    last_event_ns=st.none() | st.integers(0, 99),
    samples=st.lists(samples, max_size=3).map(tuple),
)


@settings(deadline=None)
@given(st.lists(tallies, max_size=6))
def test_neither_order_nor_folding_matters(given: list[Tally]) -> None:
    one, other = Pane(), Pane()
    for source, tally in enumerate(given):
        one.put(source, tally)
    for source, tally in enumerate(sorted(given, key=str)):
        other.put(source, tally)
        other.fold(source)
    assert one.totals() == other.totals()
    assert one.samples() == other.samples()


@given(st.lists(finite, max_size=8))
def test_a_sum_is_rounded_once(numbers: list[float]) -> None:
    totals = Totals()
    for number in numbers:
        totals = totals.plus(Tally(sum=number))
    exact = sum(map(Fraction, numbers), Fraction(0))
    try:
        assert totals.sum == float(exact)
    except OverflowError:
        assert totals.sum == (math.inf if exact > 0 else -math.inf)


def test_putting_replaces_and_folding_nothing_is_nothing() -> None:
    pane = Pane()
    pane.put(1, Tally(counted=1))
    pane.put(1, Tally(counted=2))
    pane.fold(2)
    assert pane.totals().counted == 2
    pane.fold(1)
    pane.put(1, Tally(counted=3))
    assert pane.totals().counted == 5


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_the_earliest_samples_stay(order: tuple[int, ...]) -> None:
    pane = Pane()
    for number in order:
        pane.put(0, Tally(samples=(Sample(number, "a", None, "m", None, None, "", ""),)))
        pane.fold(0)
    assert [sample.event_ns for sample in pane.samples()] == [0, 1, 2]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_sum_beyond_all_numbers_is_infinite(sign: int) -> None:
    largest = Tally(sum=sign * 1.7e308)
    assert Totals().plus(largest).plus(largest).sum == sign * math.inf


def test_an_infinite_sum_counts_as_the_largest_number() -> None:
    totals = Totals().plus(Tally(sum=math.inf)).plus(Tally(sum=-1e300))
    assert totals.sum == sys.float_info.max - 1e300
