import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from services.chassis.breaker import Breaker, BreakerState, CircuitOpenError
from tests.fakes.clock import FakeClock

Work = Callable[[], Awaitable[str]]
RESET = timedelta(seconds=30)


class RefusedError(Exception):
    """The target responded with a refusal."""


async def succeed() -> str:
    return "done"


async def fail() -> str:
    raise ConnectionError("no answer")


async def refuse() -> str:
    raise RefusedError


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def changes() -> list[tuple[str, BreakerState]]:
    return []


@pytest.fixture
def breaker(clock: FakeClock, changes: list[tuple[str, BreakerState]]) -> Breaker:
    return Breaker(
        "slack",
        fail_max=3,
        reset_timeout=RESET,
        clock=clock,
        on_change=lambda name, state: changes.append((name, state)),
        timeout=timedelta(milliseconds=200),
        counts_as_success=lambda error: isinstance(error, RefusedError),
    )


async def opened(breaker: Breaker) -> None:
    for _ in range(3):
        with pytest.raises(ConnectionError):
            await breaker.call(fail)
    assert breaker.state is BreakerState.OPEN


async def test_it_keeps_the_text_of_the_last_failure_that_counted(breaker: Breaker) -> None:
    assert breaker.last_failure == ""
    await opened(breaker)
    assert breaker.last_failure == "no answer"


async def test_it_opens_after_failures_in_a_row_and_each_caller_gets_its_own_error(
    breaker: Breaker, clock: FakeClock, changes: list[tuple[str, BreakerState]]
) -> None:
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await breaker.call(fail)
    assert await breaker.call(succeed) == "done"
    assert breaker.failure_count == 0
    await opened(breaker)
    assert breaker.opened_at == clock.now()
    with pytest.raises(CircuitOpenError) as refused:
        await breaker.call(succeed)
    assert refused.value.retry_at == clock.now() + RESET
    assert changes == [("slack", BreakerState.OPEN)]


async def test_a_probe_that_succeeds_closes_it(
    breaker: Breaker, clock: FakeClock, changes: list[tuple[str, BreakerState]]
) -> None:
    await opened(breaker)
    clock.advance(RESET)
    assert await breaker.call(succeed) == "done"
    assert breaker.state is BreakerState.CLOSED
    assert breaker.opened_at is None
    assert [state for _, state in changes] == [BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED]


async def test_a_probe_that_fails_opens_it_again(breaker: Breaker, clock: FakeClock) -> None:
    await opened(breaker)
    clock.advance(RESET)
    with pytest.raises(ConnectionError):
        await breaker.call(fail)
    assert breaker.state is BreakerState.OPEN
    clock.advance(RESET - timedelta(seconds=1))
    with pytest.raises(CircuitOpenError):
        await breaker.call(succeed)
    clock.advance(timedelta(seconds=1))
    assert await breaker.call(succeed) == "done"


async def test_it_stays_open_twice_as_long_after_each_probe_that_fails_up_to_a_limit_and_shortly_again_once_closed(
    clock: FakeClock,
) -> None:
    first, longest = timedelta(seconds=2), timedelta(seconds=5)
    breaker = Breaker("slack", fail_max=3, reset_timeout=longest, first_reset_timeout=first, clock=clock)
    await opened(breaker)
    pauses = []
    for _ in range(3):
        pauses.append(breaker.retry_at - clock.now())
        clock.advance(pauses[-1])
        with pytest.raises(ConnectionError):
            await breaker.call(fail)
    assert pauses == [first, 2 * first, longest]
    clock.advance(longest)
    assert await breaker.call(succeed) == "done"
    await opened(breaker)
    assert breaker.retry_at == clock.now() + first


async def test_the_first_reset_timeout_is_never_longer_than_the_longest(clock: FakeClock) -> None:
    breaker = Breaker("slack", fail_max=3, reset_timeout=RESET, first_reset_timeout=2 * RESET, clock=clock)
    await opened(breaker)
    assert breaker.retry_at == clock.now() + RESET


