"""An instance whose health checks succeed while its calls fail: Envoy ejects it, and uses it again after a while."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from stack.ports import free_ports
from tests.contract.envoy.client import EnvoyClient, wait_until
from tests.contract.envoy.conftest import running_envoy
from tests.contract.envoy.upstream import Upstream

pytestmark = pytest.mark.integration

EVENT = {"service": "a", "level": "ERROR", "message": "m"}
# Of the configuration: how long an instance is ejected at first.
EJECTED_SECONDS = 2.0


@contextmanager
def two_instances() -> Iterator[tuple[Upstream, Upstream]]:
    one, other = (Upstream("ingest", port) for port in free_ports(2))
    try:
        yield one, other
    finally:
        one.stop()
        other.stop()


def test_an_instance_whose_calls_fail_is_ejected_for_a_while(tmp_path: Path) -> None:
    with (
        two_instances() as (one, other),
        running_envoy(tmp_path, ingest=f"127.0.0.1:{one.port},127.0.0.1:{other.port}") as envoy,
    ):
        edge, admin = EnvoyClient(envoy.ports.edge), EnvoyClient(envoy.ports.envoy_admin)

        def flags() -> str:
            lines = admin.get("/clusters").text.splitlines()
            start = f"ingest::127.0.0.1:{other.port}::health_flags::"
            return next(line.removeprefix(start) for line in lines if line.startswith(start))

        def is_ejected() -> bool:
            edge.post("/api/logs", EVENT)
            return "failed_outlier_check" in flags()

        wait_until(lambda: flags() == "healthy")
        other.on("IngestJson", lambda _, context: context.abort(grpc.StatusCode.UNAVAILABLE, "out of order"))
        wait_until(is_ejected)
        ejected, calls = time.monotonic(), len(other.calls)
        while time.monotonic() < ejected + EJECTED_SECONDS / 2:
            assert edge.post("/api/logs", EVENT).status == 200
        assert len(other.calls) == calls
        other.reset()
        wait_until(lambda: edge.post("/api/logs", EVENT).status == 200 and bool(other.calls))
        assert [edge.post("/api/logs", EVENT).status for _ in range(20)] == [200] * 20
