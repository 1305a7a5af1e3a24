"""Sums are exact: neither order nor grouping matters, and a sum is rounded once."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.evaluator.core.window.exact_sums import ExactSums

finite = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(finite, max_size=8))
def test_a_sum_is_rounded_once(numbers: list[float]) -> None:
    sums = ExactSums(2)
    for number in numbers:
        sums.add(np.array([1]), np.array([number]))
    exact = sum(map(Fraction, numbers), Fraction(0))
    try:
        expected = float(exact)
    except OverflowError:
        expected = math.inf if exact > 0 else -math.inf
    assert sums.rounded().tolist() == [0.0, expected]
    assert sums.take(np.array([1, 0])).rounded().tolist() == [expected, 0.0]


def test_sums_that_two_doubles_cannot_hold_are_exact_too() -> None:
    sums = ExactSums(2)
    sums.grow(3)
    for number in (1e300, 1.0, 1e-300, -1e300, 1e-300):
        sums.add(np.array([2]), np.array([number]))
    assert sums.take(np.array([2, 0])).rounded().tolist() == [1.0, 0.0]
    sums.add(np.array([2]), np.array([-1.0]))
    assert sums.rounded().tolist() == [0.0, 0.0, 2e-300]


@given(st.lists(st.lists(finite, min_size=1, max_size=5), max_size=5))
def test_sums_of_many_numbers_are_those_of_the_numbers_added_one_by_one(numbers: list[list[float]]) -> None:
    together, one_by_one = ExactSums(1 + len(numbers)), ExactSums(1 + len(numbers))
    rows = np.arange(1, 1 + len(numbers))
    starts = np.cumsum([0, *map(len, numbers)])[:-1]
    together.add_all(rows, np.array([each for row in numbers for each in row]), starts)
    for row, each_of_row in zip(rows, numbers, strict=True):
        for number in each_of_row:
            one_by_one.add(np.array([row]), np.array([number]))
    assert together.rounded().tolist() == one_by_one.rounded().tolist()


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param([0.1] * 1000 + [0.3], id="alike"),
        pytest.param([1e16, 1.0, -1e16], id="of two sizes"),
        pytest.param([1e300, 1.0, 1e-300, -1e300, 2**-1074], id="of more sizes than cuts"),
        pytest.param([1.7e308, 0.5, -1.7e308], id="too large to be cut"),
        pytest.param([0.0, 0.0], id="nothing"),
    ],
)
def test_numbers_of_any_sizes_are_summed_up_exactly(numbers: list[float]) -> None:
    sums = ExactSums(2)
    sums.add_all(np.array([1]), np.array(numbers), np.array([0]))
    assert sums.rounded()[1] == math.fsum(numbers)


def test_sums_of_many_numbers_are_exact_also_beyond_all_doubles() -> None:
    sums = ExactSums(4)
    numbers = [1e16, 1.0, -1e16, 1.7e308, 1.7e308, -1.7e308, 0.5, np.inf, -1e300]
    sums.add_all(np.array([1, 2, 3]), np.array(numbers), np.array([0, 3, 7]))
    assert sums.rounded().tolist() == [0.0, 1.0, 1.7e308, float(np.finfo(np.float64).max) - 1e300]
