"""`python -m bench.secure`: what authentication and TLS cost, as CPU of the whole pipe, beside a system without them.

Two systems of this tree run at once, one of them as `make up SECURE=1` starts it: TLS to its callers, client
certificates between everything of ours and to Kafka, and a key in each call. One is under load while the other idles;
the order changes with each round. What is compared is CPU per event, of all processes but those that send.

Both get as many events a second: a share of what the slower one takes. Flushes and fetches cost the same however few
events they have, and a sender that encrypts leaves less of the processors to the system, so that as fast as possible
means fewer events here than there.
"""

import argparse
import statistics
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import measures
from bench.reference import Reference
from stack.console import print_step
from stack.local_system import start_stack, stop_stack
from stack.ports import Ports
from stack.secure_files import SecureFiles
from stack.start_options import RequestedOptions
from stack.wiring import ROOT

_FORMS = {"batches of 500": False, "columns of 2,000": True}
_PROGRAMS = ("envoy", "ingest", "kafka", "evaluator")


@dataclass(slots=True, kw_only=True)
class _System:
    is_secure: bool
    ports: Ports = field(default_factory=Ports.free)
    # By form, one entry for each round: the CPU microseconds per event of each program.
    costs: dict[str, list[Mapping[str, float]]] = field(default_factory=lambda: {form: [] for form in _FORMS})

    @property
    def secure(self) -> SecureFiles | None:
        return SecureFiles(home=self.folder) if self.is_secure else None

    @property
    def name(self) -> str:
        return "secure" if self.is_secure else "plain"

    @property
    def folder(self) -> Path:
        return ROOT / f".run-bench-{self.name}"

    @contextmanager
    def running(self) -> Iterator[None]:
        stop_stack(print_step, folder=self.folder, purge=True)
        try:
            options = RequestedOptions(secure=self.is_secure)
            start_stack(lambda _: None, folder=self.folder, ports=self.ports, requested=options, external={})
            yield
        finally:
            stop_stack(print_step, folder=self.folder, purge=True)

    def warm_up(self, form: str, seconds: float) -> float:
        """Return how many events per second it takes."""
        return self._throughput(form, seconds).per_second

    def measure(self, form: str, seconds: float, rate: float) -> None:
        self.costs[form].append(self._throughput(form, seconds, rate).cpu_micros)

    def _throughput(self, form: str, seconds: float, rate: float | None = None) -> measures.Throughput:
        found = measures.throughput(self.ports, seconds, is_columns=_FORMS[form], rate=rate, secure=self.secure)
        if found.refused_calls:
            raise RuntimeError(f"{self.name}: calls were refused: {dict(found.refused_calls)}")
        return found


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m bench.secure", description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=6, help="how long each load lasts")
    parser.add_argument(
        "--warm-up",
        type=float,
        default=30,
        help="how long each load lasts before it is measured: Java compiles the code of TLS while it runs",
    )
    parser.add_argument("--share", type=float, default=0.8, help="of the events a second that the slower one takes")
    given = parser.parse_args()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    plain, secure, reference = _System(is_secure=False), _System(is_secure=True), Reference()
    reference.run("before")
    with ExitStack() as started:
        for system in (plain, secure):
            started.enter_context(system.running())
        taken = {form: [system.warm_up(form, given.warm_up) for system in (plain, secure)] for form in _FORMS}
        rates = {form: given.share * min(each) for form, each in taken.items()}
        for number in range(given.rounds):
            for system in (plain, secure) if number % 2 else (secure, plain):
                for form in _FORMS:
                    system.measure(form, given.seconds, rates[form])
            reference.run(f"after round {number + 1}")
    for form in _FORMS:
        console.print(_table(f"{form}, {rates[form]:,.0f} events/s", plain.costs[form], secure.costs[form]))
    reference.print(console)


def _table(form: str, plain: list[Mapping[str, float]], secure: list[Mapping[str, float]]) -> Table:
    """Return the medians, with the ratio of each round's figures."""
    table = Table("CPU µs an event", "plain", "secure", "ratio", "min", "max", title=form, title_justify="left")
    for name in ("all", *_PROGRAMS):
        before, after = ([_cost(name, costs) for costs in side] for side in (plain, secure))
        ratios = [each / other for each, other in zip(after, before, strict=True)]
        medians = [f"{statistics.median(each):.2f}" for each in (before, after, ratios)]
        table.add_row(name, *medians, f"{min(ratios):.2f}", f"{max(ratios):.2f}")
    return table


def _cost(name: str, costs: Mapping[str, float]) -> float:
    return sum(costs.values()) if name == "all" else costs[name]


if __name__ == "__main__":
    main()
