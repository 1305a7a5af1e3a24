"""`make bench-peers`: Tocsin and others on the same broker, with the same events and ten rules, in one run.

The others read JSON that is in Kafka already, one at a time and with nothing else running. Tocsin does all that it does
for users: it accepts the events over gRPC, checks them, stores them in Kafka and evaluates them. The ratios are in
favour of the others by so much.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice

import psutil
from confluent_kafka import Producer
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]  # re-exported without saying so
from google.protobuf.json_format import MessageToDict
from rich.console import Console
from rich.table import Table

from bench import measures
from bench.lines import openstack_events
from bench.measures import BATCH_EVENTS, COLUMNS_EVENTS
from bench.peers.rules import create_rules
from bench.peers.systems import Peer, environment, prepare
from bench.reference import Reference
from stack.local_system import start_stack, stop_stack
from stack.ports import Ports
from stack.topics import admin_client
from stack.wiring import ROOT
from tocsin.logs.v1.log_event_pb2 import LogEvent

console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)

_HOME = ROOT / ".run-bench-peers"
_PARTITIONS = 4
_WARM_UP = 15.0
_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one system reached."""

    name: str
    events: int
    seconds: float
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        """Events per second."""
        return self.events / self.seconds

    @property
    def cpu_micros(self) -> float:
        """Microseconds of CPU per event."""
        return self.cpu_seconds / self.events * 1e6


def main() -> None:
    """Start a system, measure it, then each other on its broker; print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="events for the fastest of the others")
    parser.add_argument("--seconds", type=float, default=20, help="how long the load on Tocsin lasts")
    given = parser.parse_args()
    _HOME.mkdir(exist_ok=True)
    peers = prepare(_HOME, given.events, _say)
    reference, ports = Reference(), Ports.free()
    with _system(ports):
        reference.run("before")
        figures = [_tocsin(ports, given.seconds, is_columns=is_columns) for is_columns in (False, True)]
        reference.run("after Tocsin")
        brokers = f"127.0.0.1:{ports.kafka}"
        for number, peer in enumerate(peers):
            figures.append(_measure(peer, number, brokers))
            reference.run(f"after {peer.name}")
    _print(figures)
    reference.print(console)


@contextmanager
def _system(ports: Ports) -> Iterator[None]:
    folder = _HOME / "run"
    stop_stack(_say, folder=folder, purge=True)
    try:
        start_stack(_say, folder=folder, ports=ports)
        create_rules(ports)
        yield
    finally:
        stop_stack(_say, folder=folder, purge=True)


def _tocsin(ports: Ports, seconds: float, *, is_columns: bool) -> Figures:
    form = f"columns of {COLUMNS_EVENTS:,}" if is_columns else f"batches of {BATCH_EVENTS}"
    _say(f"Tocsin: warming up for {_WARM_UP:.0f} s, then {form} for {seconds:.0f} s")
    measures.warm_up(ports, _WARM_UP)
    full = measures.throughput(ports, seconds, is_columns=is_columns)
    # Kafka's share is left out, as it is for the others.
    cpu = sum(micros for name, micros in full.cpu_micros.items() if name != "kafka")
    return Figures(
        name=f"Tocsin, {form}",
        events=full.evaluated,
        seconds=full.seconds + full.seconds_after,
        cpu_seconds=cpu * full.evaluated / 1e6,
    )


def _measure(peer: Peer, number: int, brokers: str) -> Figures:
    topic, alerts, folder = f"peer-events-{number}", f"peer-alerts-{number}", _HOME / f"state-{number}"
    _say(f"{peer.name}: {peer.events:,} events into Kafka, then the program")
    _create_topics(brokers, topic, alerts)
    _fill(brokers, topic, peer.events)
    command = [*peer.command, brokers, topic, alerts, str(peer.events), str(folder), *peer.options]
    with (_HOME / f"{number}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment(_HOME))
        try:
            return _observe(peer, process)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _observe(peer: Peer, process: "subprocess.Popen[bytes]") -> Figures:
    """Measure from the first events that it reports, so that starting counts for nobody."""
    deadline = time.monotonic() + _TIMEOUT_S
    began, cpu_began, seen_before = time.monotonic(), 0.0, 0
    for line in process.stdout or ():
        word, _, number = line.decode().strip().partition(" ")
        if word == "first":
            began, cpu_began, seen_before = time.monotonic(), _cpu_seconds(process.pid), int(number)
        if word == "done":
            taken = time.monotonic() - began
            cpu = _cpu_seconds(process.pid) - cpu_began
            return Figures(name=peer.name, events=peer.events - seen_before, seconds=taken, cpu_seconds=cpu)
        if time.monotonic() > deadline:
            break
    raise SystemExit(f"{peer.name} ended before it had seen all events: see the logs in {_HOME.name}")


def _cpu_seconds(pid: int) -> float:
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(sum(process.cpu_times()[:2]) for process in family)


def _create_topics(brokers: str, *names: str) -> None:
    topics = [NewTopic(name, num_partitions=_PARTITIONS, replication_factor=1) for name in names]
    client = admin_client(brokers)
    for created in client.create_topics(topics).values():
        created.result()


def _fill(brokers: str, topic: str, events: int) -> None:
    """Write events as JSON, each with its service as key, so that nobody has to partition them again."""
    options = {"compression.type": "lz4", "linger.ms": 50, "queue.buffering.max.messages": 2_000_000}
    producer = Producer({"bootstrap.servers": brokers, **options})
    values = [_as_json(index, event) for index, event in enumerate(openstack_events())]
    for key, value in islice(cycle(values), events):
        producer.produce(topic, value, key)
        producer.poll(0)
    producer.flush()


def _as_json(index: int, event: LogEvent) -> tuple[bytes, bytes]:
    fields = MessageToDict(event)
    # One service would be one key, and so one partition.
    fields["service"] = f"{fields['service']}-{index % 20}"
    fields["time"] = time.time()
    return fields["service"].encode(), json.dumps(fields).encode()


def _print(figures: list[Figures]) -> None:
    ours = figures[0]
    columns = ("System", "events", "events/s", "CPU µs an event", "batches are faster by", "and use less CPU by")
    table = Table(*columns, title_justify="left")
    table.title = (
        "Ten rules, two cores, without the CPU of the broker and of those that send; ratios are to the first row"
    )
    for one in figures:
        table.add_row(
            one.name,
            f"{one.events:,}",
            f"{one.per_second:,.0f}",
            f"{one.cpu_micros:.1f}",
            f"{ours.per_second / one.per_second:.2f}",
            f"{one.cpu_micros / ours.cpu_micros:.2f}",
        )
    console.print(table)


def _say(text: str) -> None:
    console.print(f"· {text}", style="dim", markup=False)


if __name__ == "__main__":
    main()
