"""A whole service process: start, admin port, shutdown."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from stack.ports import free_port

SERVICE = """
import asyncio
import gc
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog

from services.chassis.imports import uncollected_imports

with uncollected_imports():
    from services.chassis.grpc_server import grpc_server
    from services.chassis.admin_server import admin_server
    from services.chassis.health import Health
    from services.chassis.lifecycle import main, serving
    from services.chassis.loops import background
    from services.chassis.settings import ProcessSettings, part, setting
    from tests.fakes.guards import OpenGuard

log = structlog.get_logger()

@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    process: ProcessSettings = part(listen="127.0.0.1:0", admin_listen="127.0.0.1:0")
    mood: str = setting("What it does.", default="good")
    number: int = setting("Any number.")

async def work(mood):
    await asyncio.sleep(0)
    if mood == "crash":
        raise ValueError("broken inside")
    await asyncio.Event().wait()

@asynccontextmanager
async def app(settings):
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        health = Health("test")
        await enter(admin_server(settings.process, health))
        if settings.mood == "slow start":
            await asyncio.sleep(60)
        await enter(grpc_server(settings.process, [], health, OpenGuard()))
        await enter(background(work(settings.mood), name="work"))
        await enter(serving(health, settings.process.shutdown_delay))
        try:
            yield
        finally:
            counts = {"objects": gc.get_freeze_count(), "others": len(gc.get_objects())}
            log.info("frozen", is_enabled=gc.isenabled(), **counts)
            if settings.mood == "stuck":
                await asyncio.sleep(60)

if __name__ == "__main__":
    main("test", Settings, "TEST_", app)
"""


@asynccontextmanager
async def started(tmp_path: Path, *arguments: str, **environ: str) -> AsyncIterator[Process]:
    script = tmp_path / "service.py"
    script.write_text(SERVICE)
    environ = {"TEST_NUMBER": "1", "PYTHONPATH": str(Path(__file__).parents[3]), **environ}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), *arguments, stdout=PIPE, stderr=PIPE, env=environ
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def logged(process: Process, event: str) -> dict[str, object]:
    """Return the next log line with this event."""
    assert process.stdout is not None
    async with asyncio.timeout(20):
        async for line in process.stdout:
            entry: dict[str, object] = json.loads(line)
            if entry["event"] == event:
                return entry
    raise AssertionError(f"{event} was never logged")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_stops_after_a_signal_and_exits_with_0(tmp_path: Path, number: signal.Signals) -> None:
    async with started(tmp_path, TEST_INSTANCE="one") as process:
        ready = await logged(process, "service_ready")
        assert (ready["service"], ready["instance"], ready["level"]) == ("test", "one", "info")
        process.send_signal(number)
        await logged(process, "service_stopped")
        assert await process.wait() == 0


async def test_a_setting_under_its_former_name_causes_a_warning(tmp_path: Path) -> None:
    async with started(tmp_path, TEST_NOTICE="0s") as process:
        warning = await logged(process, "setting_renamed")
        assert (warning["former"], warning["name"], warning["used"]) == (
            "TEST_NOTICE",
            "TEST_SHUTDOWN_DELAY",
            "TEST_NOTICE",
        )


async def test_objects_made_at_start_are_excluded_from_garbage_collection(tmp_path: Path) -> None:
    async with started(tmp_path) as process:
        await logged(process, "service_ready")
        process.terminate()
        end = await logged(process, "frozen")
        frozen, others = end["objects"], end["others"]
        assert isinstance(frozen, int)
        assert isinstance(others, int)
        assert frozen > 10 * others
        assert end["is_enabled"] is True


async def test_the_admin_port_reports_health_until_the_end(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with (
        started(tmp_path, TEST_ADMIN_LISTEN=address, TEST_SHUTDOWN_DELAY="1s") as process,
        aiohttp.ClientSession(f"http://{address}") as client,
    ):
        await logged(process, "service_ready")
        async with client.get("/health") as answer:
            assert (answer.status, await answer.json()) == (
                200,
                {"service": "test", "status": "SERVING", "dependencies": {}},
            )
        async with client.get("/metrics") as answer:
            assert answer.content_type == "text/plain"
            assert "process_cpu_seconds_total" in await answer.text()
        process.terminate()
        await logged(process, "service_stopping")
        async with client.get("/health") as answer:
            assert (answer.status, (await answer.json())["status"]) == (503, "NOT_SERVING")
        async with client.get("/health/reasons") as answer:
            assert (answer.status, (await answer.json())["reasons"]) == (503, {"service": "stopping"})
        assert await process.wait() == 0


async def test_all_problems_of_the_environment_are_reported_at_once(tmp_path: Path) -> None:
    async with started(tmp_path, TEST_NUMBER="x", TEST_DRAIN="soon") as process:
        _, said = await process.communicate()
    assert process.returncode == 2
    assert said.decode().splitlines() == [
        "test: TEST_DRAIN must be a duration such as 500ms, 5s or 2m",
        "test: TEST_NUMBER must be an integer",
    ]


async def test_help_names_every_setting(tmp_path: Path) -> None:
    async with started(tmp_path, "--help") as process:
        said, _ = await process.communicate()
    assert process.returncode == 0
    assert "TEST_NUMBER" in said.decode()
    assert "required" in said.decode()


async def test_a_crash_of_background_work_ends_the_service_with_1(tmp_path: Path) -> None:
    async with started(tmp_path, TEST_MOOD="crash") as process:
        crashed = await logged(process, "service_crashed")
        assert "broken inside" in str(crashed["exception"])
        assert await process.wait() == 1


async def test_a_shutdown_that_hangs_is_aborted(tmp_path: Path) -> None:
    async with started(tmp_path, TEST_MOOD="stuck", TEST_DRAIN="700ms") as process:
        await logged(process, "service_ready")
        process.terminate()
        await logged(process, "shutdown_timed_out")
        assert await process.wait() == 70


async def test_it_can_be_stopped_while_it_starts(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with started(tmp_path, TEST_MOOD="slow start", TEST_ADMIN_LISTEN=address) as process:
        async with asyncio.timeout(20), aiohttp.ClientSession(f"http://{address}") as client:
            while True:
                try:
                    async with client.get("/health") as answer:
                        assert answer.status == 503
                        break
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.05)
        process.terminate()
        await logged(process, "service_stopped_while_starting")
        assert await process.wait() == 0
