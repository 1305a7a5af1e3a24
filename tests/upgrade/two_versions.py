"""A system of the former release, of which one part after the other is replaced by this tree's, as an operator does it.

It runs from that release's own code, in this environment: every package that it needs is in requirements.lock still.
"""

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from cli.demo.steps import RestClient
from cli.exercise.campaign import InjectedFailure
from stack.guard import guarded
from stack.ports import Ports
from stack.processes import Processes
from stack.program import ProgramSpec
from stack.readiness import http_get
from stack.servers import Addresses
from stack.starter import Starter
from stack.system import envoy_program, system_program
from stack.topics import create_topics
from stack.wiring import ROOT, SERVICES, Wiring, gateway_environ

# What tests/data/first_version is of too.
FORMER: Final = "32500ae24e21b3357b9dda8ebf2b0741117b2e44"
# Of docs/operations.md; the topics come before.
ORDER: Final = ("notifier", "manager", "evaluator", "ingest", "envoy")
# Of these both releases work at once. Evaluators do not, and the former Envoy knows one address of each service.
BESIDE: Final = ("notifier", "manager")
# Settings that the former release does not know.
_LATER = ("INGEST_MANAGER_TARGET", "MANAGER_NOTIFIER_TARGET", "MANAGER_INGEST_TARGET", "NOTIFIER_MANAGER_TARGET")


def has_former() -> bool:
    """Return whether the former release is in this clone's history."""
    found = subprocess.run(
        ["git", "cat-file", "-e", f"{FORMER}^{{commit}}"], cwd=ROOT, capture_output=True, check=False
    )
    return found.returncode == 0


def write_former(folder: Path) -> None:
    """Write what the former release runs from into a folder."""
    parts = ("services", "stack", "gen", "envoy")
    archive = subprocess.run(["git", "archive", FORMER, *parts], cwd=ROOT, capture_output=True, check=True).stdout
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)


class FormerSinks(RestClient):
    """The local sinks; what the former release tells the webhook is shown as if it were of an incident."""

    def get(self, path: str) -> Any:
        found = super().get(path)
        for one in found["deliveries"]:
            if not one["incident"] and one["channel"] == "webhook":
                one["incident"] = one["alert"]
                one["body"] = {"incident": {"cause": {"service": one["body"]["alert"]["resource"]}}}
        return found


class TwoVersions:
    """The system whose parts are replaced; a part "fails" when its new instance starts."""

    def __init__(self, processes: Processes, addresses: Addresses, former: Path) -> None:
        self._processes = processes
        self._starter = Starter(processes, print)
        self._addresses = addresses
        self._former = former
        self._ports = {1: Ports.free(), 2: Ports.free()}
        self._part = ""
        self.edges: Sequence[RestClient] = [RestClient(f"127.0.0.1:{self._ports[1].edge}")]
        self.sinks: RestClient = FormerSinks(f"127.0.0.1:{self._ports[1].sinks}")

    def start(self) -> None:
        """Start all of the former release."""
        self._start(partial(system_program, "sinks", self._processes, self._wiring(1, {})), self._former_envoy)
        self._start(*(partial(self._former_service, name) for name in SERVICES))

    def fail(self, part: str) -> InjectedFailure:
        """Start a new instance beside the former one, or in its place where the two do not work together."""
        began, self._part = time.monotonic(), part
        if part in BESIDE:
            self._start(partial(self._service, part, 2))
        else:
            self._replace(part)
        return InjectedFailure(time=began)

    def restore(self) -> None:
        """Replace the former instance, if it still runs."""
        if self._part in BESIDE:
            self._replace(self._part)

    def _replace(self, part: str) -> None:
        self._processes.stop(f"{part}-1")
        self._start(self._envoy if part == "envoy" else partial(self._service, part, 1))

    def _start(self, *programs: Any) -> None:
        self._starter.start(programs)

    def _service(self, name: str, number: int) -> ProgramSpec:
        settings = {
            f"{name.upper()}_INSTANCE": f"{name}-{number}",
            "EVALUATOR_CACHE_DIR": str(self._processes.data(f"evaluator-{number}")),
        }
        return dataclasses.replace(
            system_program(name, self._processes, self._wiring(number, settings)), name=f"{name}-{number}"
        )

    def _former_service(self, name: str) -> ProgramSpec:
        program = self._service(name, 1)
        environ = {key: value for key, value in program.environ.items() if key not in _LATER}
        if name == "notifier":
            environ["NOTIFIER_ROUTES"] = str(self._former / "services" / "notifier" / "routes.example.yaml")
        return dataclasses.replace(program, environ=environ | self._former_python(), files=())

    def _former_envoy(self) -> ProgramSpec:
        ports = self._ports[1]
        environ = gateway_environ(self._wiring(1, {}), self._processes.log("former-access"))
        return ProgramSpec(
            name="envoy-1",
            command=(sys.executable, "-m", "stack.envoy"),
            environ=environ | self._former_python(),
            ports=ports.of("envoy"),
            check_ready=lambda: http_get(ports.envoy_admin, "/ready"),
            stage=1,
        )

    def _former_python(self) -> dict[str, str]:
        return {"PYTHONPATH": f"{self._former}{os.pathsep}{self._former / 'gen'}"}

    def _envoy(self) -> ProgramSpec:
        upstreams = {
            f"GATEWAY_{name.upper()}": ",".join(f"127.0.0.1:{getattr(ports, name)}" for ports in self._ports.values())
            for service in BESIDE
            for name in (service, f"{service}_admin")
        }
        return envoy_program(self._processes, self._wiring(1, upstreams), "envoy-1")

    def _wiring(self, number: int, settings: dict[str, str]) -> Wiring:
        # There is one Envoy, and one process of sinks.
        shared = {name: getattr(self._ports[1], name) for name in ("mesh", "sinks", "sinks_smtp")}
        return Wiring(
            addresses=self._addresses,
            ports=dataclasses.replace(self._ports[number], **shared),
            settings=settings,
            external=dataclasses.asdict(self._addresses),
        )


@contextmanager
def two_versions(folder: Path, addresses: Addresses) -> Iterator[TwoVersions]:
    """Start the former release on servers that have nothing, and stop whatever runs at the end."""
    former = folder / "former"
    write_former(former)
    processes = Processes(folder)
    with guarded(folder):
        try:
            create_topics(addresses.kafka)
            system = TwoVersions(processes, addresses, former)
            system.start()
            yield system
        finally:
            Starter(processes, print).stop(processes.running())
