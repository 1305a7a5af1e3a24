"""Snapshots: a stage that is restored from one and reads on is the stage that never stopped."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.evaluator.adapters.window_snapshots_wire import decode_snapshot, encode_snapshot
from services.evaluator.core.partial_rows import PartialBatch, of_rows
from services.evaluator.core.records import (
    SECOND_NS,
    Aggregate,
    BlockProgress,
    Row,
    RowKey,
    Sample,
    Transition,
    closing_key,
    totals_key,
)
from services.evaluator.core.rules import CompiledRule, RuleSet
from services.evaluator.core.window import pane_table
from services.evaluator.core.window.snapshot import StageSnapshot
from services.evaluator.core.window.snapshot_check import InvalidSnapshotError, check_snapshot
from services.evaluator.core.window.stage import WindowStage
from tests.unit.evaluator.pipeline import Window, rule
from tests.unit.evaluator.snapshots import RATE, flush_of, plain, stage_with_everything
from tests.unit.evaluator.stage_driver import COUNT, FRESH, StageDriver, row, scope_row

SILENT = rule("silent", "count < 1 && total > 3")
BUCKETING = CompiledRule.of(RATE).bucketing_id
EDITED = replace(COUNT, threshold=4.0, revision=2)
FRESHLY_COUNTED = replace(RATE, revision=3, selection_revision=3)
RULES = (
    RuleSet.of(1, [COUNT, RATE, SILENT]),
    RuleSet.of(2, [EDITED, RATE]),
    RuleSet.of(3, [COUNT, FRESHLY_COUNTED]),
)

# Enough to fail when something is broken; for a long search set the number higher.
EXAMPLES = 4 * int(os.environ.get("TOCSIN_EXACTNESS_EXAMPLES", "12"))

# A record, or that the rules change to their next form.
Step = PartialBatch | None


def aggregate_of(key: RowKey, source: int, up_to: int, *, has_samples: bool) -> Aggregate:
    """Return the same for the same row; of the samples all or none."""
    random = Random(f"{key} {source} {up_to}")  # noqa: S311
    return Aggregate(
        counted=random.randrange(6),
        total=random.randrange(6),
        value_count=random.randrange(3),
        sum=random.choice((0.0, 0.1, 1e300, -1e300, 1e-300, 2.5)),
        min=random.choice((None, 0.5, 3.0)),
        max=random.choice((None, 0.5, 3.0)),
        last_event_ns=random.choice((None, 1, 2)),
        samples=(Sample(source, "a", None, str(up_to // 256), None, None, "", ""),) if has_samples else (),
    )


def random_key(random: Random, second: int) -> RowKey:
    start_ns = max(second // 10 - random.choice((0, 0, 1, 3)), 0) * 10 * SECOND_NS
    group = (random.choice("abc"),)
    kind = random.choice(("count", "count", "rate", "silent", "total", "closing"))
    if kind == "total":
        return totals_key(BUCKETING, group, start_ns)
    if kind == "closing":
        return closing_key(start_ns + 15 * SECOND_NS)
    return RowKey(kind, random.choice((1, 1, 3)), group, start_ns)


def random_steps(random: Random) -> list[Step]:
    """Return records of two sources, whose blocks and times go on, and sometimes repeat, and edits."""
    steps: list[Step] = []
    blocks, second = [0, 0], 0
    sampled: set[tuple[RowKey, int, int]] = set()
    for _ in range(random.randrange(25)):
        # A flush has at most one record of a source here.
        continued = steps[-1] if steps and steps[-1] is not None and steps[-1].continues else None
        source = 1 - continued.blocks[0].progress.source_partition if continued else random.randrange(2)
        second += random.choice((0, 0, 1, 5))
        blocks[source] += random.choice((0, 0, 0, 1, 1, -1))
        progress = BlockProgress(
            source_partition=source,
            source_partitions=2,
            block=blocks[source],
            up_to=blocks[source] * 256 + random.choice((1, 2, 3, 256)),
            previous_up_to=blocks[source] * 256,
            max_event_ns=second * SECOND_NS if random.random() < 0.8 else None,
            idle_ns=second * SECOND_NS if random.random() < 0.2 else None,
            rules_revision=random.randint(1, 3),
        )
        rows = []
        for key in sorted({random_key(random, second) for _ in range(random.randrange(4))}):
            has_samples = (key, source, blocks[source]) not in sampled or random.random() < 0.5
            sampled.add((key, source, blocks[source]))
            rows.append(Row(key, aggregate_of(key, source, progress.up_to, has_samples=has_samples)))
        missed = {("count", 1): [random.randrange(3) * 10 * SECOND_NS]} if random.random() < 0.1 else {}
        continues = continued is None and random.random() < 0.2
        steps.append(PartialBatch.of_block(progress=progress, rows=of_rows(rows), missed=missed, continues=continues))
        if random.random() < 0.1 and not continues:
            steps.append(None)
    return steps


@dataclass
class Course:
    """A stage, and what became of the steps that it was given."""

    stage: WindowStage
    offset: int = 0
    edits: int = 0
    transitions: list[Transition] = field(default_factory=list)
    late: list[object] = field(default_factory=list)

    @classmethod
    def begun(cls, stage: WindowStage, offset: int = 0, edits: int = 0) -> "Course":
        course = cls(stage, offset, min(edits, len(RULES) - 1))
        course.transitions += stage.update_rules(RULES[course.edits], 0)
        return course

    def follow(self, steps: Sequence[Step]) -> "Course":
        for step in steps:
            if step is None:
                self.edits = min(self.edits + 1, len(RULES) - 1)
                self.transitions += self.stage.update_rules(RULES[self.edits], 0)
            else:
                outcome = self.stage.observe([(self.offset, step)], 0)
                self.offset += 1
                self.transitions += outcome.transitions
                self.late.append((outcome.late_events, dict(outcome.late_by_rule), outcome.gaps))
        return self

    def states(self) -> list[Transition]:
        return [
            episode.last
            for windows in self.stage.windows.by_selection.values()
            for episode in windows.episodes.values()
        ]

    def content(self) -> list[Any]:
        """Return of each pane of a rule its numbers and how many samples it has."""
        return sorted((start, group, str(rest)) for start, group, *rest in Window(self.stage, 0).content())


def resumed(course: Course, snapshot: StageSnapshot, steps: Sequence[Step]) -> Course:
    """Return a new owner of the course's partition, after what was read before."""
    snapshot = decode_snapshot(encode_snapshot(snapshot))
    stage = WindowStage.restored(course.stage.checkpoint(0), course.states(), SECOND_NS, snapshot=snapshot)
    new = Course.begun(stage, snapshot.position, course.edits)
    new.follow([step for step in steps if step is not None][snapshot.position :])
    assert stage.is_caught_up
    # The other one was asked too, and has dropped totals that all rules which it knows have closed.
    stage.checkpoint(0)
    # What is decided again was decided before.
    assert {each.id for each in new.transitions} <= {each.id for each in course.transitions}
    return new


