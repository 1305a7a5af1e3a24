"""The cost of the window stage, on partial aggregates in memory: `python -m bench.window [--profile]`.

Steady: rows of open blocks are merged and judged, flush after flush. Memory and replay: 100,000 groups, each in one
source partition and selected by ten rules; the records are decoded and merged again as after a restart, and freed when
the rules are deleted. Snapshots: what writing one costs, and a restart with it and without; also for a window of a day
with 5,000,000 events, 25 a flush, of which a tenth is read.
"""

import argparse
import cProfile
import pstats
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from resource import getpagesize

import numpy as np
from rich.console import Console
from rich.table import Table

from services.domain.severity import Severity
from services.evaluator.adapters.window_partials_wire import decode_batch, encode_batch
from services.evaluator.adapters.window_snapshots_wire import (
    decode_snapshot,
    encode_snapshot,
    joined_parts,
    part_values,
)
from services.evaluator.core.partial_rows import ABSENT_NS, PartialBatch, PartialRows
from services.evaluator.core.records import BLOCK_RECORDS, SECOND_NS, BlockProgress, Sample
from services.evaluator.core.rules import RuleSet
from services.evaluator.core.samples import SampleTable
from services.evaluator.core.window.checkpoint import Checkpoint
from services.evaluator.core.window.snapshot import StageSnapshot
from services.evaluator.core.window.stage import WindowStage
from services.rule_language.rule import Draft, Rule, RuleType, complete

CONDITIONS = ("count > threshold", "avg > threshold", "rate > 0.9 && count > threshold")
SOURCES = 4
# About as many rows as fit in one record.
RECORD_ROWS = 5000
START_NS = 1_700_000_000 // 300 * 300 * SECOND_NS


def make_rules(count: int) -> list[Rule]:
    """Return rules with these conditions in turn, none of which holds."""
    return [
        complete(
            Draft(
                id=f"rule-{number}",
                name=f"rule {number}",
                type=RuleType.CUSTOM,
                filter="level >= ERROR",
                condition=CONDITIONS[number % len(CONDITIONS)],
                threshold=1e9 + number,
                window_minutes=5,
                severity=Severity.HIGH,
                revision=1,
                selection_revision=1,
            )
        )
        for number in range(count)
    ]


