"""`make bench`: the real system under load, and a table of what it did.

Everything runs on this machine, the load too: Kafka, PostgreSQL, Redis, Envoy, the four services. Ten rules are
evaluated, besides the three that every new system has.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from bench import measures
from bench.bare import bare_handler
from bench.lines import OPENSTACK
from bench.measures import BATCH_EVENTS, COLUMNS_EVENTS, OTHER_RULES, Singles, Throughput
from bench.peers.rules import create_rules
from bench.reference import Reference
from stack.local_system import default_folder, start_stack, stop_stack
from stack.ports import Ports

# In files and in CI, tables are wide.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)

PROBES = 100
WARM_UP = 15.0
STEADY_RATE = 2000.0
# Shares of the rate reached with batches at which the delay of alerts is measured, and the goal for its p99 in ms.
DELAY_TARGETS = {0.2: 150, 0.6: 300}

Row = tuple[str, str, str]


def main() -> None:
    """Start the system, load it in three ways, print the results, stop it."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30, help="how long the full load lasts")
    parser.add_argument("--rest-seconds", type=float, default=15, help="how long the REST load lasts")
    given = parser.parse_args()
    home = default_folder()
    folder = home.with_name(f"{home.name}-bench")
    ports = Ports.free()
    reference = Reference()
    reference.run("before")
    stop_stack(_say, folder=folder, purge=True)
    try:
        start_stack(_say, folder=folder, ports=ports)
        create_rules(ports)
        _say(f"warming up for {WARM_UP:.0f} s: Java compiles its code while it runs")
        measures.warm_up(ports, WARM_UP)
        _say(f"full load: batches of {BATCH_EVENTS} events for {given.seconds:.0f} s")
        full = measures.throughput(ports, given.seconds)
        _say(f"full load: columns of {COLUMNS_EVENTS:,} events for {given.seconds:.0f} s")
        columns = measures.throughput(ports, given.seconds, is_columns=True)
        reference.run("after the full load")
        rows = [*_throughput(full), *_columns(columns), *_json_batches(ports, given.seconds, full)]
        rows += _singles(ports, given.rest_seconds)
        reference.run("after REST")
        rows += _delays(ports, full.per_second)
    finally:
        stop_stack(_say, folder=folder)
    reference.run("at the end")
    _print(rows, _per_process(full))
    reference.print(console)


def _throughput(full: Throughput) -> list[Row]:
    lines = "OpenStack_2k.log" if OPENSTACK.is_file() else "generated OpenStack lines"
    title = f"events/s end to end, {full.seconds:.0f} s, batches of {BATCH_EVENTS} ({lines})"
    rows = [
        (title, f"{full.per_second:,.0f}", "150,000"),
        ("events accepted, events evaluated", f"{full.sent:,}, {full.evaluated:,}", "equal"),
        (
            "evaluated when the load ended, and time until all were",
            f"{full.evaluated_at_end:,}, {full.seconds_after:.1f} s",
            "",
        ),
        ("latency of a batch, p50 and p99", f"{full.p50:.0f} ms, {full.p99:.0f} ms", ""),
    ]
    if full.refused_calls:
        rows.append(("calls refused", json.dumps(full.refused_calls), ""))
    return rows


def _columns(full: Throughput) -> list[Row]:
    return [
        (f"events/s end to end, columns of {COLUMNS_EVENTS:,}, zstd", f"{full.per_second:,.0f}", ""),
        ("their CPU per event, everything", f"{full.total_cpu_micros:.1f} µs", ""),
    ]


def _json_batches(ports: Ports, seconds: float, full: Throughput) -> list[Row]:
    _say(f"full load: JSON batches of {BATCH_EVENTS} events for {seconds:.0f} s")
    rate = measures.json_batches(ports, seconds)
    return [
        (f"events/s end to end, JSON batches of {BATCH_EVENTS}", f"{rate:,.0f}", ""),
        ("  their share of the rate of protobuf batches", f"{rate / full.per_second:.2f}", "0.5"),
    ]


