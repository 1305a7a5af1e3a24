"""What is measured of a running system, wherever it runs: throughput, single events over REST, delay of alerts.

The load runs in processes of its own, from this tree, whatever version of the system it is put on.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import grpc

from bench.probes import create_rule, create_silent_rules, delete_rules, delivered, probe
from bench.processes import Cost, costs, cpu_micros_per_event
from bench.scrape import counter
from stack.ports import Ports

BATCH_EVENTS = 500
RATE = 50_000
PROBE_PAUSE = 0.15
SILENT_RULES = 300
# Seconds of load before alerts are probed: until then queues fill.
_SETTLING = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """Batches as fast as they are taken. Times in milliseconds, spans in seconds."""

    sent: int
    judged: int
    judged_at_end: int
    seconds: float
    seconds_after: float
    p50: float
    p99: float
    refused_calls: Mapping[str, int]
    cpu_micros: Mapping[str, float]
    costs: Mapping[str, Cost]

    @property
    def per_second(self) -> float:
        """Events judged a second while the load lasted."""
        return self.judged_at_end / self.seconds

    @property
    def cpu_micros_in_all(self) -> float:
        """Microseconds of CPU that the whole system spent on an event."""
        return sum(self.cpu_micros.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Singles:
    """Single events over REST; times in milliseconds."""

    per_second: float
    p50: float
    p99: float
    failures: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """Seconds from the deciding event to the alert on Kafka and to its delivery, by probe, beside a steady load."""

    to_alert: Mapping[str, float]
    to_delivery: Mapping[str, float]
    rate: float


def warm_up(ports: Ports, seconds: float) -> None:
    """Put load on the system until Java has compiled itself, and wait until all of it is judged."""
    before = _judged(ports)
    load = _start("bench.load", ports, "--seconds", str(seconds), "--size", str(BATCH_EVENTS))
    sent = json.loads(load.communicate()[0])["events"]
    _await(lambda: _judged(ports) - before >= sent)


def throughput(ports: Ports, seconds: float) -> Throughput:
    """Send batches as fast as they are taken, then wait until all are judged."""
    before, judged, started = costs(ports), _judged(ports), time.monotonic()
    load = _start("bench.load", ports, "--seconds", str(seconds), "--size", str(BATCH_EVENTS))
    sent = json.loads(load.communicate()[0])
    middle, at_end = time.monotonic() - started, _judged(ports) - judged
    _await(lambda: _judged(ports) - judged >= sent["events"])
    took, after = time.monotonic() - started, costs(ports)
    return Throughput(
        sent=sent["events"],
        judged=_judged(ports) - judged,
        judged_at_end=at_end,
        seconds=middle,
        seconds_after=took - middle,
        p50=sent["p50_ms"],
        p99=sent["p99_ms"],
        refused_calls=sent["refused_calls"],
        cpu_micros=cpu_micros_per_event(before, after, sent["events"]),
        costs=after,
    )


def singles(ports: Ports, seconds: float, rate: float | None = None) -> Singles:
    """Send single events over REST, as fast as they are answered or at a rate a second."""
    run = _start("bench.rest", ports, "--seconds", str(seconds), *(("--rate", str(rate)) if rate else ()))
    figures = json.loads(run.communicate()[0])
    return Singles(
        per_second=figures["per_second"],
        p50=figures["p50_ms"],
        p99=figures["p99_ms"],
        failures=figures["failures"],
    )


def delays(ports: Ports, probes: int, rate: float = RATE, *, size: int = BATCH_EVENTS, services: int = 0) -> Delays:
    """Make so many alerts fire, one after the other, while `rate` events a second pass, of so many services."""
    with grpc.insecure_channel(f"127.0.0.1:{ports.edge}") as channel:
        rule = create_rule(channel)
        how = {"seconds": probes * PROBE_PAUSE + 2 * _SETTLING, "rate": rate, "size": size, "services": services}
        load = _start("bench.load", ports, *(text for name, value in how.items() for text in (f"--{name}", str(value))))
        time.sleep(_SETTLING)
        seen = probe(channel, rule, count=probes, pause=PROBE_PAUSE, brokers=f"127.0.0.1:{ports.kafka}")
        told = delivered(ports.sinks, rule, count=probes)
        sent = json.loads(load.communicate()[0])
    return Delays(to_alert=seen, to_delivery=told, rate=sent["events"] / sent["seconds"])


def delays_beside_silent_rules(ports: Ports, probes: int) -> Delays:
    """The same beside 300 rules that select nothing, at 2,000 events a second of 200 services."""
    with grpc.insecure_channel(f"127.0.0.1:{ports.edge}") as channel:
        silent = create_silent_rules(channel, SILENT_RULES)
        try:
            return delays(ports, probes, 2000, size=50, services=200)
        finally:
            delete_rules(channel, silent)


def quantile(seconds: Mapping[str, float], share: float) -> float | None:
    """Return the milliseconds below which this share of the values lies; None where there is no value."""
    ordered = sorted(seconds.values())
    return ordered[int(len(ordered) * share)] * 1000 if ordered else None


def _judged(ports: Ports) -> int:
    return int(counter(ports.evaluator_admin, "events_evaluated_total"))


def _await(holds: Callable[[], bool], patience: float = 60.0) -> None:
    deadline = time.monotonic() + patience
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.1)


def _start(module: str, ports: Ports, *arguments: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", module, "--target", f"127.0.0.1:{ports.edge}", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE)
