"""A real Envoy between the tests and small servers that implement the contracts."""

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stack.envoy import EnvoySettings, command, render
from stack.ports import Ports
from tests.contract.envoy.doors import Door, wait_until
from tests.contract.envoy.edge import Edge, is_healthy
from tests.contract.envoy.relay import Relay
from tests.contract.envoy.upstream import Upstream
from tests.fakes.otlp import SpanReceiver


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
        manager_relay=relay,
        spans=spans,
        access_log=folder / "access.log",
        log=folder / "envoy.log",
    )
    admins = [
        _admin(ports.ingest_admin, 200, {"service": "ingest", "status": "SERVING", "dependencies": {"kafka": "UP"}}),
        _admin(
            ports.manager_admin, 503, {"service": "manager", "status": "NOT_SERVING", "dependencies": {"db": "DOWN"}}
        ),
    ]
    envoy = _start(folder, edge, otlp=spans.address)
    try:
        wait_until(lambda: Door(ports.envoy_admin).get("/ready").status == 200, process=envoy, log=edge.log)
        for name in ("ingest", "manager", "notifier"):
            wait_until(lambda name=name: is_healthy(ports, name), process=envoy, log=edge.log)
        yield edge
    finally:
        envoy.terminate()
        envoy.wait(timeout=10)
        for server in admins:
            server.shutdown()
            server.server_close()
        for upstream in (ingest, manager, notifier):
            upstream.stop()
        relay.close()
        spans.stop()


@pytest.fixture(autouse=True)
def _forget(edge: Edge) -> None:
    for upstream in (edge.ingest, edge.manager, edge.notifier):
        upstream.forget()


def _start(folder: Path, edge: Edge, *, otlp: str) -> subprocess.Popen[bytes]:
    ports = edge.ports
    settings = EnvoySettings(
        edge_port=ports.edge,
        evaluator_port=ports.edge_evaluator,
        manager_port=ports.edge_manager,
        notifier_port=ports.edge_notifier,
        mesh_port=ports.mesh,
        admin_port=ports.envoy_admin,
        ingest=f"127.0.0.1:{ports.ingest}",
        ingest_admin=f"127.0.0.1:{ports.ingest_admin}",
        evaluator=f"127.0.0.1:{ports.evaluator}",
        evaluator_admin=f"127.0.0.1:{ports.evaluator_admin}",
        manager=f"127.0.0.1:{ports.manager}",
        manager_admin=f"127.0.0.1:{ports.manager_admin}",
        notifier=f"127.0.0.1:{ports.notifier}",
        notifier_admin=f"127.0.0.1:{ports.notifier_admin}",
        otlp=otlp,
        access_log=edge.access_log,
    )
    config = folder / "envoy.json"
    # Commands and queries get two seconds here, so that a test can see them run out.
    config.write_text(render(settings).replace('"timeout": "15s"', '"timeout": "2s"'))
    with edge.log.open("wb") as log:
        return subprocess.Popen(command(config), stdout=log, stderr=log)


def _admin(port: int, status: int, body: dict[str, object]) -> ThreadingHTTPServer:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
