"""Whatever is beyond the limit of groups is counted in `~other`, exactly, and nothing else changes."""

import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from random import Random

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.evaluator.core.partial_rows import PartialBatch, of_rows
from services.evaluator.core.records import (
    SECOND_NS,
    Aggregate,
    BlockProgress,
    Group,
    Row,
    RowKey,
    Transition,
    partition_of,
)
from services.evaluator.core.rules import CompiledRule, RuleSet, SelectionKey
from services.evaluator.core.window import judging
from services.evaluator.core.window.episode import MergedAggregate
from services.evaluator.core.window.group_limit import GroupLimit
from services.evaluator.core.window.stage import WindowStage
from tests.unit.evaluator.pipeline import rule
from tests.unit.evaluator.rows import to_rows
from tests.unit.evaluator.stage_driver import FRESH

SOURCES = 2
randoms = st.integers(0, 2**32).map(Random)
STARTS = (0, 10 * SECOND_NS)
GROUPS = [(f"g{number}",) for number in range(9)]
UNLIMITED = GroupLimit(max_groups=10**9)
# None of them holds.
COUNTING = RuleSet.of(
    1,
    [
        rule("plain", "sum > threshold && count > threshold", 1e300),
        rule("rate", "rate > 2.0 && count > threshold", 1e300),
        rule("share", "total > 1000000 && count > 5"),
    ],
)
JUDGING = RuleSet.of(1, [rule("plain", "count >= threshold", 5), rule("rate", "rate >= 0.5 && total >= 5")])


@dataclass
class Records:
    """Records of sources whose rows are cumulative within a block, as the match stage writes them; some come twice."""

    random: Random
    rules: RuleSet
    limit: GroupLimit
    starts: Sequence[int] = STARTS
    batches: list[PartialBatch] = field(default_factory=list)
    # Of each block the rows that have come furthest.
    last: dict[tuple[int, int, RowKey], Aggregate] = field(default_factory=dict)

    def write(self, flushes: int) -> "Records":
        ends, blocks = [0] * SOURCES, [0] * SOURCES
        for _ in range(flushes):
            source = self.random.randrange(SOURCES)
            if self.random.random() < 0.3:
                blocks[source] += 1
                ends[source] = blocks[source] * 256
            self._flush(source, blocks[source], ends[source], ends[source] + 1)
            ends[source] += 1
            if self.random.random() < 0.2:
                self.batches.append(self.random.choice(self.batches))
        self.batches.append(replace(self.batches[-1], continues=False))
        return self

    def _flush(self, source: int, block: int, before: int, up_to: int) -> None:
        rows = []
        keys = self.random.sample(self._keys(), self.random.randrange(5))
        # What a rule has selected its scope has selected too; totals of a block may be newer than the rule's rows.
        totals = [RowKey(*self.gate(key.rule_id), *key[2:]) for key in keys if not key.is_totals]
        for key in self.random.sample(chosen := list(dict.fromkeys([*keys, *totals])), len(chosen)):
            rows.append(Row(key, self._grown(self.last.get((source, block, key), Aggregate()), key)))
            self.last[source, block, key] = rows[-1].aggregate
        self.batches.append(
            PartialBatch.of_block(
                progress=BlockProgress(
                    source_partition=source,
                    source_partitions=SOURCES,
                    block=block,
                    up_to=up_to,
                    previous_up_to=before,
                    rules_revision=1,
                ),
                rows=of_rows(rows),
                continues=self.random.random() < 0.3,
            )
        )

    def _grown(self, former: Aggregate, key: RowKey) -> Aggregate:
        value = self.random.choice((0.1, -0.3, 1e17, -1e17, 1e308, 7.25))
        last = self.random.randrange(99)
        if key.is_totals:
            return former._replace(
                total=former.total + self.random.randint(1, 3), last_event_ns=max(former.last_event_ns or 0, last)
            )
        return former._replace(
            counted=former.counted + self.random.randint(1, 3),
            value_count=former.value_count + 1,
            sum=min(former.sum + value, 1.7e308),
            min=min(value if former.min is None else former.min, value),
            max=max(value if former.max is None else former.max, value),
            last_event_ns=max(former.last_event_ns or 0, last),
        )

    def _keys(self) -> list[RowKey]:
        return list(
            dict.fromkeys(
                RowKey(*selection, group, start_ns)
                for rule_id in self.rules.rules
                for group in self.homes(rule_id)
                for start_ns in self.starts
                for selection in ((rule_id, 1), self.gate(rule_id))
            )
        )

    def homes(self, rule_id: str) -> list[Group]:
        limit = self.limit
        return [group for group in GROUPS if partition_of(rule_id, group, limit.partitions) == limit.partition]

    def gate(self, rule_id: str) -> SelectionKey:
        """Return what decides which groups of a rule have panes: the totals that it reads, or itself."""
        compiled = self.rules.rules[rule_id]
        return (compiled.bucketing_id, 0) if compiled.needs_totals else compiled.selection_key

    def readers(self, gate: SelectionKey) -> list[SelectionKey]:
        return [compiled.selection_key for compiled in self.rules.total_readers.get(gate[0], ())]

    def read(self, stage: WindowStage, first: int = 0) -> list[Transition]:
        """Give all records from the first one on to a stage, in random cuts."""
        numbered = list(enumerate(self.batches))[first:]
        cuts = sorted(self.random.randint(0, len(numbered)) for _ in range(4))
        return [
            step
            for begin, end in pairwise([0, *cuts, len(numbered)])
            for step in stage.observe(numbered[begin:end], 0).transitions
        ]


def started(rules: RuleSet, limit: GroupLimit) -> WindowStage:
    stage = WindowStage.restored(FRESH, (), SECOND_NS, limit=limit)
    stage.update_rules(rules, 0)
    return stage