def _singles(ports: Ports, seconds: float) -> list[Row]:
    _say(f"single events over REST for {seconds:.0f} s")
    full, steady = measures.singles(ports, seconds), measures.singles(ports, seconds, STEADY_RATE)
    with bare_handler() as bare_ports:
        _say("single events over REST to a bare grpc.aio handler")
        bare = measures.singles(bare_ports, seconds)
    _say("single events over REST at half of what the bare handler answers")
    half = measures.singles(ports, seconds, bare.per_second / 2)
    return [
        *_single_rows("as fast as they go", full),
        *_single_rows(f"at {STEADY_RATE:,.0f}/s", steady),
        ("REST single events/s, a bare grpc.aio handler behind an Envoy", f"{bare.per_second:,.0f}", ""),
        ("  ingest's share of it", f"{full.per_second / bare.per_second:.2f}", "0.7"),
        *_single_rows("at half of the bare handler's", half),
    ]


def _single_rows(title: str, figures: Singles) -> list[Row]:
    failures = f", failures {dict(figures.failures)}" if figures.failures else ""
    return [
        (f"REST single events/s, {title}", f"{figures.per_second:,.0f}{failures}", "2,000"),
        (f"  p50 and p99, {title}", f"{figures.p50:.1f} ms, {figures.p99:.1f} ms", "p99 < 50 ms"),
    ]


def _delays(ports: Ports, reached: float) -> list[Row]:
    rows: list[Row] = []
    for share, target in DELAY_TARGETS.items():
        rate = share * reached
        _say(f"{PROBES} alerts at {rate:,.0f} events/s")
        figures = measures.delays(ports, PROBES, rate)
        title = f"at {figures.rate:,.0f}/s, {share} of the rate of batches"
        rows += [
            (f"deciding event to alert on Kafka, {title}", _quantiles(figures.to_alert), f"p99 < {target} ms"),
            (f"deciding event to delivery, {title}", _quantiles(figures.to_delivery), ""),
        ]
    return [*rows, *_beside_rules(ports, are_silent=True), *_beside_rules(ports, are_silent=False)]


def _beside_rules(ports: Ports, *, are_silent: bool) -> list[Row]:
    kind = "that select nothing" if are_silent else "that select every event"
    _say(f"{PROBES} alerts beside {OTHER_RULES} rules {kind}")
    figures = measures.delays_beside_rules(ports, PROBES, are_silent=are_silent)
    title = f"the same beside {OTHER_RULES} rules {kind}, 200 services, at {figures.rate:,.0f}/s"
    return [(title, _quantiles(figures.to_alert), "p99 < 200 ms")]


def _quantiles(seconds: Mapping[str, float]) -> str:
    p50, p99 = measures.quantile(seconds, 0.5), measures.quantile(seconds, 0.99)
    return "none" if p50 is None else f"p50 {p50:,.0f} ms, p99 {p99:,.0f} ms ({len(seconds)} of {PROBES})"


def _per_process(full: Throughput) -> Table:
    table = Table(
        "Process", "CPU µs per event", "Resident MB", title="Each process, under the full load", title_justify="left"
    )
    for name, micros in sorted(full.cpu_micros.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{micros:.2f}", f"{full.process_costs[name].resident_bytes / 1e6:,.0f}")
    resident = sum(one.resident_bytes for one in full.process_costs.values())
    table.add_row("all", f"{full.total_cpu_micros:.2f}", f"{resident / 1e6:,.0f}")
    return table


def _print(rows: Sequence[Row], per_process: Table) -> None:
    table = Table("Measure", "Result", "Target", title="Tocsin under load", title_justify="left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print(per_process)


def _say(text: str) -> None:
    console.print(f"· {text}", style="dim", markup=False)


if __name__ == "__main__":
    main()
