"""The cost of ingest: each step of checking events alone, and the whole rpc with a real Kafka.

`python -m bench.ingest [--brokers HOST:PORT]` prints tables; without brokers it starts its own Kafka.
Batches are of 500 OpenStack lines, columns of 2,000; single events come over REST, through Envoy. "On one core" is the
rate that the CPU time of the ingest process allows.
"""

import argparse
import asyncio
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psutil
import uvloop
from rich.console import Console
from rich.table import Table

from bench import rest
from bench.lines import batches
from bench.load import load
from bench.processes import child, gateway_settings
from services.ingest.adapters.wire import ProtobufWire
from services.ingest.core.event_checker import EventChecker
from services.ingest.core.field_checks import Limits
from services.ingest.core.redaction import Redact, redact_nothing
from services.ingest.core.redactor import Redactor
from services.redaction.presets import SECRET_PRESETS
from stack.ports import Ports
from stack.testing import Servers, fresh_name
from stack.topics import create_topics, delete_topics
from tocsin.logs.v1.log_event_pb2 import EventColumns
from tocsin.logs.v1.log_ingest_service_pb2 import IngestBatchRequest

SIZE = 500
COLUMNS_SIZE = 2000
_MASKING_ROUNDS, _MASKING_REPEATS = 12, 30
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = Limits(
    max_batch_events=10_000,
    max_request_bytes=4 * 1024 * 1024,
    max_message_bytes=32_768,
    max_attributes=32,
    max_record_bytes=900_000,
)


def microseconds(step: Callable[[], object], rounds: int = 7, repeats: int = 60) -> float:
    """Return the microseconds per event of the fastest round."""
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(repeats):
            step()
        best = min(best, time.perf_counter() - began)
    return best / repeats / SIZE * 1e6


def checking() -> dict[str, float]:
    """Return the microseconds per event of each step, in one thread."""
    wire, checker = ProtobufWire(), EventChecker(LIMITS)
    request = batches(SIZE)[0]
    events = wire.read_events(request)
    return {
        "count the events, of large requests only": microseconds(lambda: wire.count_events(request)),
        "read": microseconds(lambda: wire.read_events(request)),
        "check": microseconds(lambda: checker.check_sizes(checker.check(events, NOW), events)),
        "write, with lz4": microseconds(lambda: wire.write_record(events)),
        "write, with zstd": microseconds(lambda: ProtobufWire(EventColumns.ZSTD).write_record(events)),
    }


def masking() -> dict[str, float]:
    """Return the CPU microseconds per event of reading, checking and writing, in turns, and what masking adds."""
    wire, checker = ProtobufWire(), EventChecker(LIMITS)
    masked = Redactor(list(SECRET_PRESETS), (), max_message_bytes=LIMITS.max_message_bytes).redact
    request = batches(SIZE)[0]
    batch = IngestBatchRequest.FromString(request)
    for event in batch.events[::100]:
        event.message += " user=anna.smith@example.com"
    with_secrets = batch.SerializeToString()

    def write(redact: Redact, request: bytes) -> None:
        events = redact(wire.read_events(request)).events
        checker.check_sizes(checker.check(events, NOW), events)
        wire.write_record(events)

    variants = {
        "read, check and write": partial(write, redact_nothing, request),
        "the same, all presets masked, none found": partial(write, masked, request),
        "the same, found in 1 % of the events": partial(write, masked, with_secrets),
    }
    costs = dict.fromkeys(variants, float("inf"))
    for _ in range(_MASKING_ROUNDS):
        for name, step in variants.items():
            began = time.process_time()
            for _ in range(_MASKING_REPEATS):
                step()
            costs[name] = min(costs[name], (time.process_time() - began) / _MASKING_REPEATS / SIZE * 1e6)
    return costs


@contextmanager
def running(brokers: str, ports: Ports) -> Iterator[psutil.Process]:
    """Run an ingest process behind an Envoy."""
    prefix = fresh_name() + "."
    create_topics(brokers, prefix)
    ingest = {
        "INGEST_BROKERS": brokers,
        "INGEST_TOPIC_PREFIX": prefix,
        "INGEST_LISTEN": f"127.0.0.1:{ports.ingest}",
        "INGEST_ADMIN_LISTEN": f"127.0.0.1:{ports.ingest_admin}",
    }
    try:
        with (
            # For this user alone, as `make up` makes one.
            tempfile.TemporaryDirectory() as folder,
            child("services.ingest", ingest | {"INGEST_GATEWAY_SOCKET": f"{folder}/s"}) as process,
            child("stack.envoy", gateway_settings(ports) | {"GATEWAY_INGEST_SOCKET": f"{folder}/s"}),
        ):
            wait_until_healthy(f"http://127.0.0.1:{ports.edge}/health")
            yield process
    finally:
        delete_topics(brokers, prefix)


