"""Background work of a service: tasks that run beside its calls, and loops that survive their failures.

A turn of a Loop that fails is counted and logged (of many in a row ever fewer), and the next one follows after a pause
that grows with each failure in a row. Most failures are not the turn's own fault: a cancelled query, a full disk, a
broker that is away. While it keeps failing, health shows it. A turn must therefore leave no half-done work behind. A
worker whose memory is part of its work (the evaluator's window stage) uses `background` alone: its crash ends the
service.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import structlog

from services.chassis import telemetry
from services.chassis.backoff import Backoff, is_logged
from services.chassis.failures import Failure
from services.chassis.health import Health

log = structlog.get_logger()

# One failure that passes is worth a log line, not a change of health.
_FAILURES_BEFORE_DOWN = 3
_CANCEL_AGAIN_SECONDS = 0.5


@asynccontextmanager
async def background(
    work: Coroutine[Any, Any, None],
    *,
    name: str,
    stop: Callable[[], None] | None = None,
    stop_timeout: timedelta = timedelta(),
) -> AsyncIterator[None]:
    """Run `work` until the end of the block; when it crashes, cancel the block and raise the crash from it.

    At the end call `stop`, give the work `stop_timeout` to end by itself, and then cancel it.
    """
    task = _BackgroundTask(asyncio.create_task(work, name=name))
    try:
        yield
    except asyncio.CancelledError:
        task.raise_crash()
        raise
    finally:
        await task.end(stop, stop_timeout)


class _BackgroundTask:
    """A task that runs beside a block, and cancels the block when it crashes."""

    def __init__(self, task: "asyncio.Task[None]") -> None:
        self._task = task
        self._block = asyncio.current_task()
        self._has_cancelled = False
        task.add_done_callback(self._ended)

    def raise_crash(self) -> None:
        """Raise the task's crash, if that is why the block was cancelled."""
        if self._has_cancelled and self._block is not None:
            self._has_cancelled = False
            self._block.uncancel()
            self._task.result()

    async def end(self, stop: Callable[[], None] | None, stop_timeout: timedelta) -> None:
        """Stop the task, or cancel it."""
        self._block = None
        if stop is not None and not self._task.done():
            stop()
            await asyncio.wait({self._task}, timeout=stop_timeout.total_seconds())
        while not self._task.done():
            # More than once if need be: an error while the work cleans up can take the place of its cancellation.
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=_CANCEL_AGAIN_SECONDS)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if task.cancelled() or task.exception() is None:
            return
        log.error("background_crashed", task=task.get_name(), exc_info=task.exception())
        if self._block is not None:
            self._has_cancelled = True
            self._block.cancel()


class Loop:
    """Calls `turn` until it is stopped, with pauses between.

    After a turn it pauses as long as the turn returns, else `every`; `wake` ends this pause. After a failure the pause
    grows. An error for which `is_fatal` is true is raised from `run`.
    """

    def __init__(
        self,
        turn: Callable[[], Awaitable[timedelta | None]],
        *,
        name: str,
        health: Health | None = None,
        every: timedelta = timedelta(),
        backoff: Backoff = Backoff(),
        is_fatal: Callable[[Exception], bool] = lambda _: False,
    ) -> None:
        self.name = name
        self._turn = turn
        self._health = health
        self._every = every
        self._backoff = backoff
        self._is_fatal = is_fatal
        self._woken = asyncio.Event()
        self._stopped = asyncio.Event()
        self._failures = 0
        self._failure_count = telemetry.meter(__name__).create_counter(
            "tocsin.loop.failures", description="Turns of background work that failed, by loop and reason."
        )

    def wake(self) -> None:
        """Begin the next turn at once, unless the last one has failed."""
        self._woken.set()

    def stop(self) -> None:
        """Do one more turn, without a pause before it, and end."""
        self._stopped.set()
        self._woken.set()

    def mark_working(self) -> None:
        """Record that the turn works: for a turn that has no end of its own, as a listener's."""
        self._failures = 0
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
            pause = await self._try_turn()
            if is_last:
                return
            if pause is None:
                await self._back_off()
            else:
                await wait_for_event(self._woken, pause)

    async def until_success(self) -> None:
        """Do turns until one succeeds: for what a service must have done before it can begin."""
        while await self._try_turn() is None:
            await self._back_off()

    async def _back_off(self) -> None:
        await wait_for_event(self._stopped, self._backoff.delay(self._failures - 1))

    async def _try_turn(self) -> timedelta | None:
        """Do a turn; return the pause after it, or None when it failed."""
        try:
            pause = await self._turn()
        except Failure as failure:
            if is_logged(self._failures):
                log.warning("loop_turn_failed", loop=self.name, reason=failure.reason, attempt=self._failures)
            self._failed(failure.reason, failure.dependency)
        except Exception as error:
            if self._is_fatal(error):
                raise
            if is_logged(self._failures):
                log.exception("loop_turn_crashed", loop=self.name, attempt=self._failures)
            self._failed("CRASHED", "")
        else:
            self.mark_working()
            return self._every if pause is None else pause
        return None

    def _failed(self, reason: str, dependency: str) -> None:
        self._failures += 1
        self._failure_count.add(1, {"loop": self.name, "reason": reason})
        if self._health is not None and self._failures >= _FAILURES_BEFORE_DOWN:
            self._health.mark_failing(self.name, dependency or self.name)


@asynccontextmanager
async def looping(loop: Loop, *, stop_timeout: timedelta = timedelta()) -> AsyncIterator[Loop]:
    """Run the loop until the end of the block; with `stop_timeout` it may do a last turn for so long at the end."""
    stop = loop.stop if stop_timeout else None
    async with background(loop.run(), name=loop.name, stop=stop, stop_timeout=stop_timeout):
        yield loop


async def wait_for_event(event: asyncio.Event, max_wait: timedelta) -> bool:
    """Wait until the event is set, for `max_wait` at the longest; return whether it is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(max_wait.total_seconds()):
            await event.wait()
    return event.is_set()
