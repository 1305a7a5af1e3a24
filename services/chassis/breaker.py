"""A circuit breaker for asyncio on top of pybreaker: one for each target in each process."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar

import pybreaker

from services.chassis.clock import Clock

_T = TypeVar("_T")


class BreakerState(StrEnum):
    """What a breaker does with calls."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class CircuitOpenError(Exception):
    """The call was not made, because earlier calls failed; the next one is made at `retry_at`."""

    def __init__(self, name: str, retry_at: datetime) -> None:
        super().__init__(f"circuit breaker {name} is open")
        self.name = name
        self.retry_at = retry_at


class Breaker:
    """Makes calls while they succeed; after `fail_max` failures in a row refuses them for a while.

    Then it makes one call as a probe, and refuses others until the probe has ended. It refuses at first for
    `first_reset_timeout`, after each probe that failed for twice as long, at most for `reset_timeout`: the end of a
    short outage is noticed soon, a long one is not probed often. An exception for which `counts_as_success` is true
    shows that the target works: it refused this one request.
    """

    def __init__(
        self,
        name: str,
        *,
        fail_max: int,
        reset_timeout: timedelta,
        first_reset_timeout: timedelta | None = None,
        clock: Clock,
        on_change: Callable[[str, BreakerState], None] | None = None,
        timeout: timedelta = timedelta(seconds=10),
        counts_as_success: Callable[[Exception], bool] = lambda _: False,
    ) -> None:
        self.name = name
        self._timeout = timeout.total_seconds()
        self._clock = clock
        self._counts_as_success = counts_as_success
        self._probe = asyncio.Lock()
        self._max_reset_timeout = reset_timeout
        self._next_reset_timeout = self._first_reset_timeout = min(first_reset_timeout or reset_timeout, reset_timeout)
        self._reset_timeout = self._first_reset_timeout
        self._opened_at: datetime | None = None
        self._last_failure = ""
        self._on_change = on_change
        self._reported = BreakerState.CLOSED
        self._breaker: Any = pybreaker.CircuitBreaker(
            fail_max=fail_max,
            # pybreaker waits by the system clock; we wait before it, by the injected one.
            reset_timeout=0,
            name=name,
            listeners=[_Listener(self._changed)],
            throw_new_error_on_trip=False,
        )

    @property
    def state(self) -> BreakerState:
        """What it does with calls now."""
        return BreakerState(self._breaker.current_state)

    @property
    def failure_count(self) -> int:
        """Failures since the last success."""
        return int(self._breaker.fail_counter)

    @property
    def last_failure(self) -> str:
        """The text of the last failure that counted; empty before the first one."""
        return self._last_failure

    @property
    def opened_at(self) -> datetime | None:
        """When it opened last; None while it is closed."""
        return self._opened_at

    async def call(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Do the work, or raise CircuitOpenError; TimeoutError after the timeout. A cancelled caller is no failure."""
        if self.state is BreakerState.CLOSED:
            return await self._attempt(work)
        if self._probe.locked() or self._clock.now() < self.retry_at:
            raise CircuitOpenError(self.name, self.retry_at)
        await self._probe.acquire()
        return await self._attempt(work, lambda _: self._probe.release())

    @property
    def retry_at(self) -> datetime:
        """When the next probe may be made."""
        now = self._clock.now()
        return now if self._opened_at is None else self._opened_at + self._reset_timeout

    async def _attempt(self, work: Callable[[], Awaitable[_T]], ended: Callable[[object], None] | None = None) -> _T:
        # In a task of its own: the cancellation of a caller must neither count as a failure nor stop the attempt,
        # because the breaker needs its outcome.
        task = asyncio.create_task(self._guarded(work))
        task.add_done_callback(_retrieve_outcome)
        if ended is not None:
            task.add_done_callback(ended)
        return await asyncio.shield(task)

    async def _guarded(self, work: Callable[[], Awaitable[_T]]) -> _T:
        refusal: Exception
        with self._breaker.calling():
            try:
                async with asyncio.timeout(self._timeout):
                    return await work()
            except Exception as error:
                if not self._counts_as_success(error):
                    self._last_failure = str(error)
                    raise
                refusal = error
        raise refusal

    def _changed(self, state: BreakerState) -> None:
        if state is self._reported:
            # A call from before it opened has failed, too.
            return
        self._reported = state
        if state is BreakerState.OPEN:
            self._opened_at = self._clock.now()
            self._reset_timeout = self._next_reset_timeout
            self._next_reset_timeout = min(2 * self._reset_timeout, self._max_reset_timeout)
        elif state is BreakerState.CLOSED:
            self._opened_at = None
            self._next_reset_timeout = self._first_reset_timeout
        if self._on_change is not None:
            self._on_change(self.name, state)


def _retrieve_outcome(task: "asyncio.Task[Any]") -> None:
    """Retrieve the outcome, in case the caller is gone."""
    if not task.cancelled():
        task.exception()


class _Listener(pybreaker.CircuitBreakerListener):
    def __init__(self, changed: Callable[[BreakerState], None]) -> None:
        self._changed = changed

    def state_change(self, _: Any, __: Any, new_state: Any) -> None:
        self._changed(BreakerState(new_state.name))
