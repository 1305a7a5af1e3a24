"""No more bytes are on their way than allowed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.core.budget import Budget


@given(st.lists(st.integers(min_value=0, max_value=60)))
def test_what_was_taken_never_exceeds_the_limit(sizes: list[int]) -> None:
    budget = Budget(100)
    held = [size for size in sizes if budget.take(size)]
    assert budget.taken == sum(held) <= 100
    for size in held:
        budget.give_back(size)
    assert budget.taken == 0


def test_what_does_not_fit_takes_nothing() -> None:
    budget = Budget(10)
    assert budget.take(8)
    assert not budget.take(3)
    assert budget.take(2)


def test_nothing_is_given_back_twice() -> None:
    budget = Budget(10)
    budget.take(3)
    with pytest.raises(ValueError, match="only 3"):
        budget.give_back(4)
