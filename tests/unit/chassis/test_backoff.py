from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.chassis.backoff import Backoff


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_a_pause_is_between_half_and_all_of_a_doubling_that_ends(attempt: int, chance: float) -> None:
    backoff = Backoff(first=timedelta(seconds=1), most=timedelta(seconds=8), chance=lambda: chance)
    whole = timedelta(seconds=min(2 ** min(attempt, 3), 8))
    assert whole / 2 <= backoff.delay(attempt) <= whole
