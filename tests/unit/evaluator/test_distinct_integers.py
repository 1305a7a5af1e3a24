"""The distinct values of integers are those that a set has."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.evaluator.core.distinct_integers import distinct_integers


@given(st.lists(st.integers(-3, 3) | st.integers(-(2**63), 2**63 - 1)))
def test_each_value_is_there_once_and_they_rise(values: list[int]) -> None:
    assert distinct_integers(np.array(values, dtype=np.int64)).tolist() == sorted(set(values))
