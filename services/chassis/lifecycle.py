"""The life of a service process: settings, logs, telemetry, the app, and a bounded way out."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import structlog

from services.chassis.logs import configure_logs
from services.chassis.settings import ProcessSettings, SettingsError, describe, load
from services.chassis.telemetry import telemetry

log = structlog.get_logger()

EX_CRASHED, EX_SETTINGS, EX_STUCK = 1, 2, 70


class HasProcess(Protocol):
    """What every service's settings have."""

    @property
    def process(self) -> ProcessSettings:
        """Where it listens and how it stops."""
        ...


S = TypeVar("S", bound=HasProcess)
App = Callable[[S], AbstractAsyncContextManager[None]]


def main(service: str, settings_type: type[S], prefix: str, app: App[S]) -> None:
    """Run a service until SIGTERM or SIGINT, and exit: 0 when it was told to stop, 2 when its settings are wrong."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        sys.stdout.write(_help(service, settings_type, prefix))
        return
    try:
        settings = load(settings_type, prefix, os.environ)  # noqa: TID251  (the one place that reads it)
    except SettingsError as error:
        sys.stderr.write("".join(f"{service}: {problem}\n" for problem in error.problems))
        sys.exit(EX_SETTINGS)
    process = settings.process
    configure_logs(service, process.instance, process.log_level)
    with telemetry(service, process.instance, process.otlp):
        code = asyncio.run(_run(service, app(settings), process.drain))
    sys.exit(code)


@asynccontextmanager
async def background(
    work: Coroutine[Any, Any, None],
    *,
    name: str,
    stop: Callable[[], None] | None = None,
    within: timedelta = timedelta(),
) -> AsyncIterator[None]:
    """Run `work` until the end of the block; if it fails, the block is cancelled and the failure comes out of it.

    On the way out `stop` is called, the work has `within` to end by itself, and then it is cancelled.
    """
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work, name=name)
        try:
            yield
        finally:
            if stop is not None:
                stop()
                with suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(_ended(task)), within.total_seconds())
            task.cancel()


async def _ended(task: asyncio.Task[None]) -> None:
    await asyncio.wait({task})


async def _run(service: str, app: AbstractAsyncContextManager[None], drain: timedelta) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with app:
            await stop.wait()
            log.info("service_stopping")
            # Beyond its bound the way out is cut short: what was not committed comes again.
            loop.call_later(drain.total_seconds(), _give_up, service)
    except Exception:
        log.exception("service_crashed")
        return EX_CRASHED
    log.info("service_stopped")
    return 0


def _give_up(service: str) -> None:
    log.error("shutdown_overran", service=service)
    sys.stdout.flush()
    os._exit(EX_STUCK)


def _help(service: str, settings_type: type[Any], prefix: str) -> str:
    docs = describe(settings_type, prefix)
    width = max(len(doc.name) for doc in docs)
    lines = [f"Tocsin's service {service!r}. It takes no arguments; its settings are environment variables:\n"]
    for doc in docs:
        default = "required" if doc.required else f"default: {doc.default or 'empty'}"
        lines.append(f"  {doc.name:<{width}}  {doc.type}, {default}")
        lines.append(f"  {'':<{width}}  {doc.help}")
    return "\n".join(lines) + "\n"