def by_group(transitions: Sequence[Transition]) -> list[Transition]:
    """Return what became of each group, in its order; groups that an edit lets fire have none among them."""
    return sorted(transitions, key=lambda each: (each.rule_id, each.selection_revision, each.group))


@settings(deadline=None, max_examples=EXAMPLES)
# An edit lets two groups fire whose panes have other numbers after the restart.
@example(Random(175))  # noqa: S311
@given(st.randoms(use_true_random=True))
def test_whatever_the_records_edits_and_cuts_a_restored_stage_goes_on_as_the_one_that_never_stopped(
    random: Random,
) -> None:
    steps = random_steps(random)
    cut, stop = sorted((random.randint(0, len(steps)), random.randint(0, len(steps))))
    never_stopped = Course.begun(WindowStage.restored(FRESH, (), SECOND_NS)).follow(steps[:cut])
    if random.random() < 0.5:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pane_table, "_MAX_CLOSED", 0)
            never_stopped.stage.checkpoint(0)
    snapshot = never_stopped.stage.snapshot(0)
    never_stopped.follow(steps[cut:stop])
    if snapshot.position < never_stopped.stage.snapshots_from:
        return
    for _ in range(2):
        # Reading a snapshot twice changes nothing of it.
        new = resumed(never_stopped, snapshot, steps[:stop])
    assert new.content() == never_stopped.content()
    before, again = len(never_stopped.transitions), len(new.transitions)
    counted, recounted = len(never_stopped.late), len(new.late)
    never_stopped.follow(steps[stop:])
    new.follow(steps[stop:])
    assert by_group(new.transitions[again:]) == by_group(never_stopped.transitions[before:])
    assert new.content() == never_stopped.content()
    if None not in steps[cut:stop]:
        # Else rows of a rule that ended are kept for a while by who does not know until when it was judged.
        assert new.late[recounted:] == never_stopped.late[counted:]
        assert new.stage.checkpoint(0) == never_stopped.stage.checkpoint(0)


