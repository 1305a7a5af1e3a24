"""How many requests are received at once: what is not received yet waits with its sender, not in memory here.

The largest request that gRPC lets through may be behind every call, and nobody knows before it has come. So a call is
read only when it has one of a few places, and waits for one otherwise; whoever waited too long is refused, unread, with
the hint to come again. A place is kept for as long as its request takes to come. Where others wait, the oldest
reception that is slow gives way, so that slow senders cannot keep all places.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import grpc

from services.chassis.failures import MalformedMessage, Overloaded

_WAIT = timedelta(seconds=1)
_SLOW = timedelta(seconds=1)
# What waits costs its call and what gRPC takes in unread, some 100 KiB.
_MAX_WAITING = 1000


class Reception:
    """So many places, and for how long one waits for them."""

    def __init__(
        self, places: int, *, wait: timedelta = _WAIT, slow: timedelta = _SLOW, max_waiting: int = _MAX_WAITING
    ) -> None:
        self._places = asyncio.Semaphore(places)
        self._wait = wait.total_seconds()
        self._slow = slow.total_seconds()
        self._max_waiting = max_waiting
        self._waiting = 0
        # Those under way, the oldest first, with the moment from which each is slow.
        self._under_way: dict[asyncio.Timeout, float] = {}

    @property
    def count(self) -> int:
        """How many requests are being received."""
        return len(self._under_way)

    async def one(self, read: Callable[[], Awaitable[Any]]) -> bytes:
        """Receive a call's only request; raise Overloaded where there is no place for it in time."""
        await self._take_place()
        try:
            return await self._received(read)
        finally:
            self._places.release()

    async def _take_place(self) -> None:
        if not self._places.locked():
            await self._places.acquire()
            return
        if self._waiting == self._max_waiting:
            raise _busy()
        self._let_slow_one_give_way()
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait):
                await self._places.acquire()
        except TimeoutError:
            raise _busy() from None
        finally:
            self._waiting -= 1

    async def _received(self, read: Callable[[], Awaitable[Any]]) -> bytes:
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._under_way[limit] = asyncio.get_running_loop().time() + self._slow
                request = await read()
        except TimeoutError:
            raise Overloaded("the request came slowly, and others wait; try again later") from None
        finally:
            self._under_way.pop(limit, None)
        if request is grpc.aio.EOF:
            raise MalformedMessage("the call holds no request")
        received: bytes = request
        return received

    def _let_slow_one_give_way(self) -> None:
        now = asyncio.get_running_loop().time()
        for limit, slow_from in self._under_way.items():
            if slow_from <= now and limit.when() is None:
                limit.reschedule(now)
                return


def _busy() -> Overloaded:
    return Overloaded("too many requests are being received; try again later")
