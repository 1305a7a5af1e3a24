import asyncio
from datetime import timedelta

import pytest

from services.chassis.loops import background


async def crash() -> None:
    await asyncio.sleep(0)
    raise ValueError("broken")


async def test_a_crash_comes_out_of_the_block_as_what_it_was() -> None:
    with pytest.raises(ValueError, match="broken"):
        async with background(crash(), name="x"):
            await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_crash_passes_through_blocks_that_lie_inside_and_around() -> None:
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


async def test_an_error_of_the_block_stays_what_it_is() -> None:
    with pytest.raises(KeyError):
        async with background(asyncio.sleep(60), name="x"):
            raise KeyError


async def test_cancelling_the_block_is_no_crash() -> None:
    async def block() -> None:
        async with background(asyncio.sleep(60), name="x"):
            await asyncio.Event().wait()

    task = asyncio.create_task(block())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_work_that_is_told_to_stop_may_end_by_itself() -> None:
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


async def test_work_that_ends_early_is_no_crash() -> None:
    async with background(asyncio.sleep(0), name="x"):
        await asyncio.sleep(0.01)
