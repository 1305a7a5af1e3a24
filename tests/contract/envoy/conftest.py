"""A real Envoy between the tests and small servers that implement the contracts."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stack.envoy import EnvoySettings, envoy_command, render_config
from stack.ports import Ports
from tests.contract.envoy.client import EnvoyClient, wait_until
from tests.contract.envoy.edge import Edge, is_healthy
from tests.contract.envoy.relay import Relay
from tests.contract.envoy.tokens import Issuer
from tests.contract.envoy.upstream import Upstream, admin
from tests.fakes.otlp import SpanReceiver

NO_TIMEOUTS: Mapping[str, str] = {}


@pytest.fixture(scope="session")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    folder = tmp_path_factory.mktemp("envoy")
    ports = Ports.free()
    relayed = Ports.free()
    ingest, manager, notifier = (
        Upstream("ingest", ports.ingest),
        Upstream("manager", relayed.manager),
        Upstream("notifier", ports.notifier),
    )
    relay = Relay(ports.manager, relayed.manager)
    spans = SpanReceiver()
    edge = Edge(
        ports=ports,
        ingest=ingest,
        manager=manager,
        notifier=notifier,
        evaluator_admins=(ports.evaluator_admin, relayed.evaluator_admin),
        manager_relay=relay,
        spans=spans,
        access_log=folder / "access.log",
        log=folder / "envoy.log",
    )
    admins = ExitStack()
    admins.enter_context(admin(ports.ingest_admin, "ingest", {"kafka": "UP"}))
    admins.enter_context(admin(ports.manager_admin, "manager", {"db": "DOWN"}))
    envoy = _start(folder, edge, otlp=spans.address)
    try:
        wait_until(lambda: EnvoyClient(ports.envoy_admin).get("/ready").status == 200, process=envoy, log=edge.log)
        for name in ("ingest", "manager", "notifier"):
            wait_until(partial(is_healthy, ports, name), process=envoy, log=edge.log)
        yield edge
    finally:
        envoy.terminate()
        envoy.wait(timeout=10)
        admins.close()
        for upstream in (ingest, manager, notifier):
            upstream.stop()
        relay.close()
        spans.stop()


@pytest.fixture(autouse=True)
def _reset(edge: Edge) -> None:
    for upstream in (edge.ingest, edge.manager, edge.notifier):
        upstream.reset()


@dataclass(frozen=True)
class Running:
    """An Envoy of its own, with small servers behind it."""

    ports: Ports
    upstreams: tuple[Upstream, ...]
    access_log: Path


@contextmanager
def running_envoy(folder: Path, shorter: Mapping[str, str] | None = None, **settings: Any) -> Iterator[Running]:
    """Run an Envoy with these settings, before ingest, manager and notifier.

    `shorter` has values of its configuration, as JSON, and what takes their places so that a test can see them pass.
    """
    ports, log = Ports.free(), folder / "envoy.log"
    with ExitStack() as stack:
        upstreams = []
        for name in ("ingest", "manager", "notifier"):
            upstreams.append(Upstream(name, getattr(ports, name)))
            stack.callback(upstreams[-1].stop)
            stack.enter_context(admin(getattr(ports, f"{name}_admin"), name, {"kafka": "UP"}))
        chosen = envoy_settings(ports, access_log=folder / "access.log", **settings)
        envoy = _run(folder, log, chosen, shorter or {})
        stack.callback(envoy.wait, timeout=10)
        stack.callback(envoy.terminate)
        wait_until(lambda: EnvoyClient(ports.envoy_admin).get("/ready").status == 200, process=envoy, log=log)
        for name in ("ingest", "manager", "notifier"):
            wait_until(partial(is_healthy, ports, name), process=envoy, log=log)
        yield Running(ports, tuple(upstreams), chosen.access_log)


@contextmanager
def guarded(folder: Path, shorter: Mapping[str, str] | None = None, **settings: Any) -> Iterator[Running]:
    """Run an Envoy that asks callers for credentials."""
    with running_envoy(folder, shorter, authentication="required", **settings) as running:
        yield running


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


def _start(folder: Path, edge: Edge, *, otlp: str) -> subprocess.Popen[bytes]:
    ports = edge.ports
    settings = envoy_settings(
        ports,
        # Two instances, each started by the tests that need it.
        evaluator_admin=",".join(f"127.0.0.1:{port}" for port in edge.evaluator_admins),
        otlp=otlp,
        access_log=edge.access_log,
    )
    return _run(folder, edge.log, settings)


def envoy_settings(ports: Ports, **changed: Any) -> EnvoySettings:
    names = ("ingest", "evaluator", "manager", "notifier")
    addresses = {
        setting: f"127.0.0.1:{getattr(ports, setting)}" for name in names for setting in (name, f"{name}_admin")
    }
    return EnvoySettings(
        edge_port=ports.edge,
        evaluator_port=ports.edge_evaluator,
        manager_port=ports.edge_manager,
        notifier_port=ports.edge_notifier,
        mesh_port=ports.mesh,
        admin_port=ports.envoy_admin,
        **(addresses | changed),
    )


def _run(
    folder: Path, log: Path, settings: EnvoySettings, shorter: Mapping[str, str] = NO_TIMEOUTS
) -> subprocess.Popen[bytes]:
    config = folder / "envoy.json"
    # Commands and queries have a timeout of two seconds here, so that a test can see it pass.
    text = render_config(settings)
    for value, short in ({'"timeout": "15s"': '"timeout": "2s"'} | dict(shorter)).items():
        assert value in text, value
        text = text.replace(value, short)
    config.write_text(text)
    with log.open("wb") as written:
        return subprocess.Popen(envoy_command(config), stdout=written, stderr=written)
