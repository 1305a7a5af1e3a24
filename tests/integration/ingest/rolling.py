"""Instances of services behind an Envoy, and a steady load on them, for tests that restart one after another."""

import asyncio
import itertools
import json
import ssl
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message
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
from stack.wiring import SERVICES, Wiring
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import IngestRequest

EVENT = IngestRequest(event=LogEvent(service="shop", level=LogEvent.ERROR, message="refused"))
SINGLE_EVENTS: Mapping[str, Message] = {"/tocsin.logs.v1.LogIngestService/Ingest": EVENT}
CALLERS, PAUSE_SECONDS = 20, 0.04


class Instance:
    """One service, as a process; `ports` are those on which it listens first."""

    def __init__(self, folder: Path, wiring: Wiring, number: int, service: str = "ingest") -> None:
        self.service, self.ports = service, wiring.ports
        self._wiring, self._number = wiring, number
        self._processes = Processes(folder / f"{service}-{number}")
        self._starter = Starter(self._processes, print)

    def start(
        self,
        ports: Ports | None = None,
        settings: Mapping[str, str] | None = None,
        secure: SecureFiles | None = None,
    ) -> None:
        """Start it, on other ports or with more settings, in place of a process that runs with others."""
        wiring = replace(
            self._wiring,
            ports=ports or self.ports,
            # The servers ask for no certificate, whatever the instance has.
            external=asdict(self._wiring.addresses),
            settings={f"{self.service.upper()}_INSTANCE": f"{self.service}-{self._number}", **(settings or {})},
            secure=secure,
        )
        self._starter.start([lambda: system_program(self.service, self._processes, wiring)])

    def stop(self) -> None:
        self._processes.stop(self.service)

    def kill(self) -> None:
        """End it as a crash would."""
        self._processes.kill(self.service)


def ingest_wiring(kafka: str, prefix: str) -> Wiring:
    """Return the wiring of an instance of ingest, on free ports."""
    return Wiring(addresses=Addresses(kafka=kafka, postgres="", redis=""), ports=Ports.free(), topic_prefix=prefix)


@contextmanager
def envoy_before(instances: Sequence[Ports], folder: Path, **more: Any) -> Iterator[int]:
    """Run an Envoy before instances on these ports, and give the port of its edge."""
    addresses = {
        name: ",".join(f"127.0.0.1:{getattr(each, name)}" for each in instances)
        for service in SERVICES
        for name in (service, f"{service}_admin")
    }
    with envoy_with_names(folder, **(addresses | more)) as ports:
        yield ports.edge


@contextmanager
def envoy_with_names(
    folder: Path,
    *,
    name_server: int | None = None,
    ports: Ports | None = None,
    context: ssl.SSLContext | None = None,
    **more: Any,
) -> Iterator[Ports]:
    """Run an Envoy that asks the name server on this port, the machine's own without one, and give its ports.

    With a context it is ready when its edge takes TLS.
    """
    ports = ports or Ports.free()
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
            Starter(Processes(folder), print).wait_until_ready(
                "ingest", lambda: http_get(ports.edge, "/health", context)
            )
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
async def steady_load(
    port: int, credentials: grpc.ChannelCredentials | None = None, calls: Mapping[str, Message] = SINGLE_EVENTS
) -> AsyncIterator[Counter[str]]:
    """Make these calls all the time, requests by path, and count the answers by status."""
    answers: Counter[str] = Counter()
    is_over = asyncio.Event()

    async def call_on_and_on(channel: grpc.aio.Channel, path: str, request: Message) -> None:
        call: Any = channel.unary_unary(path, request_serializer=type(request).SerializeToString)
        while not is_over.is_set():
            try:
                await call(request, timeout=10)
            except grpc.aio.AioRpcError as error:
                answers[f"{error.code().name}{hint(error)}"] += 1
            else:
                answers["OK"] += 1
            await asyncio.sleep(PAUSE_SECONDS)

    target = f"127.0.0.1:{port}"
    opened = grpc.aio.secure_channel(target, credentials) if credentials else grpc.aio.insecure_channel(target)
    async with opened as channel:
        made = itertools.islice(itertools.cycle(calls.items()), CALLERS)
        callers = [asyncio.create_task(call_on_and_on(channel, *each)) for each in made]
        yield answers
        is_over.set()
        await asyncio.gather(*callers)
