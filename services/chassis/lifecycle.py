"""The life of a service process: settings, logs, telemetry, the app, and a bounded way out."""

import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import structlog
import uvloop

from services.chassis.logs import configure_logs
from services.chassis.settings import ProcessSettings, SettingsError, describe, load, renamed
from services.chassis.telemetry import telemetry

log = structlog.get_logger()

EX_CRASHED, EX_SETTINGS, EX_STUCK = 1, 2, 70


_CANCEL_AGAIN_SECONDS = 0.5


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
        sys.exit(_refused(service, error))
    process = settings.process
    configure_logs(service, process.instance, process.log_level)
    for former, name in renamed(settings_type, prefix, os.environ).items():  # noqa: TID251
        log.warning("setting_renamed", former=former, name=name)
    with (
        telemetry(service, process.instance, process.otlp),
        # A tenth more single events a second than with the standard library's loop.
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        code = runner.run(_run(service, app(settings), process.drain))
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
    beside = _Beside(asyncio.create_task(work, name=name))
    try:
        yield
    except asyncio.CancelledError:
        beside.raise_crash()
        raise
    finally:
        await beside.end(stop, within)


class _Beside:
    """A task that runs beside a block, and takes the block down with it when it crashes."""

    def __init__(self, task: "asyncio.Task[None]") -> None:
        self._task = task
        self._block = asyncio.current_task()
        self._has_cancelled = False
        task.add_done_callback(self._ended)

    def raise_crash(self) -> None:
        """Raise what the task crashed with, if that is why the block was cancelled."""
        if self._has_cancelled and self._block is not None:
            self._has_cancelled = False
            self._block.uncancel()
            self._task.result()

    async def end(self, stop: Callable[[], None] | None, within: timedelta) -> None:
        """Bring the task to its end."""
        self._block = None
        if stop is not None and not self._task.done():
            stop()
            await asyncio.wait({self._task}, timeout=within.total_seconds())
        while not self._task.done():
            # More than once if need be: an error while the work cleans up can take the place of its cancellation.
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=_CANCEL_AGAIN_SECONDS)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if task.cancelled() or task.exception() is None:
            return
        log.error("background_crashed", task=task.get_name(), exc_info=task.exception())
        if self._block is not None:
            self._has_cancelled = True
            self._block.cancel()


def _refused(service: str, error: SettingsError) -> int:
    sys.stderr.write("".join(f"{service}: {problem}\n" for problem in error.problems))
    return EX_SETTINGS


async def _run(service: str, app: AbstractAsyncContextManager[None], drain: timedelta) -> int:
    stop, started = asyncio.Event(), asyncio.Event()
    life = asyncio.create_task(_live(service, app, drain, started, stop))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _told_to_stop, started, stop, life)
    try:
        await life
    except asyncio.CancelledError:
        log.info("service_stopped_while_starting")
    except SettingsError as error:
        # What a setting points at, a routes file say, is read when the service starts.
        return _refused(service, error)
    except Exception:
        log.exception("service_crashed")
        return EX_CRASHED
    else:
        log.info("service_stopped")
    return 0


async def _live(
    service: str,
    app: AbstractAsyncContextManager[None],
    drain: timedelta,
    started: asyncio.Event,
    stop: asyncio.Event,
) -> None:
    async with app:
        _leave_out_of_collections()
        started.set()
        try:
            await stop.wait()
        finally:
            log.info("service_stopping")
            _bound_the_way_out(service, drain)


def _leave_out_of_collections() -> None:
    """Take what start-up has made, which lives as long as the process, out of every later garbage collection.

    A full collection walks all of it, for 50 ms and more than once a second under load, and all calls wait meanwhile.
    """
    gc.collect()
    gc.freeze()


def _told_to_stop(started: asyncio.Event, stop: asyncio.Event, life: "asyncio.Task[None]") -> None:
    stop.set()
    if not started.is_set():
        # Still starting, perhaps waiting for a database: there is nothing to drain.
        life.cancel()


def _bound_the_way_out(service: str, drain: timedelta) -> None:
    """End the process after `drain`, even where a library's thread hangs: what was not committed comes again."""

    def give_up() -> None:
        log.error("shutdown_overran", service=service)
        sys.stdout.flush()
        os._exit(EX_STUCK)

    timer = threading.Timer(drain.total_seconds(), give_up)
    timer.daemon = True
    timer.start()


def _help(service: str, settings_type: type[Any], prefix: str) -> str:
    docs = describe(settings_type, prefix)
    width = max(len(doc.name) for doc in docs)
    lines = [f"Tocsin's service {service!r}. It takes no arguments; its settings are environment variables:\n"]
    for doc in docs:
        default = "required" if doc.required else f"default: {doc.default or 'empty'}"
        lines.append(f"  {doc.name:<{width}}  {doc.type}, {default}")
        lines.append(f"  {'':<{width}}  {doc.help}")
    return "\n".join(lines) + "\n"
