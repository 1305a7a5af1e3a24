"""Ingest is restarted under load, and no caller notices."""

import asyncio
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status

from stack.envoy import EnvoySettings, envoy_command, render_config
from stack.ports import Ports
from stack.processes import Processes
from stack.readiness import http_get
from stack.servers import Addresses
from stack.starter import Starter
from stack.system import system_program
from stack.wiring import Wiring
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import IngestRequest
from tocsin.logs.v1.log_ingest_service_pb2_grpc import LogIngestServiceStub

pytestmark = pytest.mark.integration

EVENT = IngestRequest(event=LogEvent(service="shop", level=LogEvent.ERROR, message="refused"))
CALLERS, PAUSE_SECONDS = 20, 0.04


class Instance:
    """One ingest, as a process."""

    def __init__(self, folder: Path, kafka: str, prefix: str, number: int) -> None:
        addresses = Addresses(kafka=kafka, postgres="", redis="")
        settings = {"INGEST_INSTANCE": f"ingest-{number}"}
        self.ports = Ports.free()
        self._wiring = Wiring(addresses=addresses, ports=self.ports, topic_prefix=prefix, settings=settings)
        self._processes = Processes(folder / str(number))
        self._starter = Starter(self._processes, print)

    def start(self) -> None:
        self._starter.start([lambda: system_program("ingest", self._processes, self._wiring)])

    def stop(self) -> None:
        self._processes.stop("ingest")


@pytest.fixture
def instances(tmp_path: Path, kafka: str, topics: str) -> Iterator[list[Instance]]:
    found = [Instance(tmp_path, kafka, topics, number) for number in (1, 2)]
    yield found
    for each in found:
        each.stop()


@contextmanager
def envoy_before(instances: list[Instance], folder: Path) -> Iterator[int]:
    ports = Ports.free()
    settings = EnvoySettings(
        **{f"{name}_port": getattr(ports, f"edge_{name}") for name in ("evaluator", "manager", "notifier")},
        edge_port=ports.edge,
        mesh_port=ports.mesh,
        admin_port=ports.envoy_admin,
        ingest=",".join(f"127.0.0.1:{each.ports.ingest}" for each in instances),
        ingest_admin=",".join(f"127.0.0.1:{each.ports.ingest_admin}" for each in instances),
        access_log=folder / "access.log",
    )
    config = folder / "envoy.json"
    config.write_text(render_config(settings))
    with (
        (folder / "envoy.log").open("wb") as log,
        subprocess.Popen(envoy_command(config), stdout=log, stderr=log) as envoy,
    ):
        try:
            Starter(Processes(folder), print).wait_until_ready("ingest", lambda: http_get(ports.edge, "/health"))
            yield ports.edge
        finally:
            envoy.terminate()


def hint(error: Any) -> str:
    """Return when the caller is to retry, or why the call failed."""
    status, found = rpc_status.from_call(error), RetryInfo()
    has_hint = status is not None and any(each.Unpack(found) for each in status.details)
    return f", again after {found.retry_delay.seconds} s" if has_hint else f": {error.details()}"


@asynccontextmanager
async def steady_load(port: int) -> AsyncIterator[Counter[str]]:
    """Send single events all the time, and count the answers by status."""
    answers: Counter[str] = Counter()
    is_over = asyncio.Event()

    async def call_on_and_on(stub: Any) -> None:
        while not is_over.is_set():
            try:
                await stub.Ingest(EVENT, timeout=10)
            except grpc.aio.AioRpcError as error:
                answers[f"{error.code().name}{hint(error)}"] += 1
            else:
                answers["OK"] += 1
            await asyncio.sleep(PAUSE_SECONDS)

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = LogIngestServiceStub(channel)
        callers = [asyncio.create_task(call_on_and_on(stub)) for _ in range(CALLERS)]
        yield answers
        is_over.set()
        await asyncio.gather(*callers)


async def test_of_two_instances_each_can_stop_unnoticed_and_the_last_one_gives_a_retry_delay(
    instances: list[Instance], tmp_path: Path
) -> None:
    one, other = instances
    await asyncio.gather(*(asyncio.to_thread(each.start) for each in instances))
    with envoy_before(instances, tmp_path) as port:
        async with steady_load(port) as answers:
            await asyncio.to_thread(one.stop)
            await asyncio.to_thread(one.start)
            await asyncio.to_thread(other.stop)
        assert set(answers) == {"OK"}, answers
        async with steady_load(port) as answers:
            await asyncio.to_thread(one.stop)
        assert set(answers) == {"OK", "UNAVAILABLE, again after 1 s"}, answers
