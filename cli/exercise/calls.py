"""Single events over gRPC all the time, at a share of the rate that the system takes, and how many calls failed."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from stack.secure_files import SecureFiles
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import IngestRequest
from tocsin.logs.v1.log_ingest_service_pb2_grpc import LogIngestServiceStub

_SHARE = 0.3
_MEASURE_S = 3.0
_CALLERS = 20
_CALL_TIMEOUT_S = 10.0
_REQUEST = IngestRequest(event=LogEvent(service="calls", level=LogEvent.INFO, message="a call"))
# As a client that knows several edges should: it uses all of them, and leaves one that is gone.
_OPTIONS = (
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)
OK = "OK"


class CallOutcomes:
    """How many calls ended with which status, at which rate."""

    def __init__(self) -> None:
        self.by_status: Counter[str] = Counter()
        self.rate = 0.0

    @property
    def calls(self) -> int:
        """All calls that ended."""
        return self.by_status.total()

    @property
    def failed(self) -> int:
        """Those that did not succeed."""
        return self.calls - self.by_status[OK]


@contextmanager
def calling(ports: Sequence[int], secure: SecureFiles | None = None) -> Iterator[CallOutcomes]:
    """Measure how many calls a second the system takes, and make three tenths of that during the block."""
    outcomes, is_measured, is_over = CallOutcomes(), threading.Event(), threading.Event()
    work = _call_steadily(_Target(ports, secure), outcomes, is_measured, is_over)
    caller = threading.Thread(target=asyncio.run, args=(work,))
    caller.start()
    is_measured.wait()
    try:
        yield outcomes
    finally:
        is_over.set()
        caller.join()


@dataclass(frozen=True, slots=True)
class _Target:
    """Envoys on these ports, and by what they and the caller are known."""

    ports: Sequence[int]
    secure: SecureFiles | None

    def channel(self) -> grpc.aio.Channel:
        address = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in self.ports)
        if self.secure is None:
            return grpc.aio.insecure_channel(address, _OPTIONS)
        tls = grpc.ssl_channel_credentials(self.secure.ca.read_bytes())
        key = grpc.access_token_call_credentials(self.secure.admin_key.read_text().strip())
        # Several addresses are no name that a certificate could have.
        options = (*_OPTIONS, ("grpc.ssl_target_name_override", "localhost"))
        return grpc.aio.secure_channel(address, grpc.composite_channel_credentials(tls, key), options)


async def _call_steadily(
    target: _Target, outcomes: CallOutcomes, is_measured: threading.Event, is_over: threading.Event
) -> None:
    async with target.channel() as channel:
        stub: Any = LogIngestServiceStub(channel)
        try:
            await channel.channel_ready()
            outcomes.rate = _SHARE * await _measure_rate(stub)
        finally:
            is_measured.set()
        running: set[asyncio.Task[None]] = set()
        due = time.monotonic()
        while not is_over.is_set():
            task = asyncio.create_task(_call(stub, outcomes.by_status))
            running.add(task)
            task.add_done_callback(running.discard)
            due += 1 / outcomes.rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        await asyncio.gather(*running)


async def _measure_rate(stub: Any) -> float:
    """Return how many calls a second so many callers make who call without a pause."""
    made: Counter[str] = Counter()
    began = time.monotonic()

    async def call_on_and_on() -> None:
        while time.monotonic() < began + _MEASURE_S:
            await _call(stub, made)

    await asyncio.gather(*(call_on_and_on() for _ in range(_CALLERS)))
    return made[OK] / (time.monotonic() - began)


async def _call(stub: Any, outcomes: Counter[str]) -> None:
    try:
        await stub.Ingest(_REQUEST, timeout=_CALL_TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        outcomes[f"{error.code().name}: {error.details()}"] += 1
    else:
        outcomes[OK] += 1
