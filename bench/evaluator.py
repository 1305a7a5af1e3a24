"""The cost of the evaluator's work, on records in memory: `python -m bench.evaluator [--former] [--profile]`.

Match: decode a fetch of records as ingest writes them, of 500 or 2,000 events as columns, match three default rules,
flush, encode. Window: decode the flushed partial aggregates, merge them and evaluate the windows.
"""

import argparse
import cProfile
import pstats
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from services.chassis.kafka import Record
from services.contract.event_columns import encode_log_batch
from services.domain.severity import Severity
from services.domain.tenants import TenantLimits
from services.evaluator.adapters.log_events import LogDecoder
from services.evaluator.adapters.window_partials_wire import decode_batch, encode_batch
from services.evaluator.core.match.aggregation import match_events
from services.evaluator.core.match.blocks import SourcePartition, flush_sources
from services.evaluator.core.partial_rows import PartialBatch
from services.evaluator.core.rules import RuleSet
from services.evaluator.core.window.checkpoint import Checkpoint
from services.evaluator.core.window.group_limit import GroupLimit
from services.evaluator.core.window.stage import WindowStage
from services.rule_language.rule import Draft, Rule, RuleType, complete
from tocsin.logs.v1.log_event_pb2 import LogBatch, LogEvent

_T = TypeVar("_T")

SIZES = (500, 2000)
PARTITIONS = OUTPUTS = 4
START_MS = 1_700_000_000_000
# A hundred milliseconds at 150,000 events per second.
ROUND_EVENTS = 15_000
SAMPLE_RECORDS = 64
STEPS = ("decode", "match", "flush", "encode", "window: decode", "window: evaluate")


@dataclass
class Costs:
    """Seconds by step."""

    seconds: dict[str, float] = field(default_factory=dict)

    def of(self, step: str, act: Callable[[], _T]) -> _T:
        """Run a step, and add the time that it took."""
        began = time.process_time()
        result = act()
        self.seconds[step] = self.seconds.get(step, 0.0) + time.process_time() - began
        return result


class Bench:
    """Both stages on records in memory."""

    def __init__(
        self,
        services: int,
        size: int,
        further: Sequence[Rule] = (),
        *,
        encode: Callable[[LogBatch], bytes],
        tenant_groups: str = "0",
    ) -> None:
        chance = random.Random(7)  # noqa: S311  (the same events each time)
        self.values = [encode(_batch(chance, number, services, size)) for number in range(SAMPLE_RECORDS)]
        self.rules = RuleSet.of(1, [*default_rules(), *further])
        self.rows = self.expanded_rows = 0
        self.decoder = LogDecoder()
        self.sources = {each: SourcePartition.at(each, 0) for each in range(PARTITIONS)}
        start = Checkpoint(offset=0, position=0, watermark_ns=None)
        of_tenants = TenantLimits.parse(tenant_groups)
        limits = [GroupLimit(partition=each, partitions=OUTPUTS, of_tenants=of_tenants) for each in range(OUTPUTS)]
        self.stages = [WindowStage.restored(start, (), 10**10, limit=limit) for limit in limits]
        for stage in self.stages:
            stage.update_rules(self.rules, 0)
        self.offsets = [0] * PARTITIONS
        self.written = [0] * OUTPUTS
        self.costs = Costs()

    def round(self, records: int) -> None:
        """Run one fetch, one flush and one fetch of the window stage."""
        fetched = self._fetch(records)
        events, _ = self.costs.of("decode", lambda: self.decoder.decode(fetched))
        self.costs.of("match", lambda: match_events(events, self.rules, self.sources))
        flushed = self.costs.of("flush", self._flush)
        self.rows += sum(len(batch.rows) for _, batch in flushed)
        self.expanded_rows += sum(batch.expanded_rows for _, batch in flushed)
        values = self.costs.of("encode", lambda: [(output, encode_batch(batch)) for output, batch in flushed])
        batches = self.costs.of("window: decode", lambda: self._decode(values))
        self.costs.of("window: evaluate", lambda: self._observe(batches))

    def _fetch(self, records: int) -> list[Record]:
        fetched = []
        for number in range(records):
            partition = number * PARTITIONS // records
            offset, self.offsets[partition] = self.offsets[partition], self.offsets[partition] + 1
            value = self.values[number % len(self.values)]
            fetched.append(Record("log-events", partition, offset, None, value, (), START_MS))
        return fetched

    def _flush(self) -> list[tuple[int, PartialBatch]]:
        return flush_sources(
            self.sources.values(), outputs=OUTPUTS, source_partitions=PARTITIONS, idle_ns={}, rules_revision=1
        )

    def _decode(self, written: list[tuple[int, bytes]]) -> list[tuple[int, PartialBatch]]:
        batches = [decode_batch(value) for _, value in written]
        return [(output, batch) for (output, _), batch in zip(written, batches, strict=True)]

    def _observe(self, batches: list[tuple[int, PartialBatch]]) -> None:
        for output, stage in enumerate(self.stages):
            of_output = [batch for number, batch in batches if number == output]
            stage.observe(list(enumerate(of_output, start=self.written[output])), 0)
            self.written[output] += len(of_output)


