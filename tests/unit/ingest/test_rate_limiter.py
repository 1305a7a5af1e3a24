"""A tenant beyond its rate waits, one call after the other; what would wait too long is refused."""

import asyncio
from contextlib import nullcontext
from datetime import timedelta

import pytest

from services.chassis.callers import Caller, as_caller
from services.chassis.clock import SystemClock
from services.chassis.failures import TenantLimitReached
from services.domain.tenants import TenantLimits
from services.ingest.core.event_rates import EventRates
from services.ingest.rpc.rate_limiter import RateLimiter

LONG = timedelta(hours=1)
# Events a second.
_RATE = 1000


class Calls:
    """Calls of tenants, each of which ends when the test says so, and which of them were let in."""

    def __init__(self, *, max_wait: timedelta = LONG, max_waiting: int = 100) -> None:
        self.rates = EventRates(TenantLimits(general=_RATE))
        self.limiter = RateLimiter(self.rates, SystemClock(), max_wait=max_wait, max_waiting=max_waiting)
        self.let_in: asyncio.Queue[str] = asyncio.Queue()
        self.ends: dict[str, asyncio.Event] = {}
        self.tasks: list[asyncio.Task[bytes]] = []

    def use(self, seconds: float, tenant: str = "default") -> None:
        """Use the tenant's rate up for so long, beside the second's worth that may come at once."""
        self.rates.charge(tenant, int(_RATE * (1 + seconds)), SystemClock().monotonic())

    def call(self, name: str, tenant: str = "default") -> "asyncio.Task[bytes]":
        self.ends[name] = asyncio.Event()

        async def work() -> bytes:
            self.let_in.put_nowait(name)
            await self.ends[name].wait()
            return name.encode()

        with as_caller(Caller(name="k", role="ingest", tenant=tenant, kind="key")):
            task = asyncio.create_task(self.limiter.run(work))
        self.tasks.append(task)
        return task

    async def end(self, name: str) -> None:
        self.ends[name].set()
        await turns()


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_below_the_rate_all_calls_are_let_in_at_once() -> None:
    calls = Calls()
    for name in "ab":
        calls.call(name)
    await turns()
    assert calls.let_in.qsize() == 2


async def test_beyond_the_rate_one_call_is_let_in_after_the_other_in_their_order() -> None:
    calls = Calls()
    calls.use(0.02)
    first, second = calls.call("a"), calls.call("b")
    assert await calls.let_in.get() == "a"
    await turns()
    assert calls.let_in.empty()
    await calls.end("a")
    assert await calls.let_in.get() == "b"
    await calls.end("b")
    assert (await first, await second) == (b"a", b"b")


async def test_the_next_call_waits_for_what_the_one_before_has_sent() -> None:
    calls = Calls()
    calls.use(0.02)
    calls.call("a")
    calls.call("b")
    await calls.let_in.get()
    calls.use(3600)
    await calls.end("a")
    assert calls.let_in.empty()


async def test_another_tenant_does_not_wait() -> None:
    calls = Calls()
    calls.use(3600)
    calls.call("a")
    calls.call("b", tenant="acme")
    await turns()
    assert [calls.let_in.get_nowait(), calls.let_in.qsize()] == ["b", 0]


async def test_a_call_that_would_wait_too_long_is_refused_at_once_with_the_time_to_wait() -> None:
    calls = Calls(max_wait=timedelta(seconds=1))
    calls.use(7)
    with pytest.raises(TenantLimitReached, match="tenant default may send 1000 events a second") as refused:
        await calls.call("a")
    assert timedelta(seconds=6) < (refused.value.retry_after or timedelta()) <= timedelta(seconds=7)
    assert refused.value.metadata == {"limit": "events_per_second", "value": "1000"}
    assert calls.let_in.empty()


async def test_a_call_that_has_waited_too_long_and_may_not_send_is_refused() -> None:
    calls = Calls(max_wait=timedelta(milliseconds=200))
    calls.use(0.02)
    calls.call("a")
    assert await calls.let_in.get() == "a"
    calls.rates.charge("default", _RATE // 10, SystemClock().monotonic())
    late = calls.call("b")
    await turns()
    calls.use(3600)
    with pytest.raises(TenantLimitReached) as refused:
        await late
    assert timedelta(minutes=59) < (refused.value.retry_after or timedelta()) < timedelta(minutes=61)
    await calls.end("a")
    assert calls.tasks[0].result() == b"a"


async def test_behind_a_slow_call_others_are_let_in_after_the_longest_wait_when_their_tenant_may_send() -> None:
    calls = Calls(max_wait=timedelta(milliseconds=200))
    calls.use(0.02)
    calls.call("slow")
    assert await calls.let_in.get() == "slow"
    calls.rates.charge("default", _RATE // 10, SystemClock().monotonic())
    calls.call("b")
    assert await calls.let_in.get() == "b"
    # The turn of the slow one ends with that one.
    await calls.end("b")
    await calls.end("slow")
    assert [task.result() for task in calls.tasks] == [b"slow", b"b"]


@pytest.mark.parametrize(("seconds", "is_refused"), [(0.5, False), (7, True)])
async def test_a_call_is_refused_later_where_others_have_sent_far_too_much_since(
    seconds: float, *, is_refused: bool
) -> None:
    calls = Calls(max_wait=timedelta(seconds=1))
    calls.use(seconds)
    with pytest.raises(TenantLimitReached) if is_refused else nullcontext():
        calls.limiter.check()


async def test_beyond_so_many_waiting_calls_further_ones_are_refused() -> None:
    calls = Calls(max_waiting=2)
    calls.use(0.02)
    for name in "ab":
        calls.call(name)
    with pytest.raises(TenantLimitReached):
        await calls.call("c")
    for name in "ab":
        assert await calls.let_in.get() == name
        await calls.end(name)
    calls.use(0.02)
    calls.call("d")
    assert await calls.let_in.get() == "d"


async def test_a_caller_that_gives_up_holds_up_nobody() -> None:
    calls = Calls()
    calls.use(0.05)
    calls.call("a")
    calls.call("b")
    await turns()
    calls.tasks[0].cancel()
    assert await calls.let_in.get() == "b"
    calls.tasks[1].cancel()
    await turns()
    calls.use(0.01)
    calls.call("c")
    assert await calls.let_in.get() == "c"
