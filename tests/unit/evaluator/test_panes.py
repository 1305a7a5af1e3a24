"""Panes: merging is exact in any order."""

import math
import sys
from fractions import Fraction
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.evaluator.core.records import Aggregate, Sample
from services.evaluator.core.window.panes import MergedAggregate, Pane

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
aggregates = st.builds(
    Aggregate,
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
@given(st.lists(aggregates, max_size=6))
def test_neither_order_nor_folding_matters(given: list[Aggregate]) -> None:
    one, other = Pane(), Pane()
    for source, aggregate in enumerate(given):
        one.replace(source, aggregate)
    for source, aggregate in enumerate(sorted(given, key=str)):
        other.replace(source, aggregate)
        other.fold(source)
    assert one.merged() == other.merged()
    assert one.samples() == other.samples()


@given(st.lists(finite, max_size=8))
def test_a_sum_is_rounded_once(numbers: list[float]) -> None:
    totals = MergedAggregate()
    for number in numbers:
        totals = totals.plus(Aggregate(sum=number))
    exact = sum(map(Fraction, numbers), Fraction(0))
    try:
        assert totals.sum == float(exact)
    except OverflowError:
        assert totals.sum == (math.inf if exact > 0 else -math.inf)


def test_a_row_replaces_its_former_one_and_folding_an_unknown_source_does_nothing() -> None:
    pane = Pane()
    pane.replace(1, Aggregate(counted=1))
    pane.replace(1, Aggregate(counted=2))
    pane.fold(2)
    assert pane.merged().counted == 2
    pane.fold(1)
    pane.replace(1, Aggregate(counted=3))
    assert pane.merged().counted == 5


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_the_earliest_samples_stay(order: tuple[int, ...]) -> None:
    pane = Pane()
    for number in order:
        pane.replace(0, Aggregate(samples=(Sample(number, "a", None, "m", None, None, "", ""),)))
        pane.fold(0)
    assert [sample.event_ns for sample in pane.samples()] == [0, 1, 2]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_sum_beyond_all_doubles_is_infinite(sign: int) -> None:
    largest = Aggregate(sum=sign * 1.7e308)
    assert MergedAggregate().plus(largest).plus(largest).sum == sign * math.inf


def test_an_infinite_sum_counts_as_the_largest_double() -> None:
    totals = MergedAggregate().plus(Aggregate(sum=math.inf)).plus(Aggregate(sum=-1e300))
    assert totals.sum == sys.float_info.max - 1e300
