"""Retrying: one way to try again, with a log line and a growing pause after each failure."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from random import random as system_random
from typing import TypeVar

import structlog

from services.chassis.failures import Failure, is_transient

_T = TypeVar("_T")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Delays that double from `first_delay` up to `max_delay`, with jitter so that instances do not retry in step."""

    first_delay: timedelta = timedelta(milliseconds=100)
    max_delay: timedelta = timedelta(seconds=5)
    random: Callable[[], float] = system_random
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def delay(self, attempt: int) -> timedelta:
        """Return the delay after attempt number `attempt`, counted from 0: between half and all of the doubled one."""
        doubled: timedelta = self.first_delay * 2 ** min(attempt, 30)
        return min(doubled, self.max_delay) * (0.5 + 0.5 * self.random())

    async def pause(self, attempt: int) -> None:
        """Sleep for the delay after attempt number `attempt`."""
        await self.sleep(self.delay(attempt).total_seconds())


def is_logged(failures_before: int) -> bool:
    """Return whether a failure after so many in a row has a log line: the first, and then fewer and fewer."""
    return failures_before & (failures_before - 1) == 0


def transient_reason(error: Exception) -> str | None:
    """Return the reason of a Failure that may pass by itself."""
    return error.reason if isinstance(error, Failure) and is_transient(error) else None


def failure_reason(error: Exception) -> str | None:
    """Return the reason of any Failure: for work that must succeed in the end, whatever stands in its way."""
    return error.reason if isinstance(error, Failure) else None


async def retrying(
    attempt: Callable[[], Awaitable[_T]],
    *,
    log_event: str,
    backoff: Backoff = Backoff(),
    retry_reason: Callable[[Exception], str | None] = transient_reason,
    is_stopping: Callable[[], bool] = lambda: False,
    on_failure: Callable[[Exception, int], None] = lambda _error, _attempt: None,
    **fields: object,
) -> _T:
    """Call `attempt` until it succeeds, and return its result.

    `retry_reason` returns why an error is worth another attempt, or None: then the error is raised. Each failure is
    given to `on_failure`, and those of the attempts 0, 1, 2, 4, 8 and so on are logged as `log_event` with reason and
    `fields`. When `is_stopping` is true after the pause, the last error is raised; one attempt is made in any case.
    """
    number = 0
    while True:
        try:
            return await attempt()
        except Exception as error:
            reason = retry_reason(error)
            if reason is None:
                raise
            if is_logged(number):
                log.warning(log_event, reason=reason, attempt=number, **fields)
            on_failure(error, number)
            await backoff.pause(number)
            if is_stopping():
                raise
        number += 1
