"""How many requests are received at once: a request that is not received yet waits with its sender, not in memory here.

Each call may carry the largest request that gRPC accepts, and nobody knows before it has come. So a call is read only
in one of a few slots, and waits for one otherwise; a call that waited too long is refused, unread, with the hint to try
again. A request keeps its slot for as long as it takes to come. While others wait, the oldest request that is slow
gives up its slot, so that slow senders cannot keep all of them.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import grpc

from services.chassis.failures import MalformedMessage, Overloaded

_TIMEOUT = timedelta(seconds=1)
_SLOW_AFTER = timedelta(seconds=1)
# A call that waits costs its task and what gRPC receives without being asked, some 100 KiB.
_MAX_WAITING = 1000


class ReceiveLimiter:
    """Receives no more requests at once than there are slots."""

    def __init__(
        self,
        slots: int,
        *,
        timeout: timedelta = _TIMEOUT,
        slow_after: timedelta = _SLOW_AFTER,
        max_waiting: int = _MAX_WAITING,
    ) -> None:
        self._slots = asyncio.Semaphore(slots)
        self._timeout = timeout.total_seconds()
        self._slow_after = slow_after.total_seconds()
        self._max_waiting = max_waiting
        self._waiting = 0
        # By the timeout of each request that is being received, the oldest first: the time from which it is slow.
        self._slow_from: dict[asyncio.Timeout, float] = {}
        self._next_look: asyncio.TimerHandle | None = None

    @property
    def receiving(self) -> int:
        """How many requests are being received."""
        return len(self._slow_from)

    async def receive(self, read: Callable[[], Awaitable[Any]], *, is_here: bool = False) -> bytes:
        """Receive a call's only request; raise Overloaded where no slot is free in time.

        `is_here`: it has come, so that reading waits for nothing, and takes no slot.
        """
        if is_here:
            return received_request(await read())
        await self._take_slot()
        try:
            return await self._read(read)
        finally:
            self._slots.release()

    async def _take_slot(self) -> None:
        if not self._slots.locked():
            await self._slots.acquire()
            return
        if self._waiting == self._max_waiting:
            raise _overloaded()
        self._waiting += 1
        self._end_slow_requests()
        try:
            async with asyncio.timeout(self._timeout):
                await self._slots.acquire()
        except TimeoutError:
            raise _overloaded() from None
        finally:
            self._waiting -= 1

    async def _read(self, read: Callable[[], Awaitable[Any]]) -> bytes:
        timeout = asyncio.timeout(None)
        try:
            async with timeout:
                self._slow_from[timeout] = asyncio.get_running_loop().time() + self._slow_after
                message = await read()
        except TimeoutError:
            raise Overloaded("the request came slowly, and others wait; try again later") from None
        finally:
            self._slow_from.pop(timeout, None)
        return received_request(message)

    def _end_slow_requests(self) -> None:
        """End the oldest of the slow requests, one for each call that waits; look again when the next one is slow."""
        if self._next_look is not None:
            self._next_look.cancel()
        loop = asyncio.get_running_loop()
        for timeout, slow_from in list(self._slow_from.items())[: self._waiting]:
            if timeout.when() is None and slow_from > loop.time():
                self._next_look = loop.call_at(slow_from, self._end_slow_requests)
                return
            if timeout.when() is None:
                timeout.reschedule(loop.time())


def received_request(message: Any) -> bytes:
    """Return what was read of a call; raise MalformedMessage where it has ended without a request."""
    if message is grpc.aio.EOF:
        raise MalformedMessage("the call holds no request")
    request: bytes = message
    return request


def _overloaded() -> Overloaded:
    return Overloaded("too many requests are being received; try again later")