def test_a_restored_stage_has_the_same_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = StageDriver.with_rules(COUNT, RATE)
    short_lived = [row(1, pane=pane, group=(f"g{pane}",)) for pane in range(-30, 10, 10)]
    driver.flush(*short_lived, scope_row(1, RATE, pane=20), event=20)
    driver.process(flush_of(1, [row(1, pane=20)]))
    driver.flush(row(1, pane=20, group=("c",)), row(1, pane=0), event=30)
    driver.process(flush_of(2, [row(1, pane=20)]))
    monkeypatch.setattr(pane_table, "_MAX_CLOSED", 0)
    checkpoint = driver.stage.checkpoint(0)
    driver.process(flush_of(2, [row(1, pane=30), row(2, pane=0)]))
    snapshot = driver.stage.snapshot(0)
    windows, groups = snapshot.table.windows, snapshot.table.groups
    assert None in windows
    assert None in groups
    assert {entry.is_open for entry in windows if entry} == {True, False}
    restored = WindowStage.restored(checkpoint, (), SECOND_NS, snapshot=snapshot)
    restored.update_rules(RuleSet.of(1, [COUNT, RATE]), 0)
    assert plain(restored.snapshot(0)) == plain(snapshot)


def test_everything_of_a_stage_is_in_its_snapshot() -> None:
    snapshot = stage_with_everything().snapshot(0)
    assert [entry.folded_of for entry in snapshot.table.windows if entry and entry.revision] == [2]
    assert len(snapshot.table.folded.sums.integers) == 1
    assert len(snapshot.table.blocks[0].sample_ids) == 1
    assert len(snapshot.table.samples.ids) == 3


def test_windows_that_the_former_owner_closed_after_the_snapshot_are_not_judged_again() -> None:
    """Rows that came too late are not among what was judged: with them the window would end the alert."""
    driver = StageDriver.with_rules(rule("few", "count < 3 && count > 0", lateness=timedelta()))
    driver.flush(row(1, rule_id="few"), event=1)
    snapshot = driver.stage.snapshot(0)
    late = [row(5, rule_id="few"), row(1, pane=10, rule_id="few")]
    assert driver.flush(row(1, pane=10, rule_id="few"), event=12) == []
    assert driver.flush(*late, event=13) == []
    states = [each.last for each in driver.stage.windows.by_selection["few", 1].episodes.values()]
    stage = WindowStage.restored(driver.stage.checkpoint(0), states, SECOND_NS, snapshot=snapshot)
    new = StageDriver(stage, offset=1, up_to=1)
    new.update_rules(rule("few", "count < 3 && count > 0", lateness=timedelta()))
    new.flush(row(1, pane=10, rule_id="few"), event=12)
    new.flush(*late, event=13)
    assert new.transitions == []
    assert new.stage.checkpoint(0) == driver.stage.checkpoint(0)


def test_a_snapshot_from_before_a_rule_was_known_does_not_count() -> None:
    driver = StageDriver.with_rules(revision=0)
    driver.flush(row(1))
    before = driver.stage.snapshot(0)
    driver.update_rules(COUNT)
    assert before.position < driver.stage.snapshots_from
    driver.flush(row(2))
    driver.update_rules(EDITED, revision=2)
    assert driver.stage.snapshot(0).position >= driver.stage.snapshots_from


def test_closed_windows_of_a_selection_that_was_dropped_may_remain() -> None:
    snapshot = entry_of(stage_with_everything().snapshot(0), 1, is_open=False, rule_id="dropped")
    check_snapshot(snapshot)


def changed(snapshot: StageSnapshot, **changes: Any) -> StageSnapshot:
    return replace(snapshot, table=replace(snapshot.table, **changes))


