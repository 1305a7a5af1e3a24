from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from services.chassis.backoff import Backoff, failure_reason, retrying
from services.chassis.failures import Failure, StoreRefused, StoreUnavailable

AWAY = StoreUnavailable("away")
REFUSED = StoreRefused("not these values")


class Attempts:
    """Fails with each given error, then returns "done"; records the pauses between."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.count = 0
        self.pauses: list[float] = []

    @property
    def backoff(self) -> Backoff:
        return Backoff(first_delay=timedelta(seconds=1), random=lambda: 1.0, sleep=self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def __call__(self) -> str:
        self.count += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_a_delay_is_between_half_and_all_of_a_doubling_that_ends(attempt: int, random: float) -> None:
    backoff = Backoff(first_delay=timedelta(seconds=1), max_delay=timedelta(seconds=8), random=lambda: random)
    whole = timedelta(seconds=min(2 ** min(attempt, 3), 8))
    assert whole / 2 <= backoff.delay(attempt) <= whole


async def test_a_transient_failure_is_logged_and_retried_after_growing_pauses() -> None:
    attempts = Attempts(AWAY, AWAY, AWAY)
    with capture_logs() as logs:
        result = await retrying(attempts, log_event="row_delayed", backoff=attempts.backoff, row="a")
    assert (result, attempts.count, attempts.pauses) == ("done", 4, [1.0, 2.0, 4.0])
    assert logs == [
        {"event": "row_delayed", "log_level": "warning", "reason": "STORE_UNAVAILABLE", "attempt": number, "row": "a"}
        for number in range(3)
    ]


async def test_failures_in_a_row_are_logged_ever_more_seldom() -> None:
    attempts = Attempts(*[AWAY] * 9)
    with capture_logs() as logs:
        await retrying(attempts, log_event="row_delayed", backoff=attempts.backoff)
    assert [line["attempt"] for line in logs] == [0, 1, 2, 4, 8]


@pytest.mark.parametrize("error", [REFUSED, ValueError("a bug")])
async def test_what_would_fail_again_is_raised_at_once(error: Exception) -> None:
    attempts = Attempts(error)
    with capture_logs() as logs, pytest.raises(type(error)):
        await retrying(attempts, log_event="row_delayed", backoff=attempts.backoff)
    assert (attempts.count, attempts.pauses, logs) == (1, [], [])


async def test_the_caller_says_what_is_retried() -> None:
    attempts = Attempts(REFUSED, AWAY)
    await retrying(attempts, log_event="row_delayed", backoff=attempts.backoff, retry_reason=failure_reason)
    assert attempts.count == 3


async def test_each_failure_is_handed_on_before_the_pause() -> None:
    attempts, handed_on = Attempts(AWAY, AWAY), list[tuple[Exception, int, int]]()

    def on_failure(error: Exception, attempt: int) -> None:
        handed_on.append((error, attempt, len(attempts.pauses)))

    await retrying(attempts, log_event="row_delayed", backoff=attempts.backoff, on_failure=on_failure)
    assert handed_on == [(AWAY, 0, 0), (AWAY, 1, 1)]


async def test_when_the_service_stops_the_last_failure_is_raised() -> None:
    attempts = Attempts(*[AWAY] * 5)
    with pytest.raises(Failure):
        await retrying(
            attempts, log_event="row_delayed", backoff=attempts.backoff, is_stopping=lambda: attempts.count == 2
        )
    assert attempts.count == 2


async def test_one_attempt_is_made_even_when_the_service_stops() -> None:
    attempts = Attempts()
    assert await retrying(attempts, log_event="row_delayed", is_stopping=lambda: True) == "done"
