"""Which of its engines gRPC reads a server's connections with: seen from outside, as it is chosen at the import."""

import os
import subprocess
import sys

import pytest

from stack.wiring import SERVICES

_SERVER = """
import asyncio
import services.chassis
import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

async def serve():
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    await server.stop(0)
    print(answer.status)

asyncio.run(serve())
"""
_IMPORT = """
import os
import sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "grpc":
            print(os.environ.get("GRPC_EXPERIMENTS"))

sys.meta_path.insert(0, Finder())
import services.{service}.__main__
"""


def _run(program: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    environ = {name: value for name, value in os.environ.items() if name != "GRPC_EXPERIMENTS"} | settings
    return subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)


@pytest.mark.parametrize(("chosen", "is_event_engine"), [({}, False), ({"GRPC_EXPERIMENTS": "none"}, True)])
def test_a_server_reads_on_the_thread_that_waits_for_calls_unless_told_otherwise(
    chosen: dict[str, str], *, is_event_engine: bool
) -> None:
    ran = _run(_SERVER, GRPC_TRACE="event_engine_endpoint", **chosen)
    assert ran.stdout == "1\n"
    assert ("posix_engine_listener" in ran.stderr) is is_event_engine


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_tells_grpc_so_before_it_is_imported(service: str) -> None:
    assert _run(_IMPORT.format(service=service)).stdout == "-event_engine_listener\n"
