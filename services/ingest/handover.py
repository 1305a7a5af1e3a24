"""Handing batches over to Kafka, never more at once than memory allows."""

import asyncio
from collections.abc import Iterable
from functools import partial
from types import TracebackType
from typing import Self

from services.chassis.clock import Clock
from services.chassis.failures import Overloaded
from services.ingest.core.budget import Budget
from services.ingest.metrics import Metrics
from services.ingest.ports import Headers, Stream

# What a call that waits costs besides its request's bytes: its task, its stream, its place in queues.
_CALL_BYTES = 4096


class Hold:
    """One call's share of the budget; kept to the end of the block and until all that it handed over is settled.

    A caller that gives up does not free the bytes that still lie in the producer's queue.
    """

    def __init__(self, budget: Budget, size: int) -> None:
        self._budget = budget
        self._size = size
        self._reasons = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._let_go()

    def keep_until(self, settled: asyncio.Future[None]) -> None:
        """Hold on until the future ends, in whatever way."""
        self._reasons += 1
        settled.add_done_callback(self._let_go)

    def _let_go(self, _settled: object = None) -> None:
        self._reasons -= 1
        if not self._reasons:
            self._budget.give_back(self._size)


class Handover:
    """The way to Kafka for both rpcs."""

    def __init__(self, stream: Stream, budget: Budget, clock: Clock, metrics: Metrics) -> None:
        self._stream = stream
        self._budget = budget
        self._clock = clock
        self._metrics = metrics

    def admit(self, size: int) -> Hold:
        """Let a request of `size` bytes in, or raise Overloaded."""
        cost = size + _CALL_BYTES
        if not self._budget.take(cost):
            raise Overloaded("too many requests wait for Kafka; try again later")
        return Hold(self._budget, cost)

    def append(self, batch: bytes, headers: Headers) -> asyncio.Future[None]:
        """Hand one batch over; the future ends as `Stream.append` says."""
        started = self._clock.monotonic()
        written = self._stream.append(batch, headers)
        written.add_done_callback(partial(self._settled, len(batch), started))
        return written

    def _settled(self, size: int, started: float, written: asyncio.Future[None]) -> None:
        if not written.cancelled() and written.exception() is None:
            self._metrics.written(size, self._clock.monotonic() - started)


async def all_of(written: Iterable[asyncio.Future[None]]) -> None:
    """Wait until all are settled and raise the first failure; a caller that gives up stops none of them."""
    outcomes = await asyncio.shield(asyncio.gather(*written, return_exceptions=True))
    for outcome in outcomes:
        if outcome is not None:
            raise outcome
