"""Background work of a service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from services.chassis.backoff import Backoff
from services.chassis.failures import StoreUnavailable
from services.chassis.health import Health
from services.chassis.loops import Loop, background, looping

pytestmark = pytest.mark.usefixtures("plain_logs")

FAST = Backoff(first_delay=timedelta(milliseconds=1), max_delay=timedelta(milliseconds=1))


class Work:
    """Fails with each of the errors, then succeeds; counts its turns."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.turns = 0
        self.done = asyncio.Event()

    async def turn(self) -> None:
        self.turns += 1
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        self.done.set()


@asynccontextmanager
async def loop_of(work: Work, **options: Any) -> AsyncIterator[Loop]:
    loop = Loop(work.turn, name="work", **{"backoff": FAST, "every": timedelta(hours=1), **options})
    async with asyncio.timeout(5), looping(loop):
        yield loop


@pytest.mark.parametrize("error", [StoreUnavailable("away"), ValueError("a bug"), OSError("no more files")])
async def test_a_turn_that_fails_is_followed_by_another(error: Exception) -> None:
    work = Work(error, error)
    async with loop_of(work):
        await work.done.wait()
    assert work.turns == 3


@pytest.mark.parametrize("error", [StoreUnavailable("away"), ValueError("a bug")])
async def test_failures_in_a_row_are_logged_ever_more_seldom(error: Exception) -> None:
    work = Work(*[error] * 20)
    with capture_logs() as logs:
        async with loop_of(work):
            await work.done.wait()
    assert [line["attempt"] for line in logs] == [0, 1, 2, 4, 8, 16]


async def test_waking_begins_a_turn_at_once() -> None:
    work = Work()
    async with loop_of(work) as loop:
        await work.done.wait()
        work.done.clear()
        loop.wake()
        await work.done.wait()
    assert work.turns == 2


async def test_work_that_keeps_failing_is_shown_in_health_until_it_succeeds() -> None:
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
    # Calls that need no database are still served.
    assert health.snapshot().is_serving


async def test_a_few_failures_do_not_change_health() -> None:
    health, changes = Health("test"), list[int]()
    health.subscribe(lambda: changes.append(1))
    work = Work(ValueError("once"), ValueError("twice"))
    async with loop_of(work, health=health):
        await work.done.wait()
    assert not changes


async def test_a_turn_without_an_end_can_report_that_it_works() -> None:
    health, recovered = Health("test"), asyncio.Event()
    errors = [ValueError("bug")] * 3

    async def listen() -> None:
        if errors:
            raise errors.pop()
        assert health.snapshot().dependencies == {"listen": "DOWN"}
        health.subscribe(recovered.set)
        loop.mark_working()
        await asyncio.Event().wait()

    loop = Loop(listen, name="listen", health=health, backoff=FAST)
    async with asyncio.timeout(5), looping(loop):
        await recovered.wait()
    assert health.snapshot().dependencies == {}


async def test_a_stopped_loop_does_a_last_turn() -> None:
    work = Work()
    async with looping(Loop(work.turn, name="work", every=timedelta(hours=1)), stop_timeout=timedelta(seconds=5)):
        await work.done.wait()
    assert work.turns == 2


async def test_a_fatal_error_is_raised() -> None:
    work = Work(ValueError("a bug"), KeyError("the end"))
    with pytest.raises(KeyError):
        async with loop_of(work, is_fatal=lambda error: isinstance(error, KeyError)):
            await asyncio.Event().wait()
    assert work.turns == 2


async def test_a_first_turn_is_retried_until_it_succeeds() -> None:
    work = Work(StoreUnavailable("away"), StoreUnavailable("away"))
    await Loop(work.turn, name="begin", backoff=FAST).until_success()
    assert work.turns == 3


async def crash() -> None:
    await asyncio.sleep(0)
    raise ValueError("broken")


async def test_a_crash_is_raised_from_the_block() -> None:
    with pytest.raises(ValueError, match="broken"):
        async with background(crash(), name="x"):
            await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_crash_passes_through_inner_and_outer_blocks() -> None:
    closed: list[str] = []

    async def forever(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            closed.append(name)

    async def block() -> None:
        async with (
            background(forever("outer"), name="o"),
            background(crash(), name="x"),
            background(forever("inner"), name="i"),
        ):
            await asyncio.Event().wait()

    with pytest.raises(ValueError, match="broken"):
        await block()
    assert closed == ["inner", "outer"]


async def test_an_error_of_the_block_is_raised_unchanged() -> None:
    with pytest.raises(KeyError):
        async with background(asyncio.sleep(60), name="x"):
            raise KeyError


async def test_cancelling_the_block_is_not_a_crash() -> None:
    async def block() -> None:
        async with background(asyncio.sleep(60), name="x"):
            await asyncio.Event().wait()

    task = asyncio.create_task(block())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_stopped_work_may_end_by_itself() -> None:
    stop, ended = asyncio.Event(), []

    async def work() -> None:
        await stop.wait()
        await asyncio.sleep(0)
        ended.append(1)

    async with background(work(), name="x", stop=stop.set, stop_timeout=timedelta(seconds=5)):
        pass
    assert ended == [1]


async def test_work_that_does_not_stop_in_time_is_cancelled() -> None:
    async with asyncio.timeout(2):
        async with background(asyncio.sleep(60), name="x", stop=lambda: None, stop_timeout=timedelta(milliseconds=10)):
            pass


async def test_work_that_ends_early_is_not_a_crash() -> None:
    async with background(asyncio.sleep(0), name="x"):
        await asyncio.sleep(0.01)
