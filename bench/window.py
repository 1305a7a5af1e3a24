"""The cost of the window stage, on partial aggregates in memory: `python -m bench.window [--profile]`.

Steady: rows of open blocks are merged and judged, flush after flush. Memory and replay: 100,000 groups, each in one
source partition and selected by ten rules; the records are decoded and merged again as after a restart.
"""

import argparse
import cProfile
import pstats
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from resource import getpagesize

import numpy as np
from rich.console import Console
from rich.table import Table

from services.domain.severity import Severity
from services.evaluator.adapters.window_partials_wire import decode_batch, encode_batch
from services.evaluator.core.partial_rows import ABSENT_NS, PartialBatch, PartialRows
from services.evaluator.core.records import BLOCK_RECORDS, SECOND_NS, BlockProgress, Sample
from services.evaluator.core.rules import RuleSet
from services.evaluator.core.samples import SampleTable
from services.evaluator.core.window.checkpoint import Checkpoint
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
                yield PartialBatch(progress=progress, rows=self._rows(chosen, flush, samples=samples))

    def _rows(
        self, groups: "np.ndarray[tuple[int], np.dtype[np.int64]]", counted: int, *, samples: bool
    ) -> PartialRows:
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
            selections=selections,
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


def memory_and_replay(groups: int = 100_000, rules: int = 10) -> tuple[float, float, int]:
    """Return the MB that the groups take, the seconds to read them again, and how many rows that are."""
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
    return _resident_mb() - before, seconds, rows


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
    megabytes, seconds, rows = memory_and_replay()
    table = Table("groups", "rows merged and judged a second", title="Three rules, one of them with totals")
    for groups in (20, 200, 5_000, 100_000):
        table.add_row(f"{groups:,}", f"{steady_rows_per_second(groups):,.0f}")
    if given.profile:
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
    console.print(table)
    console.print(f"100,000 groups, ten rules: {megabytes:,.0f} MB; {rows:,} rows read again in {seconds:.1f} s")


if __name__ == "__main__":
    main()
