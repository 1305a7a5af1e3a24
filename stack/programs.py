"""How to run each part of the system: the four services, Envoy in front of them, and the local sinks."""

import json
import os
import sys
from datetime import timedelta
from pathlib import Path

from stack.answers import http
from stack.ports import Ports
from stack.processes import Processes
from stack.program import Program
from stack.wiring import ROOT, SERVICES, Wiring, gateway_environ, service_environ

# Envoy and the sinks do not wait for any service, so they start first, and stop when the services have drained.
_BEFORE_SERVICES, _SERVICES = 1, 2


def program(name: str, processes: Processes, wiring: Wiring) -> Program:
    """Say how to run a service, "envoy" or "sinks"; the notifier's depends on what the sinks wrote down."""
    match name:
        case "envoy":
            return _envoy(processes, wiring)
        case "sinks":
            return _sinks(processes, wiring.ports)
        case _ if name in SERVICES:
            return _service(name, processes, wiring)
        case _:
            raise ValueError(f"there is no program called {name}")


def _service(name: str, processes: Processes, wiring: Wiring) -> Program:
    given = {key: value for key, value in os.environ.items() if key.startswith(f"{name.upper()}_")}
    environ = given | _surroundings() | service_environ(name, wiring, processes.data(name))
    routes = Path(environ.get("NOTIFIER_ROUTES", ""))
    if name == "notifier" and wiring.routes is None:
        environ |= json.loads((processes.data("sinks") / "environment.json").read_text())
    environ |= {key: value for key, value in wiring.settings.items() if key.startswith(f"{name.upper()}_")}
    admin: int = getattr(wiring.ports, f"{name}_admin")
    return Program(
        name=name,
        command=(sys.executable, "-m", f"services.{name}"),
        environ=environ,
        files=(routes,) if routes.is_file() else (),
        ports=wiring.ports.of(name),
        ready=lambda: http(admin, "/health"),
        grace=timedelta(seconds=20),
        stage=_SERVICES,
    )


def _sinks(processes: Processes, ports: Ports) -> Program:
    folder = processes.data("sinks")
    where = ("--port", str(ports.sinks), "--smtp-port", str(ports.sinks_smtp), "--folder", str(folder))
    return Program(
        name="sinks",
        command=(sys.executable, "-m", "stack.sinks", *where),
        environ=_surroundings(),
        ports=ports.of("sinks"),
        ready=lambda: _sinks_answer(folder, ports),
        stage=_BEFORE_SERVICES,
    )


def _sinks_answer(folder: Path, ports: Ports) -> None:
    http(ports.sinks, "/health")
    # An earlier run on other ports may have left its own.
    written = json.loads((folder / "environment.json").read_text())
    if written["SMTP_PORT"] != str(ports.sinks_smtp):
        raise ConnectionError("the sinks have not said yet where they are")


def _envoy(processes: Processes, wiring: Wiring) -> Program:
    # Brings Envoy's wheel and protobuf, which those who only want servers do without.
    from services.chassis.settings import load  # noqa: PLC0415
    from stack import envoy  # noqa: PLC0415

    environ = {**os.environ, **gateway_environ(wiring, processes.log("access"))}
    settings = load(envoy.EnvoySettings, envoy.PREFIX, environ)
    config = processes.data("envoy") / "envoy.json"
    config.write_text(envoy.render(settings))
    ports = wiring.ports
    return Program(
        name="envoy",
        command=tuple(envoy.command(config, concurrency=settings.concurrency)),
        files=(config,),
        ports=ports.of("envoy"),
        ready=lambda: http(ports.envoy_admin, "/ready"),
        stage=_BEFORE_SERVICES,
    )


def _surroundings() -> dict[str, str]:
    """Give what every Python program of the system needs, whatever the starter's environment says."""
    past_proxies = [*filter(None, [os.environ.get("no_proxy")]), "127.0.0.1", "localhost"]
    return {
        # This tree's code, whichever tree the environment's editable install points at.
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'gen'}",
        "PYTHONUNBUFFERED": "1",
        # gRPC would ask a configured proxy for its neighbour on this machine.
        "no_proxy": ",".join(past_proxies),
    }
