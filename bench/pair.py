"""`make bench-pair BASE=commit`: measure this tree and another commit in turn, and print ratios.

The speed of a machine drifts within hours, so two figures compare only when they were taken side by side. Both systems
run at once, each from its own checkout with its own packages; one is under load while the other idles, and the order
changes with each round. This tree's drivers load both, so that the load is the same.
"""

import argparse
import dataclasses
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import measures
from bench.peers.rules import create_rules
from bench.reference import Reference
from bench.transitions import transition_speed
from stack.ports import Ports
from stack.wiring import ROOT

console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)

_HOME = ROOT / ".run-bench-pair"
# Java still compiles after a quarter of a minute: a third of its CPU under load.
_WARM_UP = 60.0
_TRANSITIONS = 4000
# In which ways a system is loaded, in this order.
WAYS = ("throughput", "singles", "delays", "transitions")


@dataclass(slots=True, kw_only=True)
class Side:
    """One of the two systems, and its figures by measure: one of each round."""

    name: str
    tree: Path
    # Whether it takes columns; the other's batches stand beside them.
    has_columns: bool = False
    ports: Ports = field(default_factory=Ports.free)
    figures: dict[str, list[float]] = field(default_factory=dict)

    def start(self) -> None:
        """Start the system from its own tree, on free ports, with the ten rules."""
        self._stack("up")
        create_rules(self.ports)

    def stop(self) -> None:
        """Stop it and remove its data."""
        self._stack("down", "--purge")

    def measure(self, seconds: float, probes: int, only: Collection[str] = ()) -> None:
        """Load it in these ways, in all where none is named, and add one figure to each measure."""
        ways: tuple[Callable[[], None], ...] = (
            partial(self._measure_throughput, seconds),
            partial(self._measure_singles, seconds),
            partial(self._measure_delays, probes),
            self._measure_transitions,
        )
        for name, way in zip(WAYS, ways, strict=True):
            if not only or name in only:
                way()

    def _measure_throughput(self, seconds: float) -> None:
        full = measures.throughput(self.ports, seconds)
        self._add("events/s end to end", full.per_second)
        self._add("CPU µs per event, all", full.total_cpu_micros)
        for name in sorted(full.cpu_micros):
            self._add(f"CPU µs per event, {name}", full.cpu_micros[name])
        if self.has_columns:
            full = measures.throughput(self.ports, seconds, is_columns=True)
        self._add("columns beside batches, events/s end to end", full.per_second)
        self._add("columns beside batches, CPU µs per event, all", full.total_cpu_micros)

    def _measure_singles(self, seconds: float) -> None:
        single = measures.singles(self.ports, seconds)
        self._add("REST single events/s", single.per_second)
        self._add("REST single event, p99 ms", single.p99)

    def _measure_delays(self, probes: int) -> None:
        delays_s = measures.delays(self.ports, probes)
        for title, delays in (("alert on Kafka", delays_s.to_alert), ("delivery", delays_s.to_delivery)):
            for share in (0.5, 0.99):
                value = measures.quantile(delays, share)
                if value is not None:
                    self._add(f"deciding event to {title}, p{share * 100:.0f} ms", value)

    def _measure_transitions(self) -> None:
        transitions = transition_speed(self.ports, _TRANSITIONS)
        self._add("transitions/s to notifications", transitions.per_second)
        self._add("CPU µs per transition, manager", transitions.manager_micros)
        self._add("CPU µs per transition, PostgreSQL", transitions.postgres_micros)
        measures.await_deliveries(self.ports)

    def _add(self, measure: str, value: float) -> None:
        self.figures.setdefault(measure, []).append(value)

    def _stack(self, *arguments: str) -> None:
        moved = {f"TOCSIN_PORT_{name.upper()}": str(port) for name, port in dataclasses.asdict(self.ports).items()}
        environ = {**os.environ, **moved, "TOCSIN_RUN": str(_HOME / f"run-{self.name}")}
        command = [str(self.tree / ".venv" / "bin" / "python"), "-m", "stack", *arguments]
        subprocess.run(command, cwd=self.tree, env=environ, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Set up the other commit, run both, print the ratios, stop both."""
    parser = argparse.ArgumentParser(prog="python -m bench.pair", description=__doc__)
    parser.add_argument("base", help="the commit to measure beside this tree")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="how long each load lasts")
    parser.add_argument("--warm-up", type=float, default=_WARM_UP, help="seconds of load of each before; %(default).0f")
    parser.add_argument("--only", choices=WAYS, nargs="+", default=(), help="what to measure; default: everything")
    parser.add_argument("--probes", type=int, default=40, help="alerts whose delay is measured, each round")
    given = parser.parse_args()
    reference = Reference()
    base = Side(name="base", tree=_checked_out(given.base))
    here = Side(name="here", tree=ROOT, has_columns=True)
    reference.run("before")
    with _running(base, here, warm_up=given.warm_up):
        for number in range(1, given.rounds + 1):
            for side in (base, here) if number % 2 else (here, base):
                _say(f"round {number} of {given.rounds}: {side.name}")
                side.measure(given.seconds, given.probes, given.only)
            reference.run(f"after round {number}")
    _print(given.base, base, here)
    reference.print(console)


def _checked_out(commit: str) -> Path:
    """Check the commit out into a folder of its own, with its own packages; both stay for the next time."""
    name = subprocess.run(
        ["git", "rev-parse", "--short=12", f"{commit}^{{commit}}"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()
    tree = _HOME / name
    if not (tree / ".venv" / "ready").exists():
        _say(f"setting up {name}: a minute or two the first time")
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir(parents=True)
        archive = subprocess.run(["git", "archive", name], cwd=ROOT, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x"], cwd=tree, input=archive, check=True)
        subprocess.run(["make", "--silent", "setup"], cwd=tree, check=True, stdout=subprocess.DEVNULL)
    return tree


@contextmanager
def _running(*sides: Side, warm_up: float) -> Iterator[None]:
    with ExitStack() as started:
        for side in sides:
            _say(f"starting {side.name}")
            side.stop()
            started.callback(side.stop)
            side.start()
        for side in sides:
            _say(f"warming up {side.name} for {warm_up:.0f} s: Java compiles its code while it runs")
            measures.warm_up(side.ports, warm_up)
        yield


def _print(commit: str, base: Side, here: Side) -> None:
    table = Table("Measure", commit, "this tree", "ratio", "min", "max", title_justify="left")
    table.title = "Medians of all rounds; a ratio is this tree's figure divided by the other's of the same round"
    for measure, values in here.figures.items():
        others = base.figures.get(measure, [])
        ratios = [value / other for value, other in zip(values, others, strict=False) if other]
        if not ratios:
            continue
        figures = [f"{statistics.median(each):,.2f}" for each in (others, values, ratios)]
        table.add_row(measure, *figures, f"{min(ratios):.2f}", f"{max(ratios):.2f}")
    console.print(table)


def _say(text: str) -> None:
    console.print(f"· {text}", style="dim", markup=False)


if __name__ == "__main__":
    main()