def default_rules() -> list[Rule]:
    """Return the three default rules."""
    kinds = [(RuleType.ERROR_THRESHOLD, 100.0), (RuleType.LATENCY_THRESHOLD, 50.0), (RuleType.ERROR_RATE, 25.0)]
    return [
        complete(
            Draft(
                id=kind.name,
                name=kind.name,
                type=kind,
                threshold=threshold,
                window_minutes=5,
                severity=Severity.HIGH,
                revision=1,
                selection_revision=1,
            )
        )
        for kind, threshold in kinds
    ]


def silent_rules(count: int, condition: str) -> list[Rule]:
    """Return rules that select nothing."""
    return [_custom(f"silent {number}", f'host == "no-host-{number}"', condition, 100.0) for number in range(count)]


def selecting_rules(count: int) -> list[Rule]:
    """Return rules that select a tenth of the events or more, and do not fire."""
    filters = [f"level == ERROR || status_code >= {number % 3 + 1}00" for number in range(count)]
    return [_custom(f"selecting {number}", each, "count > threshold", 1e12) for number, each in enumerate(filters)]


def alike_rules(count: int) -> list[Rule]:
    """Return rules that select every event, and do not fire."""
    return [
        _custom(f"alike {number}", f'host != "no-host-{number}"', "count > threshold", 1e12) for number in range(count)
    ]


def _custom(name: str, filter_text: str, condition: str, threshold: float) -> Rule:
    return complete(
        Draft(
            id=name.replace(" ", "-"),
            name=name,
            type=RuleType.CUSTOM,
            filter=filter_text,
            condition=condition,
            threshold=threshold,
            window_minutes=5,
            severity=Severity.HIGH,
            revision=1,
            selection_revision=1,
        )
    )


def as_columns(batch: LogBatch) -> bytes:
    """Return the value of a record as ingest writes it."""
    record = Record("log-events", 0, 0, None, batch.SerializeToString(), (), START_MS)
    return encode_log_batch(LogDecoder().decode([record])[0].columns.batch)


def as_before(batch: LogBatch) -> bytes:
    """Return the value of a record in the former form, which is still read."""
    return batch.SerializeToString()


def _batch(chance: random.Random, number: int, services: int, size: int) -> LogBatch:
    batch = LogBatch()
    for index in range(size):
        event = batch.events.add(
            service=f"service-{chance.randrange(services)}",
            level=chance.choice((LogEvent.INFO,) * 8 + (LogEvent.WARN, LogEvent.ERROR)),
            message=f"nova.compute.manager [instance: {index}] Terminating instance after {number} seconds",
            host=f"host-{chance.randrange(5)}",
        )
        event.event_time.FromMilliseconds(START_MS + number * 10)
        if chance.random() < 0.5:  # noqa: PLR2004  (half of them)
            event.status_code = chance.choice((200, 200, 404, 500))
            event.response_time = chance.random() * 2200
    return batch


