"""Slows a tenant down that sends more than its rate: its calls wait, and are let in one after the other.

A sender that is refused, and tries again at once, costs nearly as much as one that is let in. So a call that comes too
early waits with its request unread, as one without a slot does (`receive_limiter` of the chassis). Only a call that
would wait too long is refused, with the time after which it may come again.

How many events a call has is known when it has been read. So beyond the rate one call at a time is let in, in the
order in which they came, and the next one when it has ended; below it all are. Behind a call that comes slowly the
others wait for the longest time, and are let in then if their tenant may send. Of many calls that were let in below
the rate, all but the first may find that their tenant is far beyond it when they have been read: they are refused
then (`check`).
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta

from services.chassis.clock import Clock
from services.chassis.failures import TenantLimitReached
from services.chassis.tenants import current_tenant
from services.ingest.core.event_rates import EventRates

_MAX_WAIT = timedelta(seconds=1)
# Of each tenant; a call that waits costs its task and what gRPC receives without being asked, some 100 KiB.
_MAX_WAITING = 100


class RateLimiter:
    """Lets the calls of each tenant in at its rate."""

    def __init__(
        self, rates: EventRates, clock: Clock, *, max_wait: timedelta = _MAX_WAIT, max_waiting: int = _MAX_WAITING
    ) -> None:
        self._rates = rates
        self._clock = clock
        self._max_wait_s = max_wait.total_seconds()
        self._max_waiting = max_waiting
        self._waiting: Counter[str] = Counter()
        self._lines: dict[str, asyncio.Lock] = {}

    async def run(self, call: Callable[[], Awaitable[bytes]]) -> bytes:
        """Return the call's response, when the current tenant may send; raise TenantLimitReached where that is late."""
        tenant = current_tenant()
        if not self._wait_s(tenant):
            return await call()
        line = self._lines.setdefault(tenant, asyncio.Lock())
        has_line = await self._take_turn(tenant, line)
        try:
            return await call()
        finally:
            if has_line:
                line.release()

    def check(self) -> None:
        """Raise TenantLimitReached where the current tenant has sent far too much since its call was let in."""
        tenant = current_tenant()
        if self._wait_s(tenant) > self._max_wait_s:
            raise self._limit_reached(tenant)

    async def _take_turn(self, tenant: str, line: asyncio.Lock) -> bool:
        """Wait until the tenant may send, and return whether the call holds the line, or goes past whoever does."""
        if self._waiting[tenant] == self._max_waiting or self._wait_s(tenant) > self._max_wait_s:
            raise self._limit_reached(tenant)
        self._waiting[tenant] += 1
        try:
            async with asyncio.timeout(self._max_wait_s):
                await line.acquire()
                try:
                    while wait_s := self._wait_s(tenant):  # noqa: ASYNC110  (the time is known, and no event says it)
                        await asyncio.sleep(wait_s)
                except BaseException:
                    line.release()
                    raise
        except TimeoutError:
            if self._wait_s(tenant):
                raise self._limit_reached(tenant) from None
            return False
        finally:
            self._waiting[tenant] -= 1
        return True

    def _wait_s(self, tenant: str) -> float:
        return self._rates.wait(tenant, self._clock.monotonic())

    def _limit_reached(self, tenant: str) -> TenantLimitReached:
        limit = self._rates.limit_of(tenant)
        return TenantLimitReached(
            f"tenant {tenant} may send {limit} events a second; try again later",
            retry_after=timedelta(seconds=self._wait_s(tenant)),
            limit="events_per_second",
            value=str(limit),
        )