@dataclass(frozen=True)
class Load:
    """What is flushed: `groups` groups in which each of the rules selects each event, and their totals."""

    rules: RuleSet
    groups: int

    def flushes(self, source: int, block: int, count: int, *, samples: bool = True) -> Iterator[PartialBatch]:
        """Return the records of the flushes of one block; in each, every group has one more event."""
        per_record = max(RECORD_ROWS // (len(self.rules.rules) + 1), 1)
        start = block * BLOCK_RECORDS
        for flush in range(1, count + 1):
            is_last = flush == count
            progress = BlockProgress(
                source_partition=source,
                source_partitions=SOURCES,
                block=block,
                up_to=start + (BLOCK_RECORDS if is_last else flush),
                previous_up_to=start + flush - 1,
                max_event_ns=START_NS + SECOND_NS,
                rules_revision=1,
            )
            for first in range(0, self.groups, per_record):
                chosen = np.arange(first, min(first + per_record, self.groups))
                yield PartialBatch.of_block(progress=progress, rows=self.rows(chosen, flush, samples=samples))

    def rows(self, groups: "np.ndarray[tuple[int], np.dtype[np.int64]]", counted: int, *, samples: bool) -> PartialRows:
        """Return the rows of these groups, each of which has so many events in its block."""
        compiled = list(self.rules.rules.values())
        selections = [*(rule.selection_key for rule in compiled), (compiled[0].bucketing_id, 0)]
        size = len(groups) * len(selections)
        selection, group = (
            np.repeat(np.arange(len(selections)), len(groups)),
            np.tile(np.arange(len(groups)), len(selections)),
        )
        is_rule = selection < len(compiled)
        values = (groups[group] % 997) * 1.37 * counted
        has_samples = samples and counted <= 3  # noqa: PLR2004  (as many samples as a row has)
        sample_rows = np.flatnonzero(is_rule) if has_samples else np.zeros(0, dtype=np.int64)
        return PartialRows(
            selections=[(selection,) for selection in selections],
            groups=[(f"service-{number}",) for number in groups.tolist()],
            traceparents=("",),
            samples=_samples(groups, counted) if has_samples else SampleTable.of(()),
            selection=selection,
            group=group,
            traceparent=np.zeros(size, dtype=np.int64),
            pane_ns=np.full(size, START_NS),
            counted=np.where(is_rule, counted, 0),
            total=np.full(size, counted),
            value_count=np.where(is_rule, counted, 0),
            last_event_ns=np.full(size, START_NS if counted else ABSENT_NS),
            sum=np.where(is_rule, values, 0.0),
            min=np.where(is_rule, values, np.nan),
            max=np.where(is_rule, values, np.nan),
            sample_rows=np.repeat(sample_rows, counted),
            sample_indexes=(group[sample_rows][:, None] * counted + np.arange(counted)).ravel(),
        )


def _samples(groups: Sequence[int] | np.ndarray, counted: int) -> SampleTable:
    return SampleTable.of(
        Sample(START_NS + number, f"service-{group}", None, f"instance {group} is gone", 500, 12.5, "host", "")
        for group in groups
        for number in range(counted)
    )


def started(rules: RuleSet, position: int = 0) -> WindowStage:
    """Return a stage that has judged nothing, or everything before a position."""
    stage = WindowStage.restored(Checkpoint(offset=0, position=position, watermark_ns=None), (), 10**10)
    stage.update_rules(rules, 0)
    return stage


def steady_rows_per_second(groups: int, seconds: float = 3.0) -> float:
    """Return how many rows a second are merged and judged, in blocks of ten flushes of each source."""
    load = Load(RuleSet.of(1, make_rules(3)), groups)
    stage = started(load.rules)
    rows, spent, offset, block = 0, 0.0, 0, 0
    while spent < seconds:
        for source in range(SOURCES):
            for batch in load.flushes(source, block, 10 if groups < RECORD_ROWS else 2):
                began = time.process_time()
                stage.observe([(offset, batch)], 0)
                spent += time.process_time() - began
                rows, offset = rows + len(batch.rows), offset + 1
        block += 1
    return rows / spent


@dataclass(frozen=True)
class Replay:
    """What reading groups again takes: seconds, rows, and MB; and the MB and seconds after their rules are deleted."""

    seconds: float
    rows: int
    megabytes: float
    freed_seconds: float
    left_megabytes: float


def memory_and_replay(groups: int = 100_000, rules: int = 10) -> Replay:
    """Read groups again as after a restart, and delete all rules then."""
    load = Load(RuleSet.of(1, make_rules(rules)), groups)
    values = [encode_batch(batch) for batch in load.flushes(0, 0, 1)]
    stage = started(load.rules, len(values))
    before = _resident_mb()
    began = time.process_time()
    rows = 0
    for number, batch in enumerate(map(decode_batch, values)):
        stage.observe([(number, batch)], 0)
        rows += len(batch.rows)
    seconds = time.process_time() - began
    stage.checkpoint(0)
    megabytes = _resident_mb() - before
    began = time.process_time()
    stage.update_rules(RuleSet.of(2, []), 0)
    return Replay(
        seconds=seconds,
        rows=rows,
        megabytes=megabytes,
        freed_seconds=time.process_time() - began,
        left_megabytes=_resident_mb() - before,
    )


@dataclass(frozen=True)
class SnapshotCosts:
    """What a snapshot costs, and a restart with it and without; seconds of CPU."""

    panes: int
    copying: float
    encoding: float
    megabytes: float
    reading: float
    replaying: float


def snapshot_costs(load: Load, batches: Sequence[PartialBatch]) -> SnapshotCosts:
    """Measure a stage that has read these records."""
    values = [encode_batch(batch) for batch in batches]
    stage = started(load.rules, len(values))
    replaying = _cpu_seconds(lambda: [stage.observe([each], 0) for each in enumerate(map(decode_batch, values))])
    checkpoint = stage.checkpoint(0)
    snapshots: list[StageSnapshot] = []
    copying = _cpu_seconds(lambda: snapshots.append(stage.snapshot(0)))
    parts: list[tuple[str, list[bytes]]] = []
    encoding = _cpu_seconds(lambda: parts.append(part_values(encode_snapshot(snapshots[0]))))

    def restart() -> None:
        snapshot = decode_snapshot(joined_parts(parts[0][1], parts[0][0]))
        resumed = WindowStage.restored(checkpoint, (), 10**10, snapshot=snapshot)
        resumed.update_rules(load.rules, 0)

    return SnapshotCosts(
        panes=len(snapshots[0].table.codes),
        copying=copying,
        encoding=encoding,
        megabytes=sum(map(len, parts[0][1])) / 1e6,
        reading=_cpu_seconds(restart),
        replaying=replaying,
    )


def day_of_flushes(load: Load, events: int, flushed: int = 25) -> list[PartialBatch]:
    """Return the records of so many events, in flushes of a few of random groups."""
    random = np.random.default_rng(1)
    records = []
    for number in range(events // flushed):
        block, step = divmod(number // SOURCES, BLOCK_RECORDS)
        start = block * BLOCK_RECORDS
        progress = BlockProgress(
            source_partition=number % SOURCES,
            source_partitions=SOURCES,
            block=block,
            up_to=start + step + 1,
            previous_up_to=start + step,
            max_event_ns=START_NS + number,
            rules_revision=1,
        )
        chosen = np.unique(random.integers(0, load.groups, flushed))
        records.append(PartialBatch.of_block(progress=progress, rows=load.rows(chosen, 1 + step, samples=False)))
    return records


def _cpu_seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize() / 1e6


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.window", description=__doc__)
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    profile = cProfile.Profile()
    if given.profile:
        profile.enable()
    replay = memory_and_replay()
    table = Table("groups", "rows merged and judged a second", title="Three rules, one of them with totals")
    for groups in (20, 200, 5_000, 100_000):
        table.add_row(f"{groups:,}", f"{steady_rows_per_second(groups):,.0f}")
    if given.profile:
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
    console.print(table)
    console.print(_snapshot_table())
    console.print(
        f"100,000 groups, ten rules: {replay.megabytes:,.0f} MB; {replay.rows:,} rows read again "
        f"in {replay.seconds:.1f} s; all rules deleted in {replay.freed_seconds:.1f} s: {replay.left_megabytes:,.0f} MB"
    )


def _snapshot_table() -> Table:
    many, day = Load(RuleSet.of(1, make_rules(10)), 100_000), Load(RuleSet.of(1, make_rules(1)), 200)
    table = Table(
        "", "panes", "copy", "encode", "MB", "restart with it", "restart without", title="Snapshots, in seconds of CPU"
    )
    for name, costs in (
        ("100,000 groups, ten rules", snapshot_costs(many, list(many.flushes(0, 0, 1)))),
        ("a tenth of a day", snapshot_costs(day, day_of_flushes(day, 500_000))),
    ):
        numbers = (costs.copying, costs.encoding, costs.megabytes, costs.reading, costs.replaying)
        table.add_row(name, f"{costs.panes:,}", *(f"{number:.3f}" for number in numbers))
    return table


if __name__ == "__main__":
    main()
