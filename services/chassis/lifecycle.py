"""Run a service process: settings, logs, telemetry, the app, and a shutdown that ends in time."""

import asyncio
import gc
import json
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Protocol, TypeVar

import structlog
import uvloop

from services.chassis.certificate_expiry import observe_expiry
from services.chassis.health import Health
from services.chassis.logs import configure_logs
from services.chassis.settings import ProcessSettings, SettingsError, load_settings, renamed_settings
from services.chassis.settings_report import OPTION, format_settings, report_settings
from services.chassis.telemetry import telemetry

log = structlog.get_logger()

_MAX_YOUNG_OBJECTS = 20_000
_EXIT_CRASHED, _EXIT_SETTINGS, _EXIT_STUCK = 1, 2, 70


class HasProcess(Protocol):
    """What every service's settings have."""

    @property
    def process(self) -> ProcessSettings:
        """Where it listens and how it stops."""
        ...


_S = TypeVar("_S", bound=HasProcess)


def main(
    service: str, settings_type: type[_S], prefix: str, app: Callable[[_S], AbstractAsyncContextManager[None]]
) -> None:
    """Run a service until SIGTERM or SIGINT, and exit: 0 after a signal, 2 when the settings are wrong."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        sys.stdout.write(
            f"Tocsin's service {service!r}. It takes no arguments; its settings are environment variables:\n\n"
        )
        sys.stdout.write(format_settings(settings_type, prefix))
        return
    if OPTION in sys.argv[1:]:
        report = report_settings(settings_type, prefix, os.environ)  # noqa: TID251
        sys.stdout.write(json.dumps(report) + "\n")
        return
    try:
        settings = load_settings(settings_type, prefix, os.environ)  # noqa: TID251  (the one place that reads it)
    except SettingsError as error:
        sys.exit(_refused(service, error))
    process = settings.process
    configure_logs(service, process.instance, process.log_level)
    for setting in renamed_settings(settings_type, prefix, os.environ):  # noqa: TID251
        log.warning("setting_renamed", former=setting.former, name=setting.name, used=setting.used)
    with (
        telemetry(service, process.instance, process.otlp),
        # A tenth more single events a second than with the standard library's loop.
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        observe_expiry(settings)
        code = runner.run(_run(service, app(settings), process.drain))
    sys.exit(code)


@asynccontextmanager
async def serving(health: Health, shutdown_delay: timedelta) -> AsyncIterator[None]:
    """Report SERVING until the end of the block, then NOT_SERVING and wait, so that Envoy sees it. Enter it last."""
    health.mark_ready()
    log.info("service_ready", service=health.service)
    try:
        yield
    finally:
        health.mark_stopping()
        await asyncio.sleep(shutdown_delay.total_seconds())


def _refused(service: str, error: SettingsError) -> int:
    sys.stderr.write("".join(f"{service}: {problem}\n" for problem in error.problems))
    return _EXIT_SETTINGS


async def _run(service: str, app: AbstractAsyncContextManager[None], drain: timedelta) -> int:
    stop, started = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(_run_app(service, app, drain, started, stop))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, started, stop, running)
    try:
        await running
    except asyncio.CancelledError:
        log.info("service_stopped_while_starting")
    except SettingsError as error:
        # A file that a setting names, as the routes file, is read when the service starts.
        return _refused(service, error)
    except Exception:
        log.exception("service_crashed")
        return _EXIT_CRASHED
    else:
        log.info("service_stopped")
    return 0


async def _run_app(
    service: str,
    app: AbstractAsyncContextManager[None],
    drain: timedelta,
    started: asyncio.Event,
    stop: asyncio.Event,
) -> None:
    async with app:
        _freeze_objects()
        started.set()
        try:
            await stop.wait()
        finally:
            log.info("service_stopping")
            _limit_shutdown(service, drain)


def _freeze_objects() -> None:
    """Exclude the objects made at start, which live as long as the process, from later garbage collections.

    A full collection would walk all of them, for 50 ms and more than once a second under load, while all calls wait.
    Others come when so many objects are new that they are rarely met in the middle of a batch, whose objects they would
    walk in vain: with Python's 700 they were a fifth of the manager's CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_MAX_YOUNG_OBJECTS, *gc.get_threshold()[1:])


def _on_signal(started: asyncio.Event, stop: asyncio.Event, running: "asyncio.Task[None]") -> None:
    stop.set()
    if not started.is_set():
        # Still starting, perhaps waiting for a database: there is nothing to drain.
        running.cancel()


def _limit_shutdown(service: str, drain: timedelta) -> None:
    """End the process after `drain`, even when a library's thread hangs: what was not committed is delivered again."""

    def give_up() -> None:
        log.error("shutdown_timed_out", service=service)
        sys.stdout.flush()
        os._exit(_EXIT_STUCK)

    timer = threading.Timer(drain.total_seconds(), give_up)
    timer.daemon = True
    timer.start()