async def test_one_probe_at_a_time(breaker: Breaker, clock: FakeClock) -> None:
    await opened(breaker)
    clock.advance(RESET)
    entered, leave, attempts = asyncio.Event(), asyncio.Event(), []

    async def probe() -> str:
        attempts.append(1)
        entered.set()
        await leave.wait()
        return "done"

    first = asyncio.create_task(breaker.call(probe))
    await entered.wait()
    for _ in range(5):
        with pytest.raises(CircuitOpenError):
            await breaker.call(probe)
    leave.set()
    assert await first == "done"
    assert len(attempts) == 1
    assert breaker.state is BreakerState.CLOSED


async def test_of_concurrent_calls_one_is_the_probe(breaker: Breaker, clock: FakeClock) -> None:
    await opened(breaker)
    clock.advance(RESET)
    attempts = []

    async def probe() -> str:
        attempts.append(1)
        await asyncio.sleep(0)
        return "done"

    outcomes = await asyncio.gather(*[breaker.call(probe) for _ in range(10)], return_exceptions=True)
    assert len(attempts) == 1
    assert [outcome for outcome in outcomes if outcome == "done"] == ["done"]


async def test_work_that_hangs_is_a_failure(breaker: Breaker) -> None:
    async def hang() -> str:
        await asyncio.Event().wait()
        return "never"

    for _ in range(3):
        with pytest.raises(TimeoutError):
            await breaker.call(hang)
    assert breaker.state is BreakerState.OPEN


async def test_a_cancelled_caller_is_no_failure_and_the_attempt_goes_on(breaker: Breaker) -> None:
    entered, leave, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> str:
        entered.set()
        await leave.wait()
        ended.set()
        return "done"

    for _ in range(5):
        entered.clear()
        caller = asyncio.create_task(breaker.call(work))
        await entered.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
    assert breaker.failure_count == 0
    leave.set()
    async with asyncio.timeout(1):
        await ended.wait()
    assert breaker.state is BreakerState.CLOSED


async def test_the_probe_of_a_cancelled_caller_still_decides(breaker: Breaker, clock: FakeClock) -> None:
    await opened(breaker)
    clock.advance(RESET)
    entered, leave = asyncio.Event(), asyncio.Event()

    async def probe() -> str:
        entered.set()
        await leave.wait()
        return "done"

    caller = asyncio.create_task(breaker.call(probe))
    await entered.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    with pytest.raises(CircuitOpenError):
        await breaker.call(succeed)
    leave.set()
    await asyncio.sleep(0.01)
    assert await breaker.call(succeed) == "done"


async def test_a_refusal_by_the_target_is_raised_and_counts_as_success(breaker: Breaker, clock: FakeClock) -> None:
    for _ in range(10):
        with pytest.raises(RefusedError):
            await breaker.call(refuse)
    assert breaker.state is BreakerState.CLOSED
    await opened(breaker)
    clock.advance(RESET)
    with pytest.raises(RefusedError):
        await breaker.call(refuse)
    assert breaker.state is BreakerState.CLOSED


async def test_an_old_call_that_succeeds_late_does_not_close_it(breaker: Breaker) -> None:
    leave = asyncio.Event()

    async def slow() -> str:
        await leave.wait()
        return "done"

    old_call = asyncio.create_task(breaker.call(slow))
    await asyncio.sleep(0)
    await opened(breaker)
    leave.set()
    assert await old_call == "done"
    assert breaker.state is BreakerState.OPEN
    with pytest.raises(CircuitOpenError):
        await breaker.call(succeed)


async def test_an_old_call_that_fails_late_does_not_keep_it_open_for_longer(
    breaker: Breaker, clock: FakeClock, changes: list[tuple[str, BreakerState]]
) -> None:
    leave = asyncio.Event()

    async def slow() -> str:
        await leave.wait()
        raise ConnectionError

    old_call = asyncio.create_task(breaker.call(slow))
    await asyncio.sleep(0)
    await opened(breaker)
    since = clock.now()
    clock.advance(timedelta(seconds=10))
    leave.set()
    with pytest.raises(ConnectionError):
        await old_call
    assert breaker.opened_at == since
    assert changes == [("slack", BreakerState.OPEN)]
