from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.core.retry import RetryPolicy, retry_after_of
from tests.fakes.notifier import NOW

POLICY = RetryPolicy(
    max_attempts=5,
    base=timedelta(seconds=1),
    cap=timedelta(seconds=10),
)
chances = st.floats(min_value=0, max_value=1, exclude_max=True)


@given(st.integers(1, 10_000), chances)
def test_jitter_is_full_and_bounded(attempt: int, chance: float) -> None:
    wait = POLICY.wait(attempt, chance=chance)
    assert timedelta(0) <= wait <= min(POLICY.cap, POLICY.base * 2 ** min(attempt - 1, 10))


def test_the_ceiling_doubles() -> None:
    waits = [POLICY.wait(attempt, chance=0.5).total_seconds() for attempt in range(1, 7)]
    assert waits == [0.5, 1, 2, 4, 5, 5]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param(None, None, id="none"),
        pytest.param("120", timedelta(minutes=2), id="seconds"),
        pytest.param(" 1 ", timedelta(seconds=1), id="with blanks"),
        pytest.param("9" * 40, timedelta(days=1), id="a silly number"),
        pytest.param("Sun, 01 Mar 2026 12:00:30 GMT", timedelta(seconds=30), id="a date"),
        pytest.param("Sun, 01 Mar 2026 11:00:00 GMT", timedelta(0), id="a date that is over"),
        pytest.param("Sun, 01 Mar 2026 12:00:30 -0000", None, id="a date without zone"),
        pytest.param("Sun, 01 Mar 2099 12:00:30 GMT", timedelta(days=1), id="a date far away"),
        pytest.param("Wed, 21 Oct 99999999999999999999 07:28:00 GMT", None, id="a date beyond all calendars"),
        pytest.param("soon", None, id="no number"),
        pytest.param("-1", None, id="a negative number"),
        pytest.param("١٢", None, id="digits of another script"),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header: str | None, expected: timedelta | None) -> None:
    assert retry_after_of(header, now=NOW) == expected


@given(st.text(), st.sampled_from(("{}", "Wed, {} Oct 2026 07:28:00 GMT", "Wed, 21 Oct {} 07:28:00 GMT")))
def test_whatever_a_retry_after_says_it_is_no_failure(text: str, around: str) -> None:
    found = retry_after_of(around.format(text), now=NOW)
    assert found is None or timedelta(0) <= found <= timedelta(days=1)


@pytest.mark.parametrize(
    "wrong", [{"max_attempts": 0}, {"base": timedelta(0)}, {"base": timedelta(seconds=2), "cap": timedelta(seconds=1)}]
)
def test_a_policy_that_never_ends_or_never_waits_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        RetryPolicy(**wrong)