def contents(stage: WindowStage, compiled: CompiledRule, start_ns: int) -> dict[Group, MergedAggregate]:
    """Return the numbers of each group that has a pane in a window of a rule, as it judges them."""
    windows = stage.windows.by_selection.get(compiled.selection_key)
    if windows is None or start_ns not in windows.windows:
        return {}
    table = stage.windows.table
    panes = judging.all_panes(table, [judging.JudgedWindow(rules=windows, compiled=compiled, start_ns=start_ns)])
    rows = np.arange(len(panes.slots))
    merged = judging._merged(table, panes, judging._totals(table, panes), rows)
    return {table.groups[group]: numbers for group, numbers in zip(panes.groups.tolist(), merged, strict=True)}


def added(aggregates: Sequence[Aggregate]) -> MergedAggregate:
    exact = sum((Fraction(each.sum) for each in aggregates), Fraction(0))
    return MergedAggregate(
        counted=sum(each.counted for each in aggregates),
        total=sum(each.total for each in aggregates),
        value_count=sum(each.value_count for each in aggregates),
        sum=math.inf * (1 if exact > 0 else -1) if abs(exact) > sys.float_info.max else float(exact),
        min=min((each.min for each in aggregates if each.min is not None), default=None),
        max=max((each.max for each in aggregates if each.max is not None), default=None),
        last_event_ns=max((each.last_event_ns for each in aggregates if each.last_event_ns is not None), default=None),
    )


def first_groups(records: Records, start_ns: int) -> dict[SelectionKey, set[Group]]:
    """Return the groups that have panes in a window: the first ones, of the totals where a rule reads them."""
    chosen: dict[SelectionKey, set[Group]] = defaultdict(set)
    for batch in records.batches:
        keys = [row.key for row in to_rows(batch.rows) if row.key.pane_ns == start_ns]
        for key in sorted(keys, key=lambda each: not each.is_totals):
            _choose(records, chosen, key)
    return chosen


def _choose(records: Records, chosen: dict[SelectionKey, set[Group]], key: RowKey) -> None:
    own = key[:2]
    gate = own if key.is_totals else records.gate(key.rule_id)
    readers = records.readers(gate)
    has_room = max(len(chosen[own]), len(chosen[gate])) < records.limit.share(len(readers))
    has_pane = [key.group in chosen[each] for each in (gate, *(readers if key.is_totals else ()))]
    if has_room or any(has_pane):
        chosen[own].add(key.group)


def check_contents(stage: WindowStage, records: Records) -> None:
    for start_ns in STARTS:
        chosen = first_groups(records, start_ns)
        for compiled in records.rules.rules.values():
            found = contents(stage, compiled, start_ns)
            assert found == expected(records, chosen, compiled, start_ns)
            gate = records.gate(compiled.rule.id)
            assert len(found) <= records.limit.share(len(records.readers(gate))) + 1


def expected(
    records: Records, chosen: dict[SelectionKey, set[Group]], compiled: CompiledRule, start_ns: int
) -> dict[Group, MergedAggregate]:
    own, gate = compiled.selection_key, records.gate(compiled.rule.id)
    rows: dict[Group, list[Aggregate]] = defaultdict(list)
    totals: dict[Group, list[Aggregate]] = defaultdict(list)
    for (_, _, key), aggregate in records.last.items():
        if key.pane_ns == start_ns and key.group in records.homes(compiled.rule.id):
            if key[:2] == own:
                rows[key.group if key.group in chosen[own] else records.limit.other(1)].append(aggregate)
            elif key[:2] == gate:
                totals[key.group if key.group in chosen[gate] else records.limit.other(1)].append(aggregate)
    return {group: added([*of_group, *totals[group]]) for group, of_group in rows.items()}


def by_id(steps: Iterable[Transition]) -> dict[str, Transition]:
    return {step.id: step for step in steps}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(randoms, st.integers(1, 5), st.integers(1, 2))
def test_sums_over_all_groups_stay_whatever_is_beyond_the_limit(
    random: Random, max_groups: int, partitions: int
) -> None:
    limit = GroupLimit(max_groups=max_groups, partition=random.randrange(partitions), partitions=partitions)
    records = Records(random, COUNTING, limit).write(random.randint(1, 30))
    stage = started(COUNTING, limit)
    position = random.randint(0, len(records.batches))
    whole, records.batches = records.batches, records.batches[:position]
    assert records.read(stage) == []
    checkpoint = stage.checkpoint(0)
    how = random.choice(("goes on", "replay", "snapshot"))
    if how == "goes on":
        stage.windows.table.compact(is_forced=True)
    else:
        snapshot = stage.snapshot(0) if how == "snapshot" else None
        stage = WindowStage.restored(checkpoint, (), SECOND_NS, snapshot=snapshot, limit=limit)
        stage.update_rules(COUNTING, 0)
    records.batches = whole
    records.read(stage, first=stage.position)
    stage.checkpoint(0)
    check_contents(stage, records)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(randoms, st.integers(1, 6))
def test_groups_below_the_limit_are_judged_as_without_one(random: Random, max_groups: int) -> None:
    limit = GroupLimit(max_groups=max_groups)
    records = Records(random, JUDGING, limit, starts=STARTS[:1]).write(random.randint(1, 30))
    limited, unlimited = started(JUDGING, limit), started(JUDGING, UNLIMITED)
    cuts = random.getstate()
    steps = records.read(limited)
    random.setstate(cuts)
    chosen = first_groups(records, STARTS[0])
    expected_steps = [step for step in records.read(unlimited) if step.group in chosen[step.rule_id, 1]]
    assert by_id(step for step in steps if step.group != limit.other(1)) == by_id(expected_steps)
