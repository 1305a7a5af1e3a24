"""CPU and memory of each program of a running system, found by the ports on which it listens."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import psutil

from stack.ports import Ports


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessCost:
    """CPU seconds used so far and memory in bytes now, with child processes."""

    cpu_seconds: float
    resident_bytes: int


def process_costs(ports: Ports) -> dict[str, ProcessCost]:
    """Return the costs of every program of the system that listens on these ports, by name.

    By ports, since another version of the system may write other pid files.
    """
    named = {
        ports.kafka: "kafka",
        ports.postgres: "postgres",
        ports.redis: "redis",
        ports.edge: "envoy",
        ports.ingest: "ingest",
        ports.evaluator: "evaluator",
        ports.manager: "manager",
        ports.notifier: "notifier",
        ports.sinks: "sinks",
    }
    pids = {
        named[one.laddr.port]: one.pid
        for one in psutil.net_connections("tcp")
        if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port in named and one.pid is not None
    }
    return {name: _cost(pid) for name, pid in pids.items()}


def cpu_micros_per_event(
    before: Mapping[str, ProcessCost], after: Mapping[str, ProcessCost], events: int
) -> dict[str, float]:
    """Return how many microseconds of CPU each program spent per event between two readings."""
    return {
        name: (after[name].cpu_seconds - before[name].cpu_seconds) * 1e6 / events for name in after if name in before
    }


def _cost(pid: int) -> ProcessCost:
    cpu, resident = 0.0, 0
    for process in _family(pid):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            cpu += times.user + times.system
            # Shared pages (PostgreSQL's buffers) count once, as far as the kernel reports them.
            resident += process.memory_full_info().pss
    return ProcessCost(cpu_seconds=cpu, resident_bytes=resident)


def _family(pid: int) -> Iterator[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(pid)
        yield parent
        yield from parent.children(recursive=True)
