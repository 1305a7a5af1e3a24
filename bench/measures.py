"""The measurements of a running system: throughput, single events over REST, delay of alerts.

The load runs in processes of its own, from this tree, also when the system is another version.
"""

import json
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import grpc

from bench.costs import ProcessCost, cpu_micros_per_event, process_costs
from bench.probes import create_rule, create_selecting_rules, create_silent_rules, delete_rules, delivered, probe
from stack.ports import Ports
from stack.readiness import http_get
from stack.secure_files import SecureFiles

BATCH_EVENTS = 500
COLUMNS_EVENTS = 2000
RATE = 50_000
PROBE_PAUSE = 0.15
OTHER_RULES = 300
# Seconds of load before alerts are probed, while queues fill.
_SETTLING = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """Batches as fast as ingest accepts them. Latencies in milliseconds, spans in seconds."""

    sent: int
    evaluated: int
    evaluated_at_end: int
    seconds: float
    seconds_after: float
    p50: float
    p99: float
    refused_calls: Mapping[str, int]
    cpu_micros: Mapping[str, float]
    process_costs: Mapping[str, ProcessCost]

    @property
    def per_second(self) -> float:
        """Events evaluated per second while the load lasted."""
        return self.evaluated_at_end / self.seconds

    @property
    def total_cpu_micros(self) -> float:
        """Microseconds of CPU per event, of all processes."""
        return sum(self.cpu_micros.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Singles:
    """Requests over REST; latencies in milliseconds."""

    per_second: float
    p50: float
    p99: float
    failures: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """Seconds from the event that decides an alert to the alert on Kafka and to its delivery, by probe, under load."""

    to_alert: Mapping[str, float]
    to_delivery: Mapping[str, float]
    rate: float


def warm_up(ports: Ports, seconds: float) -> None:
    """Put load on the system until Java has compiled its code, and wait until all events are evaluated."""
    before = evaluated(ports)
    load = _start("bench.load", ports, "--seconds", str(seconds), "--size", str(BATCH_EVENTS))
    sent = json.loads(load.communicate()[0])["events"]
    _await(lambda: evaluated(ports) - before >= sent)


def throughput(
    ports: Ports,
    seconds: float,
    *,
    is_columns: bool = False,
    services: int = 0,
    rate: float | None = None,
    secure: SecureFiles | None = None,
) -> Throughput:
    """Send batches, or columns, as fast as they are accepted or at `rate` events/s; wait until all are evaluated."""
    context = None if secure is None else secure.client_context()
    before, counted, started = process_costs(ports), evaluated(ports, context), time.monotonic()
    form = ("--size", str(COLUMNS_EVENTS), "--columns") if is_columns else ("--size", str(BATCH_EVENTS))
    keys = () if secure is None else ("--ca-file", str(secure.ca), "--key-file", str(secure.admin_key))
    pace = () if rate is None else ("--rate", str(rate))
    load = _start("bench.load", ports, "--seconds", str(seconds), "--services", str(services), *form, *pace, *keys)
    sent = json.loads(load.communicate()[0])
    middle, at_end = time.monotonic() - started, evaluated(ports, context) - counted
    _await(lambda: evaluated(ports, context) - counted >= sent["events"])
    took, after = time.monotonic() - started, process_costs(ports)
    return Throughput(
        sent=sent["events"],
        evaluated=evaluated(ports, context) - counted,
        evaluated_at_end=at_end,
        seconds=middle,
        seconds_after=took - middle,
        p50=sent["p50_ms"],
        p99=sent["p99_ms"],
        refused_calls=sent["refused_calls"],
        cpu_micros=cpu_micros_per_event(before, after, sent["events"]),
        process_costs=after,
    )


def json_batches(ports: Ports, seconds: float) -> float:
    """Send JSON batches over REST, as fast as responses come; return the events per second that were evaluated."""
    counted, started = evaluated(ports), time.monotonic()
    form = ("--size", str(BATCH_EVENTS), "--connections", "8")
    _start("bench.rest", ports, "--seconds", str(seconds), *form).communicate()
    return (evaluated(ports) - counted) / (time.monotonic() - started)


def singles(ports: Ports, seconds: float, rate: float | None = None) -> Singles:
    """Send single events over REST, as fast as responses come, or at `rate` per second."""
    run = _start("bench.rest", ports, "--seconds", str(seconds), *(("--rate", str(rate)) if rate else ()))
    figures = json.loads(run.communicate()[0])
    return Singles(
        per_second=figures["per_second"],
        p50=figures["p50_ms"],
        p99=figures["p99_ms"],
        failures=figures["failures"],
    )


def delays(ports: Ports, probes: int, rate: float = RATE, *, size: int = BATCH_EVENTS, services: int = 0) -> Delays:
    """Let so many alerts fire one after the other, beside a load of `rate` events per second of so many services."""
    with grpc.insecure_channel(f"127.0.0.1:{ports.edge}") as channel:
        rule = create_rule(channel)
        options = {"seconds": probes * PROBE_PAUSE + 2 * _SETTLING, "rate": rate, "size": size, "services": services}
        load = _start(
            "bench.load", ports, *(text for name, value in options.items() for text in (f"--{name}", str(value)))
        )
        time.sleep(_SETTLING)
        found = probe(channel, rule, count=probes, pause=PROBE_PAUSE, brokers=f"127.0.0.1:{ports.kafka}")
        delivered_after = delivered(ports.sinks, rule, count=probes)
        sent = json.loads(load.communicate()[0])
    return Delays(to_alert=found.to_alert, to_delivery=delivered_after, rate=sent["events"] / sent["seconds"])


def delays_beside_rules(ports: Ports, probes: int, *, are_silent: bool) -> Delays:
    """Measure delays at 2,000 events/s of 200 services beside 300 rules: they select nothing, or all and never fire."""
    create = create_silent_rules if are_silent else create_selecting_rules
    with grpc.insecure_channel(f"127.0.0.1:{ports.edge}") as channel:
        rules = create(channel, OTHER_RULES)
        try:
            return delays(ports, probes, 2000, size=50, services=200)
        finally:
            delete_rules(channel, rules)


def await_evaluated(ports: Ports, events: int) -> None:
    """Wait until the evaluator has evaluated so many events since it started."""
    _await(lambda: evaluated(ports) >= events)


def await_deliveries(ports: Ports) -> None:
    """Wait until the notifier has delivered all that it has got."""
    _await(lambda: not read_counter(ports.notifier_admin, "tocsin_notifier_queue_depth"))


def quantile(seconds: Mapping[str, float], share: float) -> float | None:
    """Return the milliseconds below which this share of the values lies; None where there is no value."""
    ordered = sorted(seconds.values())
    return ordered[int(len(ordered) * share)] * 1000 if ordered else None


def evaluated(ports: Ports, context: ssl.SSLContext | None = None) -> int:
    """Return how many events the evaluator has evaluated since it started."""
    return int(read_counter(ports.evaluator_admin, "events_evaluated_total", context))


def _await(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)


def read_counter(port: int, name: str, context: ssl.SSLContext | None = None) -> float:
    """Return a counter's sum over its labels, from a service's metrics; 0.0 while it does not exist."""
    lines = _metrics(port, context).decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def _metrics(port: int, context: ssl.SSLContext | None) -> bytes:
    """Return a service's metrics; one that gets an eighth of a core while it starts takes seconds for an answer."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return http_get(port, "/metrics", context)
        except TimeoutError:
            if time.monotonic() > deadline:
                raise


def _start(module: str, ports: Ports, *arguments: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", module, "--target", f"127.0.0.1:{ports.edge}", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE)
