"""The system on its servers: four services, Envoy in front of them, local sinks; how to run each, and all of them."""

import json
import os
import re
import sys
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path

from stack.ports import Ports
from stack.processes import Processes
from stack.program import ProgramSpec
from stack.readiness import check_gateway, http_get
from stack.sink_addresses import sink_variables
from stack.start_options import StartOptions
from stack.starter import Starter
from stack.wiring import SERVICES, Wiring, gateway_environ, python_environ, service_environ

# Envoy and the sinks do not wait for any service, so they start first, and stop after the services have drained.
_FIRST_STAGE, _SERVICE_STAGE = 1, 2


def stages(options: StartOptions) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the programs that start together, and those that start when these are ready."""
    return ("envoy", "sinks") if options.runs_sinks else ("envoy",), SERVICES


class System:
    """All programs of the system, started, stopped and killed together or one by one."""

    def __init__(self, processes: Processes, wiring: Wiring, starter: Starter) -> None:
        self.wiring = wiring
        self._processes = processes
        self._starter = starter

    def start(self) -> None:
        """Start all, and return when a call through Envoy reaches every service."""
        for stage in stages(self.wiring.options):
            self._starter.start([partial(system_program, name, self._processes, self.wiring) for name in stage])
        if not self.wiring.options.runs_sinks:
            self.stop_one("sinks")
        self.wait_until_reachable()

    def wait_until_reachable(self) -> None:
        """Return when a call through Envoy reaches every service; after a restart that takes a moment."""
        check = partial(check_gateway, self.wiring.ports, self.wiring.client_context())
        self._starter.wait_until_ready("a service behind Envoy", check)

    def start_one(self, name: str) -> None:
        """Start what was killed or stopped, and return when it is ready."""
        self._starter.start([partial(system_program, name, self._processes, self.wiring)])

    def stop_one(self, name: str) -> None:
        """Stop a program in good order."""
        self._processes.stop(name)

    def kill(self, name: str) -> None:
        """End a program as a crash would."""
        self._processes.kill(name)

    def stop(self) -> None:
        """Stop all, the services first."""
        self._starter.stop(self._processes.running())

    def log(self, name: str) -> Path:
        """Return the file with a program's output."""
        return self._processes.log(name)


def system_program(name: str, processes: Processes, wiring: Wiring) -> ProgramSpec:
    """Return how to run a service, "envoy" or "sinks"; for the notifier the sinks must have started."""
    match name:
        case "envoy":
            return envoy_program(processes, wiring)
        case "sinks":
            return _sinks(processes, wiring.ports)
        case _ if name in SERVICES:
            return _service(name, processes, wiring)
        case _:
            raise ValueError(f"there is no program called {name}")


def _service(name: str, processes: Processes, wiring: Wiring) -> ProgramSpec:
    environ = python_environ() | service_environ(name, wiring, processes.data(name))
    routes = Path(environ.get("NOTIFIER_ROUTES", ""))
    if name == "ingest" and wiring.sockets is not None:
        wiring.sockets.mkdir(mode=0o700, exist_ok=True)
    if name == "notifier":
        environ |= named_variables(routes, os.environ) | sink_variables(
            wiring.options, wiring.ports, processes.data("sinks")
        )
    chosen = {**wiring.defaults, **wiring.settings}
    environ |= {key: value for key, value in chosen.items() if key.startswith(f"{name.upper()}_")}
    admin: int = getattr(wiring.ports, f"{name}_admin")
    context = wiring.client_context()
    return ProgramSpec(
        name=name,
        command=(sys.executable, "-m", f"services.{name}"),
        environ=environ,
        files=(routes,) if routes.is_file() else (),
        ports=wiring.ports.of(name),
        check_ready=lambda: http_get(admin, "/health", context),
        grace=timedelta(seconds=20),
        stage=_SERVICE_STAGE,
    )


def named_variables(routes: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a routes file names: with another value in the shell the notifier starts anew."""
    found = re.findall(r"\$\{(\w+)", routes.read_text(errors="replace")) if routes.is_file() else []
    names = [each for name in found for each in (name, f"{name}_FILE")]
    return {name: environ[name] for name in names if name in environ}


def _sinks(processes: Processes, ports: Ports) -> ProgramSpec:
    folder = processes.data("sinks")
    options = ("--port", str(ports.sinks), "--smtp-port", str(ports.sinks_smtp), "--folder", str(folder))
    return ProgramSpec(
        name="sinks",
        command=(sys.executable, "-m", "stack.sinks", *options),
        environ=python_environ(),
        ports=ports.of("sinks"),
        check_ready=lambda: _check_sinks(folder, ports),
        stage=_FIRST_STAGE,
    )


def _check_sinks(folder: Path, ports: Ports) -> None:
    http_get(ports.sinks, "/health")
    # An earlier run on other ports may have left its own.
    environment = json.loads((folder / "environment.json").read_text())
    if environment["SMTP_PORT"] != str(ports.sinks_smtp):
        raise ConnectionError("the sinks have not written their addresses yet")


def envoy_program(processes: Processes, wiring: Wiring, name: str = "envoy") -> ProgramSpec:
    """Write an Envoy's configuration, and return how to run it; two in one folder differ in name and ports."""
    # Imports Envoy's wheel and protobuf, which those who only want servers do without.
    from services.chassis.settings import load_settings  # noqa: PLC0415
    from stack import envoy  # noqa: PLC0415
    from stack.envoy_tls import secret_files  # noqa: PLC0415

    environ = {**gateway_environ(wiring, processes.log("access")), **wiring.settings}
    settings = load_settings(envoy.EnvoySettings, envoy.PREFIX, environ)
    config = envoy.write_config(settings, processes.data(name))
    secrets = tuple(config.parent / file for file in secret_files(settings.certificates))
    ports = wiring.ports
    return ProgramSpec(
        name=name,
        command=tuple(envoy.envoy_command(config, concurrency=settings.concurrency)),
        files=(config, *secrets),
        ports=ports.of("envoy"),
        check_ready=lambda: http_get(ports.envoy_admin, "/ready"),
        stage=_FIRST_STAGE,
    )
