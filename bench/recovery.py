"""`python -m bench.recovery`: how long the only evaluator needs after kill -9 until it judges again.

The real system runs on free ports. A rule counts events of many groups, or of a whole day; then the evaluator is
killed and started again at once, a probe is sent, and the time counts from the kill to the probe's alert on Kafka: it
contains the start of the process, joining the consumer groups, and reading back what open windows need. On a busy
machine the CPU that the process has taken by then says more than the time.
"""

import argparse
import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import psutil
from rich.console import Console
from rich.table import Table

from bench import measures, probes
from bench.costs import process_costs
from bench.reference import Reference
from stack.local_system import default_folder, start_stack, stop_stack
from stack.ports import Ports
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import IngestBatchRequest
from tocsin.logs.v1.log_ingest_service_pb2_grpc import LogIngestServiceStub
from tocsin.rules.v1.alert_rule_pb2 import AlertRule
from tocsin.rules.v1.alert_rule_service_pb2 import CreateAlertRuleRequest
from tocsin.rules.v1.alert_rule_service_pb2_grpc import AlertRuleServiceStub

console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)

_EVENTS_PER_GROUP = 4
_BATCH = 2000
_DAY_MINUTES = 24 * 60
_DAY_SERVICES = 200
_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """Of each kill: seconds until the alert of the probe, and seconds of CPU until then; megabytes before and after."""

    seconds: list[float]
    cpu_seconds: list[float]
    before: float
    after: float


def recovery(ports: Ports, kills: int) -> Recovery:
    """Kill the evaluator so many times."""
    before = _megabytes(ports)
    with grpc.insecure_channel(f"127.0.0.1:{ports.edge}") as channel:
        prefix = probes.create_rule(channel)
        # An alert says that the rule is known.
        probes.probe(channel, prefix, count=1, pause=0.0, brokers=f"127.0.0.1:{ports.kafka}")
        figures = [_kill(channel, ports, prefix, number) for number in range(1, kills + 1)]
    return Recovery(
        seconds=[seconds for seconds, _ in figures],
        cpu_seconds=[cpu_seconds for _, cpu_seconds in figures],
        before=before,
        after=_megabytes(ports),
    )


def _kill(channel: grpc.Channel, ports: Ports, prefix: str, number: int) -> tuple[float, float]:
    consumer, delays = probes.alerts_from_now(f"127.0.0.1:{ports.kafka}"), dict[str, float]()
    evaluator = _evaluator(ports)
    command, environ, folder = evaluator.cmdline(), evaluator.environ(), evaluator.cwd()
    killed = time.time()
    evaluator.kill()
    evaluator.wait()
    again = psutil.Popen(command, env=environ, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    sent = time.time()
    probes.send_probe(channel, prefix, number)
    while str(number) not in delays:
        if time.time() > killed + _TIMEOUT_S:
            raise TimeoutError(f"no alert within {_TIMEOUT_S:.0f} s of the kill")
        probes.poll_alert(consumer, prefix, delays, 0.01)
    times = again.cpu_times()
    consumer.close()
    return sent - killed + delays[str(number)], times.user + times.system


def _evaluator(ports: Ports) -> psutil.Process:
    (pid,) = {
        one.pid
        for one in psutil.net_connections("tcp")
        if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == ports.evaluator
    }
    return psutil.Process(pid)


def _megabytes(ports: Ports) -> float:
    return process_costs(ports)["evaluator"].resident_bytes / 1e6


def fill_groups(ports: Ports, groups: int) -> None:
    """Let a rule of an hour count a few events of each of so many groups."""
    name = f"bench-groups-{time.monotonic_ns()}"
    before = measures.evaluated(ports)
    with grpc.insecure_channel(f"127.0.0.1:{ports.edge}") as channel:
        _create(channel, name, f'service.startsWith("{name}")', minutes=60)
        ingest = LogIngestServiceStub(channel)
        for batch in _batches(name, groups):
            ingest.IngestBatch(IngestBatchRequest(events=batch), timeout=30)
    measures.await_evaluated(ports, before + groups * _EVENTS_PER_GROUP)


def _batches(name: str, groups: int) -> Iterator[list[LogEvent]]:
    for _ in range(_EVENTS_PER_GROUP):
        for first in range(0, groups, _BATCH):
            numbers = range(first, min(first + _BATCH, groups))
            yield [LogEvent(service=f"{name}-{each}", level=LogEvent.INFO, message="seen") for each in numbers]


def fill_day(ports: Ports, events: int) -> int:
    """Let a rule of a day count at least so many events of 200 services; return how many."""
    with grpc.insecure_channel(f"127.0.0.1:{ports.edge}") as channel:
        _create(channel, f"bench-day-{time.monotonic_ns()}", "level >= DEBUG", minutes=_DAY_MINUTES)
    sent = 0
    while sent < events:
        sent += measures.throughput(ports, 5.0, is_columns=True, services=_DAY_SERVICES).sent
    return sent


def _create(channel: grpc.Channel, name: str, selects: str, *, minutes: int) -> None:
    rule = AlertRule(
        name=name,
        type=AlertRule.CUSTOM,
        filter=selects,
        condition="count > threshold",
        threshold=1e9,
        window_minutes=minutes,
        severity=AlertRule.LOW,
    )
    AlertRuleServiceStub(channel).CreateAlertRule(CreateAlertRuleRequest(alert_rule=rule), timeout=10)


def main() -> None:
    """Start the system, fill it, kill its evaluator, print the table, stop it."""
    parser = argparse.ArgumentParser(prog="python -m bench.recovery", description=__doc__)
    parser.add_argument("--groups", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=5_000_000, help="events of the window of a day")
    parser.add_argument("--kills", type=int, default=3)
    given = parser.parse_args()
    home = default_folder()
    folder, ports, reference = home.with_name(f"{home.name}-bench-recovery"), Ports.free(), Reference()
    reference.run("before")
    table = Table("what windows hold", "s until it judges, median", "min", "max", "s of CPU", "MB before", "MB after")
    stop_stack(_say, folder=folder, purge=True)
    try:
        start_stack(_say, folder=folder, ports=ports)
        measures.warm_up(ports, 5.0)
        _add(table, "nearly nothing", recovery(ports, given.kills))
        if given.groups:
            _say(f"{given.groups:,} groups, {_EVENTS_PER_GROUP} events each")
            fill_groups(ports, given.groups)
            _add(table, f"{given.groups:,} groups", recovery(ports, given.kills))
        if given.events:
            _say(f"a window of a day with {given.events:,} events")
            title = f"a day of {fill_day(ports, given.events):,} events"
            _add(table, title + (", the groups too" if given.groups else ""), recovery(ports, given.kills))
    finally:
        # Only the first one is known to the stack.
        with contextlib.suppress(ValueError, psutil.Error):
            _evaluator(ports).terminate()
        stop_stack(_say, folder=folder, purge=True)
    reference.run("at the end")
    console.print(table)
    reference.print(console)


def _add(table: Table, title: str, figures: Recovery) -> None:
    seconds = [statistics.median(figures.seconds), min(figures.seconds), max(figures.seconds)]
    seconds.append(statistics.median(figures.cpu_seconds))
    table.add_row(title, *(f"{each:.1f}" for each in seconds), f"{figures.before:,.0f}", f"{figures.after:,.0f}")
    _say(f"{title}: {', '.join(f'{each:.1f} s' for each in figures.seconds)}")


def _say(text: str) -> None:
    console.print(f"· {text}", style="dim", markup=False)


if __name__ == "__main__":
    main()
