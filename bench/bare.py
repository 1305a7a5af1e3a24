"""The least that a service in this language costs: a grpc.aio handler that reads nothing and answers, behind an Envoy.

`python -m bench.bare --listen HOST:PORT` serves the rpc of `POST /api/logs`: each call is answered at once that its
event is accepted, without a check, Kafka, a trace or a metric. What ingest reaches beside it shows what all these
cost together; the Envoy, its configuration and the load are the same.
"""

import argparse
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from bench.processes import child, gateway_settings
from bench.rest import BODY
from stack.ports import Ports
from tocsin.logs.v1.log_ingest_service_pb2 import DESCRIPTOR, IngestJsonResponse

_SERVICE = DESCRIPTOR.services_by_name["LogIngestService"].full_name
_ONE_ACCEPTED = IngestJsonResponse(accepted_count=1).SerializeToString()


async def serve(address: str) -> None:
    """Answer calls until the process ends."""
    server = grpc.aio.server()
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    methods: dict[str, Any] = {"IngestJson": grpc.unary_unary_rpc_method_handler(_accept)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, methods),))
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


@contextmanager
def bare_handler() -> Iterator[Ports]:
    """Run the handler behind an Envoy of its own until the end of the block; its REST is at the edge's port."""
    ports = Ports.free()
    with (
        child("bench.bare", {}, "--listen", f"127.0.0.1:{ports.ingest}"),
        child("stack.envoy", gateway_settings(ports)),
    ):
        _wait_until_accepted(f"http://127.0.0.1:{ports.edge}/api/logs")
        yield ports


async def _accept(_request: bytes, _context: Any) -> bytes:
    return _ONE_ACCEPTED


def _wait_until_accepted(url: str, seconds: float = 30.0) -> None:
    request = urllib.request.Request(url, BODY, {"content-type": "application/json"})  # noqa: S310  (our own address)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(request, timeout=1):  # noqa: S310  (likewise)
                return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("the handler does not answer through Envoy")


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", required=True)
    uvloop.run(serve(parser.parse_args().listen))


if __name__ == "__main__":
    main()