def wait_until_healthy(url: str, seconds: float = 30.0) -> None:
    """Return when Envoy reports ingest as serving."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=1):  # noqa: S310  (our own address)
                return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("ingest does not answer through Envoy")


@contextmanager
def cpu_of(process: psutil.Process) -> Iterator[list[float]]:
    """Measure the CPU seconds of a process within the block; they are in the list after the block."""
    before, taken = process.cpu_times(), list[float]()
    yield taken
    after = process.cpu_times()
    taken.append(after.user + after.system - before.user - before.system)


def show(title: str, rows: dict[str, str]) -> None:
    """Print one table."""
    table = Table(title=title, show_header=False, title_justify="left")
    for name, value in rows.items():
        table.add_row(name, value)
    Console().print(table)


def batch_rows(
    process: psutil.Process, target: str, seconds: float, in_flight: int, *, is_columns: bool = False
) -> dict[str, str]:
    """Measure batches over gRPC, as fast as they are accepted."""
    run = partial(
        load,
        target,
        size=COLUMNS_SIZE if is_columns else SIZE,
        in_flight=in_flight,
        rate=None,
        is_columns=is_columns,
    )
    asyncio.run(run(seconds=1))
    with cpu_of(process) as cpu:
        sent = asyncio.run(run(seconds=seconds))
    latencies = sorted(sent.latencies)
    return {
        "events/s, client and Kafka on the same machine": f"{sent.events / sent.seconds:,.0f}",
        "CPU µs per event of ingest": f"{cpu[0] / sent.events * 1e6:.2f}",
        "events/s on one core": f"{sent.events / cpu[0]:,.0f}",
        "p50 ms": f"{latencies[len(latencies) // 2]:.1f}",
        "p99 ms": f"{latencies[int(len(latencies) * 0.99)]:.1f}",
        "calls that failed": str(sum(sent.refused_calls.values())),
    }


def single_rows(process: psutil.Process, port: int, seconds: float, rate: float | None) -> dict[str, str]:
    """Measure single events over REST."""
    uvloop.run(rest.run("127.0.0.1", port, seconds=1, connections=32, rate=rate))
    with cpu_of(process) as cpu:
        figures = uvloop.run(rest.run("127.0.0.1", port, seconds=seconds, connections=32, rate=rate))
    calls = float(str(figures["per_second"])) * seconds
    return {
        "calls/s": f"{figures['per_second']:,.0f}",
        "CPU µs per call of ingest": f"{cpu[0] / calls * 1e6:.0f}",
        "p50 ms": f"{figures['p50_ms']:.1f}",
        "p99 ms": f"{figures['p99_ms']:.1f}",
        "calls that failed": str(figures["failures"] or 0),
    }


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--brokers")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--in-flight", type=int, default=8)
    parser.add_argument("--steps-only", action="store_true", help="measure no rpcs, and start nothing")
    given = parser.parse_args()
    show("checking alone, µs per event", {name: f"{cost:.3f}" for name, cost in checking().items()})
    show("masking secrets, CPU µs per event", {name: f"{cost:.2f}" for name, cost in masking().items()})
    if given.steps_only:
        return
    with tempfile.TemporaryDirectory(prefix="tocsin-bench-", ignore_cleanup_errors=True) as scratch:
        if given.brokers:
            measure_rpcs(given.brokers, given.seconds, given.in_flight)
            return
        servers = Servers(Path(scratch), print)
        try:
            measure_rpcs(servers.address("kafka"), given.seconds, given.in_flight)
        finally:
            servers.stop()


def measure_rpcs(brokers: str, seconds: float, in_flight: int) -> None:
    """Measure a running ingest."""
    ports = Ports.free()
    with running(brokers, ports) as process:
        rows = batch_rows(process, f"127.0.0.1:{ports.edge}", seconds, in_flight)
        show(f"IngestBatch, {SIZE} events per call, {in_flight} calls in flight", rows)
        rows = batch_rows(process, f"127.0.0.1:{ports.edge}", seconds, in_flight, is_columns=True)
        show(f"IngestColumns, {COLUMNS_SIZE} events per call, zstd, {in_flight} calls in flight", rows)
        for rate in (2000.0, None):
            rows = single_rows(process, ports.edge, seconds, rate)
            show(f"POST /api/logs, 32 connections, {'as fast as possible' if rate is None else 'at 2,000/s'}", rows)


if __name__ == "__main__":
    main()
