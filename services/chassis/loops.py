"""Loops: work that a service does again and again beside its calls, and that nothing but the way out ends.

A turn that fails is logged and counted, and another one follows after a pause that grows with each failure in a row.
What a turn fails of is seldom its own doing: a cancelled query, a full disk, a broker that is away. When it keeps
failing, health shows it until a turn succeeds. A turn must therefore leave nothing half done behind it: a worker
whose memory is part of the work (the evaluator's stages) runs in `background` instead, and its crash ends the service.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import structlog

from services.chassis import telemetry
from services.chassis.backoff import Backoff
from services.chassis.failures import Failure
from services.chassis.health import Health
from services.chassis.lifecycle import background

log = structlog.get_logger()

# One failure that passes is worth a log line, not a change of health.
_FAILURES_SHOWN = 3


class Loop:
    """Does `turn` until it is stopped, with pauses between.

    After a turn the pause is as long as the turn says, else `every`, and `wake` ends it; after a failure it grows.
    An error for which `ends` is true comes out of `run`.
    """

    def __init__(
        self,
        turn: Callable[[], Awaitable[timedelta | None]],
        *,
        name: str,
        health: Health | None = None,
        every: timedelta = timedelta(),
        backoff: Backoff = Backoff(),
        ends: Callable[[Exception], bool] = lambda _: False,
    ) -> None:
        self.name = name
        self._turn = turn
        self._health = health
        self._every = every
        self._backoff = backoff
        self._ends = ends
        self._woken = asyncio.Event()
        self._stopped = asyncio.Event()
        self._attempt = 0
        self._failures = telemetry.meter(__name__).create_counter(
            "tocsin.loop.failures", description="Turns of background work that failed, by loop and reason."
        )

    def wake(self) -> None:
        """Have the next turn begin at once, unless the last one has failed."""
        self._woken.set()

    def stop(self) -> None:
        """Have one more turn done, without any pause before it, and end."""
        self._stopped.set()
        self._woken.set()

    def mark_working(self) -> None:
        """Say that the turn is on its way: for one that has no end of its own, as a listener's."""
        self._attempt = 0
        if self._health is not None:
            self._health.mark_working(self.name)

    @property
    def is_stopping(self) -> bool:
        """Whether this turn is the last."""
        return self._stopped.is_set()

    async def run(self) -> None:
        """Work until stopped."""
        while True:
            is_last = self._stopped.is_set()
            self._woken.clear()
            pause = await self._try()
            if is_last:
                return
            if pause is None:
                await _wait(self._stopped, self._backoff.delay(self._attempt - 1))
            else:
                await _wait(self._woken, pause)

    async def until_success(self) -> None:
        """Do turns until one succeeds: for what a service must have done before it can begin."""
        while await self._try() is None:
            await _wait(self._stopped, self._backoff.delay(self._attempt - 1))

    async def _try(self) -> timedelta | None:
        """Do a turn; gives the pause after it, or None when it failed."""
        try:
            pause = await self._turn()
        except Failure as failure:
            log.warning("loop_waits", loop=self.name, reason=failure.reason, attempt=self._attempt)
            self._failed(failure.reason, failure.dependency)
        except Exception as error:
            if self._ends(error):
                raise
            log.exception("loop_failed", loop=self.name, attempt=self._attempt)
            self._failed("CRASHED", "")
        else:
            self.mark_working()
            return self._every if pause is None else pause
        return None

    def _failed(self, reason: str, dependency: str) -> None:
        self._attempt += 1
        self._failures.add(1, {"loop": self.name, "reason": reason})
        if self._health is not None and self._attempt >= _FAILURES_SHOWN:
            self._health.mark_failing(self.name, dependency or self.name)


@asynccontextmanager
async def looping(loop: Loop, *, within: timedelta = timedelta()) -> AsyncIterator[Loop]:
    """Run the loop until the end of the block; with `within` it may do a last turn for so long on the way out."""
    stop = loop.stop if within else None
    async with background(loop.run(), name=loop.name, stop=stop, within=within):
        yield loop


async def _wait(event: asyncio.Event, most: timedelta) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(most.total_seconds()):
            await event.wait()
