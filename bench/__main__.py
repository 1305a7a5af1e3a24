"""`make bench`: the real system under load, and a table of what it did.

Everything runs on this machine, the load beside the system: Kafka, PostgreSQL, Redis, Envoy, the four services.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc
from rich.console import Console
from rich.table import Table

from bench.lines import OPENSTACK
from bench.probes import create_rule, delivered, probe
from bench.processes import Cost, costs, cpu_micros_per_event
from bench.scrape import counter
from stack.ports import Ports
from stack.up import default_folder, down, up
from stack.wiring import Wiring

# In a file and in CI tables have room.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)

SIZE = 500
RATE = 50_000
PROBES = 100
PROBE_PAUSE = 0.15
WARM_UP = 15.0


def main() -> None:
    """Start the system, load it in three ways, print what it did, stop it."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30, help="how long the full load lasts")
    parser.add_argument("--rest-seconds", type=float, default=15, help="how long the REST load lasts")
    given = parser.parse_args()
    home = default_folder()
    folder = home.with_name(f"{home.name}-bench")
    down(_say, folder=folder, purge=True)
    try:
        wiring = up(_say, folder=folder, ports=Ports.free())
        throughput, per_process = _throughput(wiring, folder, given.seconds)
        _print([*throughput, *_singles(wiring, given.rest_seconds), *_latency(wiring)], per_process)
    finally:
        down(_say, folder=folder)


Row = tuple[str, str, str]


def _throughput(wiring: Wiring, folder: Path, seconds: float) -> tuple[list[Row], Table]:
    _say(f"warming up for {WARM_UP:.0f} s: a Java program that has just started compiles itself")
    port = wiring.ports.evaluator_admin
    warm = _start("bench.load", wiring, "--seconds", str(WARM_UP), "--size", str(SIZE))
    warmed = json.loads(warm.communicate()[0])["events"]
    _await(lambda: _judged(port) >= warmed)
    _say(f"full load: batches of {SIZE} events for {seconds:.0f} s")
    before, judged, started = costs(folder), _judged(port), time.monotonic()
    load = _start("bench.load", wiring, "--seconds", str(seconds), "--size", str(SIZE))
    sent = json.loads(load.communicate()[0])
    middle, at_end = time.monotonic() - started, _judged(port) - judged
    _await(lambda: _judged(port) - judged >= sent["events"])
    took, after = time.monotonic() - started, costs(folder)
    lines = "OpenStack_2k.log" if OPENSTACK.is_file() else "made OpenStack lines"
    rows = [
        (f"events/s end to end, {middle:.0f} s, batches of {SIZE} ({lines})", f"{at_end / middle:,.0f}", "150,000"),
        ("events accepted, events judged", f"{sent['events']:,}, {_judged(port) - judged:,.0f}", "equal"),
        ("judged when the load ended, and until all were", f"{at_end:,.0f}, {took - middle:.1f} s more", ""),
        ("a batch's answer, p50 and p99", f"{sent['p50_ms']:.0f} ms, {sent['p99_ms']:.0f} ms", ""),
    ]
    if sent["refused_calls"]:
        rows.append(("calls refused", json.dumps(sent["refused_calls"]), ""))
    return rows, _per_process(before, after, sent["events"])


def _singles(wiring: Wiring, seconds: float) -> list[Row]:
    _say(f"single events over REST for {seconds:.0f} s")
    rows = []
    for title, more in (("as fast as they go", ()), ("at 2,000/s", ("--rate", "2000"))):
        run = _start("bench.rest", wiring, "--seconds", str(seconds), *more)
        figures = json.loads(run.communicate()[0])
        failures = f", failures {figures['failures']}" if figures["failures"] else ""
        rows += [
            (f"REST single events/s, {title}", f"{figures['per_second']:,.0f}{failures}", "2,000"),
            (f"  p50 and p99, {title}", f"{figures['p50_ms']:.1f} ms, {figures['p99_ms']:.1f} ms", "p99 < 50 ms"),
        ]
    return rows


def _latency(wiring: Wiring) -> list[Row]:
    seconds = PROBES * PROBE_PAUSE + 10
    _say(f"{PROBES} alerts while {RATE:,} events/s pass")
    with grpc.insecure_channel(f"127.0.0.1:{wiring.ports.edge}") as channel:
        create_rule(channel)
        load = _start("bench.load", wiring, "--seconds", str(seconds), "--rate", str(RATE))
        time.sleep(5)
        seen = probe(channel, count=PROBES, pause=PROBE_PAUSE, brokers=wiring.addresses.kafka)
        told = delivered(wiring.ports.sinks, count=PROBES)
        sent = json.loads(load.communicate()[0])
    return [
        (
            f"deciding event to alert on Kafka, at {sent['events'] / sent['seconds']:,.0f}/s",
            _quantiles(seen),
            "p99 < 1 s",
        ),
        (f"deciding event to delivery, at {sent['events'] / sent['seconds']:,.0f}/s", _quantiles(told), "p99 < 3 s"),
    ]


def _quantiles(seconds: dict[str, float]) -> str:
    ordered = sorted(seconds.values())
    if not ordered:
        return "none came"
    p50, p99 = (ordered[int(len(ordered) * q)] * 1000 for q in (0.5, 0.99))
    return f"p50 {p50:,.0f} ms, p99 {p99:,.0f} ms ({len(ordered)} of {PROBES})"


def _judged(port: int) -> float:
    return counter(port, "events_evaluated_total")


def _await(holds: Callable[[], bool], patience: float = 60.0) -> None:
    deadline = time.monotonic() + patience
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.1)


def _start(module: str, wiring: Wiring, *arguments: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", module, "--target", f"127.0.0.1:{wiring.ports.edge}", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def _per_process(before: dict[str, Cost], after: dict[str, Cost], events: int) -> Table:
    table = Table(
        "Process", "CPU µs per event", "Resident MB", title="Each process, under the full load", title_justify="left"
    )
    spent = cpu_micros_per_event(before, after, events)
    for name, micros in sorted(spent.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{micros:.2f}", f"{after[name].resident_bytes / 1e6:,.0f}")
    table.add_row(
        "all", f"{sum(spent.values()):.2f}", f"{sum(one.resident_bytes for one in after.values()) / 1e6:,.0f}"
    )
    return table


def _print(rows: Sequence[Row], per_process: Table) -> None:
    table = Table("What", "Measured", "To reach", title="Tocsin under load", title_justify="left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print(per_process)


def _say(text: str) -> None:
    console.print(f"· {text}", style="dim", markup=False)


if __name__ == "__main__":
    main()