def with_block(snapshot: StageSnapshot, **columns: Any) -> StageSnapshot:
    block = snapshot.table.blocks[0]
    ids = columns.pop("sample_ids", block.sample_ids)
    return changed(snapshot, blocks={0: replace(block, columns={**block.columns, **columns}, sample_ids=ids)})


def with_sums(snapshot: StageSnapshot, **columns: Any) -> StageSnapshot:
    folded = snapshot.table.folded
    return changed(snapshot, folded=folded._replace(sums=folded.sums._replace(**columns)))


def entry_of(snapshot: StageSnapshot, number: int, **changes: Any) -> StageSnapshot:
    entries = list(snapshot.table.windows)
    entry = entries[number - 1]
    assert entry is not None
    entries[number - 1] = entry._replace(**changes)
    return changed(snapshot, windows=entries)


DAMAGE: dict[str, Callable[[StageSnapshot], StageSnapshot]] = {
    "position": lambda of: replace(of, position=-1),
    "a group twice": lambda of: changed(of, groups=[("a",), ("a",), ("c",)]),
    "a group is missing": lambda of: changed(of, groups=[*of.table.groups[:-1], None]),
    "two windows begin at once": lambda of: entry_of(of, 4, start_ns=0),
    "totals of no window": lambda of: entry_of(of, 3, folded_of=9),
    "totals of a negative window": lambda of: entry_of(of, 3, folded_of=-1),
    "totals of a free number": lambda of: changed(
        of, windows=[None if n == 1 else e for n, e in enumerate(of.table.windows)]
    ),
    "an overflow of no window": lambda of: entry_of(of, 4, overflow_of=9),
    "an overflow of folded totals": lambda of: entry_of(of, 4, overflow_of=3),
    "two overflows of one window": lambda of: entry_of(entry_of(of, 4, overflow_of=1), 2, overflow_of=1),
    "an unknown selection": lambda of: replace(of, selections={}),
    "a pane twice": lambda of: changed(of, codes=np.full(len(of.table.codes), of.table.codes[0])),
    "a negative code": lambda of: changed(of, codes=np.concatenate([of.table.codes[:-1], [-1]])),
    "an unknown window": lambda of: changed(of, codes=np.concatenate([of.table.codes[:-1], [99 << 32]])),
    "fewer panes": lambda of: changed(of, codes=of.table.codes[:-1]),
    "a folded column is shorter": lambda of: changed(
        of, folded=of.table.folded._replace(numbers={**of.table.folded.numbers, "min": np.zeros(1)})
    ),
    "an infinite sum": lambda of: with_sums(of, high=np.full(len(of.table.codes), np.inf)),
    "an infinite low sum": lambda of: with_sums(of, low=np.full(len(of.table.codes), np.inf)),
    "an integer is missing": lambda of: with_sums(of, integers={}),
    "an integer is of another row": lambda of: with_sums(of, integers={0: 1}),
    "a column of a block is shorter": lambda of: with_block(of, counted=np.zeros(1)),
    "a block's pane twice": lambda of: with_block(of, slots=np.full(2, 1)),
    "a block's pane is unknown": lambda of: with_block(of, slots=np.array([0, 1])),
    "a block's pane is beyond all": lambda of: with_block(of, slots=np.array([1, 99])),
    "a negative count of samples": lambda of: with_block(of, sample_count=np.array([-1, 2])),
    "too many samples": lambda of: with_block(of, sample_count=np.array([0, 128]), sample_ids=np.zeros(128, np.int64)),
    "fewer samples": lambda of: with_block(of, sample_ids=np.zeros(0, np.int64)),
    "an unknown sample": lambda of: with_block(of, sample_ids=np.array([4])),
    "samples differ in length": lambda of: changed(of, samples=replace(of.table.samples, ids=np.zeros(1, np.int64))),
    "a sample of an unknown pane": lambda of: changed(
        of, samples=replace(of.table.samples, slots=np.array([1, 2, 99]))
    ),
    "a sample that is not there": lambda of: changed(of, samples=replace(of.table.samples, ids=np.array([0, 1, 4]))),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_values_that_do_not_fit_together_are_refused(damage: Callable[[StageSnapshot], StageSnapshot]) -> None:
    with pytest.raises(InvalidSnapshotError):
        check_snapshot(damage(stage_with_everything().snapshot(0)))
