"""What waits to be published together, for at most a linger."""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from services.chassis.tenants import as_tenant, current_tenant
from services.ingest.core.batching import BatchStep


class Pending(Protocol):
    """A caller that waits for its outcome."""

    @property
    def outcome(self) -> "asyncio.Future[Any]":
        """Return where the outcome goes."""


class LingerSeconds(Protocol):
    """How long the first one waits, by the CPU of the last flush and the time since, in seconds."""

    def __call__(self, *, flush_cpu_s: float, since_flush_s: float) -> float:
        """Return the seconds."""


_Pending = TypeVar("_Pending", bound=Pending)


class LingerQueue(Generic[_Pending]):
    """Collects callers until a step says to flush, or the first one has waited for the linger.

    `linger_seconds` decides how long that is; `step` decides on one more of a size, given how many wait and their size
    together; `publish` takes those that still wait for their outcome, and never raises.
    """

    def __init__(
        self,
        *,
        linger_seconds: LingerSeconds,
        step: Callable[[int, int, int], BatchStep],
        publish: Callable[[Sequence[_Pending]], None],
        cpu_clock: Callable[[], float],
    ) -> None:
        self._linger_seconds = linger_seconds
        self._cpu_clock = cpu_clock
        self._flush_cpu_s = 0.0
        self._flushed_at = 0.0
        self._step = step
        self._publish = publish
        self._pending: list[_Pending] = []
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._pending)

    def add(self, pending: _Pending, size: int) -> None:
        """Add one of a size in bytes, and flush when it is time."""
        step = self._step(len(self._pending), self._size, size)
        if step is BatchStep.FLUSH_BEFORE:
            self.flush()
            step = self._step(len(self._pending), self._size, size)
        self._pending.append(pending)
        self._size += size
        if step is BatchStep.FLUSH:
            self.flush()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            since_s = loop.time() - self._flushed_at
            wait_s = self._linger_seconds(flush_cpu_s=self._flush_cpu_s, since_flush_s=since_s)
            self._timer = loop.call_later(wait_s, self.flush)

    def flush(self) -> None:
        """Publish what waits."""
        # Callers that gave up meanwhile were promised nothing.
        waiting = [each for each in self._pending if not each.outcome.done()]
        if self._timer is not None:
            self._timer.cancel()
        self._pending, self._size, self._timer = [], 0, None
        if waiting:
            started_s = self._cpu_clock()
            self._publish(waiting)
            self._flush_cpu_s, self._flushed_at = self._cpu_clock() - started_s, asyncio.get_running_loop().time()


class TenantQueues(Generic[_Pending]):
    """A queue for each tenant that has sent anything: a record has events of one tenant."""

    def __init__(
        self,
        *,
        linger_seconds: LingerSeconds,
        step: Callable[[int, int, int], BatchStep],
        publish: Callable[[Sequence[_Pending]], None],
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._linger_seconds = linger_seconds
        self._step = step
        self._publish = publish
        self._cpu_clock = cpu_clock
        self._queues: dict[str, LingerQueue[_Pending]] = {}

    def add(self, pending: _Pending, size: int) -> None:
        """Add a caller to the current tenant's queue."""
        tenant = current_tenant()
        if tenant not in self._queues:
            self._queues[tenant] = LingerQueue(
                linger_seconds=self._linger_seconds,
                step=self._step,
                publish=partial(self._publish_of, tenant),
                cpu_clock=self._cpu_clock,
            )
        self._queues[tenant].add(pending, size)

    def flush(self) -> None:
        """Publish what waits."""
        for queue in self._queues.values():
            if queue:
                queue.flush()

    def _publish_of(self, tenant: str, pending: Sequence[_Pending]) -> None:
        # A timer or a callback flushes, too, which are of no call.
        with as_tenant(tenant):
            self._publish(pending)


def fail(pending: Sequence[Pending], failure: BaseException) -> None:
    """End the outcomes of those that still wait."""
    for each in pending:
        if not each.outcome.done():
            each.outcome.set_exception(failure)