def main() -> None:
    """Run both stages and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.evaluator", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--former", action="store_true", help="read records in the former form, protobuf's")
    parser.add_argument("--groups", type=int, nargs="*", default=[3, 20, 200, 5000], help="how many services log")
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    encode = as_before if given.former else as_columns
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    table = Table(title=f"CPU µs per event, {ROUND_EVENTS:,} events per round, three rules")
    for column in ("events a record", "services", *STEPS, "all", "events/s of match", "ms per round"):
        table.add_column(column, justify="right")
    for size in SIZES:
        records = round(ROUND_EVENTS / size)
        for services in given.groups:
            bench = Bench(services, size, encode=encode)
            bench.round(records)
            bench.costs = Costs()
            with _profiled() if given.profile else nullcontext():
                for _ in range(given.rounds):
                    bench.round(records)
            figures = _row(bench.costs, given.rounds, records * size)
            table.add_row(f"{size:,}", f"{services:,}", *figures)
    console.print(table)
    console.print(_beside_silent_rules(given.rounds, encode))
    console.print(_of_many_rules(given.rounds, encode))
    console.print(_beyond_limit(given.rounds, encode))


@contextmanager
def _profiled() -> Iterator[None]:
    with cProfile.Profile() as profile:
        yield
    pstats.Stats(profile).sort_stats("tottime").print_stats(40)


def _beside_silent_rules(rounds: int, encode: Callable[[LogBatch], bytes]) -> Table:
    """Measure 2,000 events per second of 200 services beside rules that select nothing."""
    title = "Rules that select nothing, beside 2,000 events/s of 200 services: a round is 100 ms"
    table = Table("rules", "condition", "rows per flush", "CPU ms per round", title=title)
    for count, condition in ((0, ""), (30, "count > threshold"), (300, "count > threshold"), (300, "rate > 0.5")):
        bench = Bench(200, 50, silent_rules(count, condition), encode=encode)
        bench.round(4)
        bench.costs, bench.rows = Costs(), 0
        for _ in range(rounds):
            bench.round(4)
        ms = sum(bench.costs.seconds.values()) / rounds * 1e3
        table.add_row(str(count), condition, f"{bench.rows / rounds:,.0f}", f"{ms:.1f}")
    return table


def _of_many_rules(rounds: int, encode: Callable[[LogBatch], bytes]) -> Table:
    """Measure 2,000 events per second of 200 services of which each of 300 rules selects a tenth or more, or all."""
    title = "300 rules that select some of 200 services, or all, 2,000 events/s: a round is 100 ms"
    table = Table("select", "rows per flush", "rows of rules", "CPU ms per round", *STEPS, title=title)
    for name, rules in (("some", selecting_rules(300)), ("all", alike_rules(300))):
        bench = Bench(200, 50, rules, encode=encode)
        bench.round(4)
        bench.costs, bench.rows, bench.expanded_rows = Costs(), 0, 0
        for _ in range(rounds):
            bench.round(4)
        of_steps = [bench.costs.seconds[step] / rounds * 1e3 for step in STEPS]
        rows = [f"{each / rounds:,.0f}" for each in (bench.rows, bench.expanded_rows)]
        table.add_row(name, *rows, *[f"{each:.1f}" for each in (sum(of_steps), *of_steps)])
    return table


def _beyond_limit(rounds: int, encode: Callable[[LogBatch], bytes]) -> Table:
    """Measure 300 rules whose tenant may have fewer groups than they have, beside the same without a limit."""
    title = "300 rules that select some of 2,000 services, 2,000 events/s: a round is 100 ms"
    table = Table("groups of the tenant", "rows per flush", "CPU ms per round", "of it the window stage", title=title)
    for tenant_groups in ("0", "4000"):
        bench = Bench(2000, 50, selecting_rules(300), encode=encode, tenant_groups=tenant_groups)
        for _ in range(10):
            bench.round(4)
        bench.costs, bench.rows = Costs(), 0
        for _ in range(rounds):
            bench.round(4)
        ms = [
            each / rounds * 1e3 for each in (sum(bench.costs.seconds.values()), bench.costs.seconds["window: evaluate"])
        ]
        table.add_row(
            "any" if tenant_groups == "0" else tenant_groups,
            f"{bench.rows / rounds:,.0f}",
            *[f"{each:.1f}" for each in ms],
        )
    return table


def _row(costs: Costs, rounds: int, events_a_round: int) -> list[str]:
    events = rounds * events_a_round
    micros = [costs.seconds[step] / events * 1e6 for step in STEPS]
    matching = sum(micros[:2])
    in_all = sum(micros)
    figures = [f"{each:.3f}" for each in (*micros, in_all)]
    return [*figures, f"{1e6 / matching:,.0f}", f"{in_all * events_a_round / 1e3:.1f}"]


if __name__ == "__main__":
    main()
