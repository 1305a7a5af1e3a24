"""No more requests are received at once than there are slots; others wait unread, or are refused."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import grpc
import pytest

from services.chassis.failures import MalformedMessage, Overloaded
from services.chassis.receive_limiter import ReceiveLimiter

LONG, SHORT = timedelta(hours=1), timedelta(milliseconds=20)


class Sender:
    """A call whose request comes when the test says so."""

    def __init__(self) -> None:
        self.is_read = asyncio.Event()
        self.comes = asyncio.Event()

    async def read(self) -> bytes:
        self.is_read.set()
        await self.comes.wait()
        return b"request"


@asynccontextmanager
async def receiving(limiter: ReceiveLimiter, *senders: Sender) -> AsyncIterator[list[asyncio.Task[bytes]]]:
    calls = [asyncio.create_task(limiter.receive(sender.read)) for sender in senders]
    try:
        yield calls
    finally:
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_request_without_a_slot_is_read_later() -> None:
    limiter, senders = ReceiveLimiter(2, timeout=LONG), [Sender() for _ in range(64)]
    async with receiving(limiter, *senders) as calls:
        for done in range(64):
            await turns()
            under_way = [sender for sender in senders if sender.is_read.is_set() and not sender.comes.is_set()]
            assert len(under_way) == limiter.receiving == min(2, 64 - done)
            under_way[0].comes.set()
        assert await asyncio.gather(*calls) == [b"request"] * 64
    assert limiter.receiving == 0


async def test_a_call_that_waited_too_long_is_refused_unread_with_a_retry_delay() -> None:
    limiter, first, second = ReceiveLimiter(1, timeout=SHORT), Sender(), Sender()
    async with receiving(limiter, first, second) as (_, refused):
        with pytest.raises(Overloaded) as failure:
            await refused
        assert failure.value.retry_after
        assert not second.is_read.is_set()


async def test_the_number_of_waiting_calls_is_bounded() -> None:
    limiter, senders = ReceiveLimiter(1, timeout=LONG, max_waiting=1), [Sender() for _ in range(3)]
    async with receiving(limiter, *senders) as calls:
        with pytest.raises(Overloaded):
            await calls[2]
        senders[0].comes.set()
        senders[1].comes.set()
        assert await asyncio.gather(*calls[:2]) == [b"request"] * 2


async def test_a_slow_sender_loses_its_slot_when_others_wait() -> None:
    limiter, senders = ReceiveLimiter(2, timeout=LONG, slow_after=timedelta()), [Sender() for _ in range(3)]
    async with receiving(limiter, *senders[:2]) as (ended, other):
        await senders[1].is_read.wait()
        assert not ended.done()
        async with receiving(limiter, senders[2]):
            await senders[2].is_read.wait()
            with pytest.raises(Overloaded, match="slowly"):
                await ended
            assert not other.done()


async def test_a_sender_that_becomes_slow_while_others_wait_loses_its_slot() -> None:
    limiter, first, second = ReceiveLimiter(1, timeout=LONG, slow_after=SHORT), Sender(), Sender()
    second.comes.set()
    async with receiving(limiter, first, second) as (ended, waiting):
        with pytest.raises(Overloaded, match="slowly"):
            await ended
        assert await waiting == b"request"


async def test_a_sender_that_is_not_slow_keeps_its_slot() -> None:
    limiter, first, second = ReceiveLimiter(1, timeout=SHORT, slow_after=LONG), Sender(), Sender()
    async with receiving(limiter, first, second) as (kept, refused):
        with pytest.raises(Overloaded, match="too many"):
            await refused
        first.comes.set()
        assert await kept == b"request"


async def test_a_caller_that_gives_up_frees_its_slot() -> None:
    limiter, gone, next_one = ReceiveLimiter(1, timeout=LONG), Sender(), Sender()
    async with receiving(limiter, gone, next_one) as (first, second):
        await gone.is_read.wait()
        first.cancel()
        next_one.comes.set()
        assert await second == b"request"


async def test_a_request_that_is_here_needs_no_slot() -> None:
    limiter, sender, here = ReceiveLimiter(1, timeout=LONG), Sender(), Sender()
    here.comes.set()
    async with receiving(limiter, sender):
        await sender.is_read.wait()
        assert await limiter.receive(here.read, is_here=True) == b"request"
        assert limiter.receiving == 1


async def test_a_call_that_ends_without_a_request_is_malformed() -> None:
    async def nothing() -> object:
        return grpc.aio.EOF

    for is_here in (True, False):
        with pytest.raises(MalformedMessage):
            await ReceiveLimiter(1).receive(nothing, is_here=is_here)
