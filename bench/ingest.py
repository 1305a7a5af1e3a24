"""What ingest costs: each step of the judging alone, and the whole rpc against a real Kafka.

`python -m bench.ingest [--brokers HOST:PORT]` prints two tables; without brokers it starts a Kafka of its own.
Figures are for batches of 500 OpenStack lines. "On one core" is what the CPU time of the ingest process allows.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from bench.lines import batches
from bench.load import Sent, load
from services.ingest.adapters.wire import ProtobufWire
from services.ingest.core.columns import sizes_of
from services.ingest.core.framing import cut, framed
from services.ingest.core.limits import Limits
from services.ingest.core.verdict import Judge
from stack.ports import Ports
from stack.shared import Servers, fresh_name
from stack.topics import create_topics, delete_topics

SIZE = 500
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = Limits(
    max_batch_events=10_000,
    max_request_bytes=4 * 1024 * 1024,
    max_message_bytes=32_768,
    max_attributes=32,
    max_record_bytes=900_000,
)


def microseconds(step: Callable[[], object], rounds: int = 7, repeats: int = 60) -> float:
    """Microseconds an event of the fastest round."""
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(repeats):
            step()
        best = min(best, time.perf_counter() - began)
    return best / repeats / SIZE * 1e6


def judging() -> dict[str, float]:
    """What each step costs, one thread."""
    wire, judge = ProtobufWire(), Judge(LIMITS)
    request = batches(SIZE)[0]
    frames, events = wire.frames(request), wire.events(request)
    sizes = framed(sizes_of(frames))
    return {
        "cut into events": microseconds(lambda: wire.frames(request)),
        "read the columns (two readers)": microseconds(lambda: wire.events(request)),
        "judge": microseconds(lambda: judge.judge(events, sizes, NOW)),
        "write anew, where a part is refused": microseconds(lambda: wire.batches(frames, cut(sizes, 900_000))),
    }


@contextmanager
def running(brokers: str, prefix: str) -> Iterator[tuple[psutil.Process, str]]:
    """An ingest process on free ports: the process, and its address."""
    ports = Ports.free()
    listen, admin = f"127.0.0.1:{ports.ingest}", f"127.0.0.1:{ports.ingest_admin}"
    settings = {
        "INGEST_BROKERS": brokers,
        "INGEST_TOPIC_PREFIX": prefix,
        "INGEST_LISTEN": listen,
        "INGEST_ADMIN_LISTEN": admin,
    }
    with subprocess.Popen(
        [sys.executable, "-m", "services.ingest"], env=os.environ | settings, stdout=subprocess.DEVNULL
    ) as child:
        try:
            _wait_until_serving(admin)
            yield psutil.Process(child.pid), listen
        finally:
            child.terminate()


def _wait_until_serving(admin: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://{admin}/health", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("ingest does not answer")


def rpc(brokers: str, seconds: float, in_flight: int) -> tuple[Sent, float]:
    """Load for some seconds; gives what was sent, and the process's CPU seconds."""
    prefix = fresh_name() + "."
    create_topics(brokers, prefix)
    try:
        with running(brokers, prefix) as (process, listen):
            asyncio.run(load(listen, seconds=1, size=SIZE, in_flight=in_flight, rate=None))
            before = process.cpu_times()
            sent = asyncio.run(load(listen, seconds=seconds, size=SIZE, in_flight=in_flight, rate=None))
            after = process.cpu_times()
        return sent, after.user + after.system - before.user - before.system
    finally:
        delete_topics(brokers, prefix)


def show(title: str, rows: dict[str, str]) -> None:
    """Print one table."""
    table = Table(title=title, show_header=False, title_justify="left")
    for name, value in rows.items():
        table.add_row(name, value)
    Console().print(table)


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--brokers")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--in-flight", type=int, default=8)
    given = parser.parse_args()
    steps = judging()
    show("judging alone, µs/event", {name: f"{cost:.3f}" for name, cost in steps.items()})
    with tempfile.TemporaryDirectory(prefix="tocsin-bench-", ignore_cleanup_errors=True) as scratch:
        servers = None if given.brokers else Servers(Path(scratch), print)
        try:
            brokers = given.brokers or servers.address("kafka")
            sent, cpu = rpc(brokers, given.seconds, given.in_flight)
        finally:
            if servers is not None:
                servers.stop()
    latencies = sorted(sent.latencies)
    rows = {
        "events/s, client and Kafka on the same machine": f"{sent.events / sent.seconds:,.0f}",
        "CPU µs/event of ingest": f"{cpu / sent.events * 1e6:.2f}",
        "events/s on one core": f"{sent.events / cpu:,.0f}",
        "p50 ms": f"{latencies[len(latencies) // 2]:.1f}",
        "p99 ms": f"{latencies[int(len(latencies) * 0.99)]:.1f}",
        "calls that failed": str(sum(sent.refused_calls.values())),
    }
    show(f"IngestBatch, {SIZE} events a call, {given.in_flight} calls under way", rows)


if __name__ == "__main__":
    main()
