"""`python -m bench.instances`: two ingests and two evaluators beside one of each, on one machine.

The topics have four partitions, so two evaluators have two each. On a machine of two cores two instances gain nothing;
what is measured is what it costs to divide the work. The loads go to the ingests directly, past Envoy. One instance of
each and two of each take turns; medians.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import psutil
from rich.console import Console
from rich.table import Table

from bench import measures
from bench.costs import process_costs
from bench.reference import Reference
from stack.local_system import default_folder, start_stack, stop_stack
from stack.ports import Ports
from stack.readiness import http_get

console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)

_SERVICES = ("ingest", "evaluator")
_READY_S = 60.0
# While partitions move.
_SETTLING_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Events evaluated per second, and microseconds of CPU per event of all ingests and of all evaluators."""

    per_second: float
    ingest: float
    evaluator: float
    lost: int


@contextmanager
def second_instances(ports: Ports) -> Iterator[Ports]:
    """Run another ingest and another evaluator until the end of the block; yield where they listen."""
    free = Ports.free()
    with ExitStack() as started:
        for name in _SERVICES:
            process = _listening(getattr(ports, name))
            prefix = name.upper()
            changed = {
                f"{prefix}_LISTEN": f"127.0.0.1:{getattr(free, name)}",
                f"{prefix}_ADMIN_LISTEN": f"127.0.0.1:{getattr(free, f'{name}_admin')}",
                f"{prefix}_INSTANCE": f"{name}-2",
            }
            if name == "evaluator":
                changed["EVALUATOR_CACHE_DIR"] = f"{process.environ()['EVALUATOR_CACHE_DIR']}-2"
            quiet = subprocess.DEVNULL
            child = psutil.Popen(
                process.cmdline(), env=process.environ() | changed, cwd=process.cwd(), stdout=quiet, stderr=quiet
            )
            started.callback(child.wait)
            started.callback(child.terminate)
        _await(lambda: all(_is_ready(getattr(free, f"{name}_admin")) for name in _SERVICES))
        time.sleep(_SETTLING_S)
        yield free
    time.sleep(_SETTLING_S)


def run(instances: Sequence[Ports], seconds: float) -> Run:
    """Load all ingests at once, and wait until all events are evaluated by any of the evaluators."""
    before, counted = _cpu(instances), _evaluated(instances)
    began = time.monotonic()
    loads = [_load(ports.ingest, seconds, 8 // len(instances)) for ports in instances]
    sent = sum(int(json.loads(load.communicate()[0])["events"]) for load in loads)
    _await(lambda: _evaluated(instances) - counted >= sent)
    took, after = time.monotonic() - began, _cpu(instances)
    evaluated = _evaluated(instances) - counted
    micros = {name: (after[name] - before[name]) * 1e6 / max(evaluated, 1) for name in _SERVICES}
    return Run(
        per_second=evaluated / took, ingest=micros["ingest"], evaluator=micros["evaluator"], lost=sent - evaluated
    )


def _load(port: int, seconds: float, in_flight: int) -> "subprocess.Popen[bytes]":
    options = {"seconds": seconds, "size": measures.BATCH_EVENTS, "in-flight": in_flight}
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "bench.load", "--target", f"127.0.0.1:{port}", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def _cpu(instances: Sequence[Ports]) -> dict[str, float]:
    costs = [process_costs(ports) for ports in instances]
    return {name: sum(each[name].cpu_seconds for each in costs) for name in _SERVICES}


def _evaluated(instances: Sequence[Ports]) -> int:
    return sum(measures.evaluated(ports) for ports in instances)


def _listening(port: int) -> psutil.Process:
    (pid,) = {
        one.pid
        for one in psutil.net_connections("tcp")
        if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port
    }
    return psutil.Process(pid)


def _is_ready(port: int) -> bool:
    try:
        http_get(port, "/health")
    except OSError:
        return False
    return True


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _READY_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)


def main() -> None:
    """Start the system, load one and two instances of each in turn, print the table, stop it."""
    parser = argparse.ArgumentParser(prog="python -m bench.instances", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="how long each load lasts")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    home = default_folder()
    folder, ports, reference = home.with_name(f"{home.name}-bench-instances"), Ports.free(), Reference()
    reference.run("before")
    runs: dict[int, list[Run]] = {1: [], 2: []}
    stop_stack(_say, folder=folder, purge=True)
    try:
        start_stack(_say, folder=folder, ports=ports)
        measures.warm_up(ports, 10.0)
        for _ in range(given.rounds):
            runs[1].append(run([ports], given.seconds))
            with second_instances(ports) as more:
                runs[2].append(run([ports, more], given.seconds))
    finally:
        stop_stack(_say, folder=folder, purge=True)
    reference.run("at the end")
    table = Table("ingests, evaluators", "events/s", "CPU µs: ingest", "evaluator", "lost", "ratio")
    one = statistics.median(each.per_second for each in runs[1])
    for number, each in runs.items():
        rate = statistics.median(run.per_second for run in each)
        figures = [statistics.median(getattr(run, name) for run in each) for name in _SERVICES]
        lost = sum(run.lost for run in each)
        table.add_row(
            f"{number} and {number}",
            f"{rate:,.0f}",
            *(f"{figure:.2f}" for figure in figures),
            f"{lost:,}",
            f"{rate / one:.2f}",
        )
    console.print(table)
    reference.print(console)


def _say(text: str) -> None:
    console.print(f"· {text}", style="dim", markup=False)


if __name__ == "__main__":
    main()
