"""Instances of ingest behind an Envoy, and a steady load on them, for tests that restart one after another."""

import asyncio
import json
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status

from stack.envoy import EnvoySettings, envoy_command, write_config
from stack.ports import Ports
from stack.processes import Processes
from stack.readiness import http_get
from stack.secure_files import SecureFiles
from stack.servers import Addresses
from stack.starter import Starter
from stack.system import system_program
from stack.wiring import Wiring
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import IngestRequest
from tocsin.logs.v1.log_ingest_service_pb2_grpc import LogIngestServiceStub

EVENT = IngestRequest(event=LogEvent(service="shop", level=LogEvent.ERROR, message="refused"))
CALLERS, PAUSE_SECONDS = 20, 0.04


class Instance:
    """One ingest, as a process; `ports` are those on which it listens first."""

    def __init__(self, folder: Path, kafka: str, prefix: str, number: int) -> None:
        self.ports = Ports.free()
        self._addresses = Addresses(kafka=kafka, postgres="", redis="")
        self._prefix, self._name = prefix, f"ingest-{number}"
        self._processes = Processes(folder / str(number))
        self._starter = Starter(self._processes, print)

    def start(
        self,
        ports: Ports | None = None,
        settings: Mapping[str, str] | None = None,
        secure: SecureFiles | None = None,
    ) -> None:
        """Start it, on other ports or with more settings, in place of a process that runs with others."""
        wiring = Wiring(
            addresses=self._addresses,
            ports=ports or self.ports,
            topic_prefix=self._prefix,
            # It asks for no certificate, whatever the instance has.
            external={"kafka": self._addresses.kafka},
            settings={"INGEST_INSTANCE": self._name, **(settings or {})},
            secure=secure,
        )
        self._starter.start([lambda: system_program("ingest", self._processes, wiring)])

    def stop(self) -> None:
        self._processes.stop("ingest")

    def kill(self) -> None:
        """End it as a crash would."""
        self._processes.kill("ingest")


@contextmanager
def envoy_before(instances: Sequence[Ports], folder: Path, **more: Any) -> Iterator[int]:
    """Run an Envoy before instances on these ports, and give the port of its edge."""
    addresses = {
        "ingest": ",".join(f"127.0.0.1:{each.ingest}" for each in instances),
        "ingest_admin": ",".join(f"127.0.0.1:{each.ingest_admin}" for each in instances),
    }
    with envoy_with_names(folder, **(addresses | more)) as ports:
        yield ports.edge


@contextmanager
def envoy_with_names(folder: Path, *, name_server: int | None = None, **more: Any) -> Iterator[Ports]:
    """Run an Envoy that asks the name server on this port, the machine's own without one, and give its ports."""
    ports = Ports.free()
    folder.mkdir(exist_ok=True)
    settings = EnvoySettings(
        **{f"{name}_port": getattr(ports, f"edge_{name}") for name in ("evaluator", "manager", "notifier")},
        edge_port=ports.edge,
        mesh_port=ports.mesh,
        admin_port=ports.envoy_admin,
        access_log=folder / "access.log",
        **more,
    )
    config = write_config(settings, folder)
    if name_server is not None:
        config.write_text(json.dumps(_asking(json.loads(config.read_text()), name_server)))
    with (
        (folder / "envoy.log").open("wb") as log,
        subprocess.Popen(envoy_command(config), stdout=log, stderr=log) as envoy,
    ):
        try:
            Starter(Processes(folder), print).wait_until_ready("ingest", lambda: http_get(ports.edge, "/health"))
            yield ports
        finally:
            envoy.terminate()


def _asking(config: dict[str, Any], port: int) -> dict[str, Any]:
    """Let a configuration's clusters ask a name server of the test, and change nothing else of them."""
    kind = "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"
    servers = [{"socket_address": {"address": "127.0.0.1", "port_value": port}}]
    for cluster in config["static_resources"]["clusters"]:
        form = cluster.get("cluster_type", {})
        if form.get("name") == "envoy.clusters.dns":
            form["typed_config"]["typed_dns_resolver_config"] = {
                "name": "envoy.network.dns_resolver.cares",
                "typed_config": {"@type": kind, "resolvers": servers},
            }
    return config


async def until(condition: Callable[[], bool]) -> None:
    """Return when the condition holds."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  (what is waited for happens in other processes)
            await asyncio.sleep(0.05)


def hint(error: Any) -> str:
    """Return when the caller is to retry, or why the call failed."""
    status, found = rpc_status.from_call(error), RetryInfo()
    has_hint = status is not None and any(each.Unpack(found) for each in status.details)
    return f", again after {found.retry_delay.seconds} s" if has_hint else f": {error.details()}"


@asynccontextmanager
async def steady_load(port: int, credentials: grpc.ChannelCredentials | None = None) -> AsyncIterator[Counter[str]]:
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

    target = f"127.0.0.1:{port}"
    opened = grpc.aio.secure_channel(target, credentials) if credentials else grpc.aio.insecure_channel(target)
    async with opened as channel:
        stub: Any = LogIngestServiceStub(channel)
        callers = [asyncio.create_task(call_on_and_on(stub)) for _ in range(CALLERS)]
        yield answers
        is_over.set()
        await asyncio.gather(*callers)
