"""Background work that nothing but the way out ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from services.chassis.backoff import Backoff
from services.chassis.failures import StoreUnavailable
from services.chassis.health import Health
from services.chassis.loops import Loop, looping

pytestmark = pytest.mark.usefixtures("plain_logs")

FAST = Backoff(first_delay=timedelta(milliseconds=1), max_delay=timedelta(milliseconds=1))


class Work:
    """Fails as it is told, and lets the test follow each turn."""

    def __init__(self, *troubles: Exception) -> None:
        self.troubles = list(troubles)
        self.turns = 0
        self.done = asyncio.Event()

    async def turn(self) -> None:
        self.turns += 1
        await asyncio.sleep(0)
        if self.troubles:
            raise self.troubles.pop(0)
        self.done.set()


@asynccontextmanager
async def loop_of(work: Work, **options: Any) -> AsyncIterator[Loop]:
    loop = Loop(work.turn, name="work", **{"backoff": FAST, "every": timedelta(hours=1), **options})
    async with asyncio.timeout(5), looping(loop):
        yield loop


@pytest.mark.parametrize("trouble", [StoreUnavailable("away"), ValueError("a bug"), OSError("no more files")])
async def test_a_turn_that_fails_is_followed_by_another(trouble: Exception) -> None:
    work = Work(trouble, trouble)
    async with loop_of(work):
        await work.done.wait()
    assert work.turns == 3


async def test_waking_begins_a_turn_at_once() -> None:
    work = Work()
    async with loop_of(work) as loop:
        await work.done.wait()
        work.done.clear()
        loop.wake()
        await work.done.wait()
    assert work.turns == 2


async def test_work_that_keeps_failing_shows_in_health_until_it_succeeds() -> None:
    health, seen = Health("test"), list[dict[str, str]]()
    postgres = health.dependency("postgres")
    postgres.up()
    health.mark_ready()
    health.subscribe(lambda: seen.append(health.snapshot().dependencies))
    work = Work(*[StoreUnavailable("a full disk")] * 5)
    async with loop_of(work, health=health):
        await work.done.wait()
        await asyncio.sleep(0)
    assert seen == [{"postgres": "DOWN"}, {"postgres": "UP"}]
    # Calls that can be served are served.
    assert health.snapshot().is_serving


async def test_a_failure_that_passes_changes_no_health() -> None:
    health, changes = Health("test"), list[int]()
    health.subscribe(lambda: changes.append(1))
    work = Work(ValueError("once"), ValueError("twice"))
    async with loop_of(work, health=health):
        await work.done.wait()
    assert not changes


async def test_a_turn_without_an_end_says_itself_that_it_works() -> None:
    health, recovered = Health("test"), asyncio.Event()
    troubles = [ValueError("bug")] * 3

    async def listen() -> None:
        if troubles:
            raise troubles.pop()
        assert health.snapshot().dependencies == {"listen": "DOWN"}
        health.subscribe(recovered.set)
        loop.mark_working()
        await asyncio.Event().wait()

    loop = Loop(listen, name="listen", health=health, backoff=FAST)
    async with asyncio.timeout(5), looping(loop):
        await recovered.wait()
    assert health.snapshot().dependencies == {}


async def test_told_to_stop_it_does_a_last_turn() -> None:
    work = Work()
    async with looping(Loop(work.turn, name="work", every=timedelta(hours=1)), stop_timeout=timedelta(seconds=5)):
        await work.done.wait()
    assert work.turns == 2


async def test_what_ends_it_comes_out() -> None:
    work = Work(ValueError("a bug"), KeyError("the end"))
    with pytest.raises(KeyError):
        async with loop_of(work, is_fatal=lambda error: isinstance(error, KeyError)):
            await asyncio.Event().wait()
    assert work.turns == 2


async def test_what_must_be_done_first_is_tried_until_it_succeeds() -> None:
    work = Work(StoreUnavailable("away"), StoreUnavailable("away"))
    await Loop(work.turn, name="begin", backoff=FAST).until_success()
    assert work.turns == 3
