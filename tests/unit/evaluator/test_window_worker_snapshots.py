"""The window loop's snapshots: written beside judging, named by the next commit, and harmless wherever it stops."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from services.chassis import telemetry
from services.chassis.kafka import CommittedOffset, Rebalance
from services.evaluator.core.partial_rows import PartialBatch, of_rows
from services.evaluator.core.records import (
    SECOND_NS,
    Aggregate,
    BlockProgress,
    Row,
    RowKey,
    Transition,
    TransitionState,
)
from services.evaluator.core.rules import RuleSet
from services.evaluator.core.window import reading_history
from services.evaluator.core.window.checkpoint import Checkpoint, SnapshotName, decode_checkpoint
from services.evaluator.core.window.snapshot import StageSnapshot
from services.evaluator.metrics import Metrics
from services.evaluator.ports import Partial, PartialFetch
from services.evaluator.worker import snapshots
from services.evaluator.worker.window import WindowWorker
from tests.fakes.clock import FakeClock
from tests.fakes.evaluator import NOW, MemoryAlerts, MemoryPartials, MemoryRules, MemorySnapshots, MemoryStates
from tests.unit.evaluator.pipeline import rule
from tests.unit.evaluator.test_window_worker import ASSIGNED, AT_ONCE, Loop, flush


@pytest.fixture(autouse=True)
def _always_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_history, "_MAX_AGE_NS", -1)
    monkeypatch.setattr(snapshots, "_PAUSE_SECONDS", 0.0)


@pytest.fixture
def loop() -> Loop:
    return Loop()


async def bring(loop: Loop, *batches: PartialBatch, first: int = 0, rebalance: Rebalance | None = None) -> None:
    """Bring records, and let a snapshot be written after that."""
    await loop.bring(*batches, first=first, rebalance=rebalance)
    await asyncio.sleep(0)


def last_checkpoint(loop: Loop) -> Checkpoint:
    committed = loop.partials.commits[-1]
    return decode_checkpoint(committed.offset, committed.metadata)


async def with_snapshot(loop: Loop) -> CommittedOffset:
    """Bring two records, and return the commit that names the snapshot of both."""
    await bring(loop, flush(1, 3), flush(2, 4, event=2), rebalance=ASSIGNED)
    await bring(loop)
    committed = loop.partials.commits[-1]
    assert last_checkpoint(loop).snapshot is not None
    return committed


async def resume(loop: Loop, committed: CommittedOffset) -> None:
    loop.worker = loop.started()
    await bring(loop, rebalance=Rebalance(assigned=(committed,)))


async def test_a_snapshot_is_named_by_the_commit_after_it_is_written(loop: Loop) -> None:
    await bring(loop, flush(1, 3), flush(2, 4, event=2), rebalance=ASSIGNED)
    assert last_checkpoint(loop).snapshot is None
    assert loop.snapshots.records
    await bring(loop)
    checkpoint = last_checkpoint(loop)
    assert checkpoint.snapshot is not None
    assert (checkpoint.offset, checkpoint.position, checkpoint.snapshot.position) == (0, 2, 2)


async def test_a_successor_reads_on_from_the_snapshot(loop: Loop) -> None:
    committed = await with_snapshot(loop)
    loop.worker = loop.started()
    # Reading begins at its position; if records from before it come all the same, they do not count twice.
    await bring(loop, flush(1, 3), flush(2, 4, event=2), rebalance=Rebalance(assigned=(committed,)))
    assert loop.partials.rewinds == []
    await bring(loop, flush(3, event=25), first=2)
    assert loop.steps() == [TransitionState.FIRING, TransitionState.RESOLVED]
    assert loop.alerts.written[-1].window.start_ns == 10 * SECOND_NS
    assert loop.alerts.written[0].window.count == 3


@pytest.mark.parametrize("damage", ["gone", "damaged", "of another position"])
async def test_a_snapshot_that_is_not_whole_is_ignored(loop: Loop, damage: str) -> None:
    committed = await with_snapshot(loop)
    if damage == "gone":
        loop.snapshots.records.clear()
    elif damage == "damaged":
        loop.snapshots.records[0] = [value[:-1] for value in loop.snapshots.records[0]]
    else:
        fields = json.loads(committed.metadata)
        fields["snapshot"]["position"] = 1
        committed = replace(committed, metadata=json.dumps(fields))
    with capture_logs() as logs:
        await resume(loop, committed)
    assert next(line["event"] for line in logs if "snapshot" in line["event"]) == "snapshot_not_used"
    # Reading began at the position of the snapshot.
    assert loop.partials.rewinds == [(0, 0)]
    await bring(loop, flush(1, 3), flush(2, 4, event=2), flush(3, event=25))
    assert loop.steps() == [TransitionState.FIRING, TransitionState.RESOLVED]


async def test_a_snapshot_of_a_later_position_than_was_judged_is_ignored(loop: Loop) -> None:
    committed = await with_snapshot(loop)
    fields = json.loads(committed.metadata)
    fields["position"] = 1
    await resume(loop, replace(committed, metadata=json.dumps(fields)))
    assert loop.partials.rewinds == []


async def test_while_the_snapshots_cannot_be_read_it_waits(loop: Loop) -> None:
    committed = await with_snapshot(loop)
    loop.snapshots.failures = 2
    with capture_logs() as logs:
        await resume(loop, committed)
    assert next(line["event"] for line in logs if "snapshot" in line["event"]) == "snapshot_used"
    assert loop.partials.rewinds == []


async def test_after_a_gap_no_snapshot_is_used(loop: Loop) -> None:
    await bring(loop, flush(256, 1, previous=0, block=0), flush(1, 1), rebalance=ASSIGNED)
    await bring(loop)
    assert last_checkpoint(loop).snapshot is not None
    await bring(loop, flush(3, 3, previous=2), first=2)
    assert loop.partials.rewinds == [(0, 0)]
    assert last_checkpoint(loop).snapshot is None


async def test_what_is_written_of_a_partition_that_moves_is_named_by_nobody(loop: Loop) -> None:
    await bring(loop, flush(1, 3), rebalance=ASSIGNED)
    moved = Rebalance(revoked=(0,), assigned=ASSIGNED.assigned)
    await bring(loop, rebalance=moved)
    assert loop.partials.rewinds == []
    assert last_checkpoint(loop).snapshot is None


async def test_no_snapshot_is_named_that_saves_nothing(loop: Loop) -> None:
    await with_snapshot(loop)
    await bring(loop, flush(3, event=25), first=2)
    loop.snapshots.failures = 1000
    await bring(loop, flush(4, event=45), first=3)
    assert (last_checkpoint(loop).offset, last_checkpoint(loop).snapshot) == (4, None)


async def test_a_snapshot_that_cannot_be_written_stops_nothing(loop: Loop) -> None:
    await bring(loop, rebalance=ASSIGNED)
    loop.snapshots.failures = 1
    with capture_logs() as logs:
        await bring(loop, flush(1, 3))
    assert next(line["event"] for line in logs if "snapshot" in line["event"]) == "snapshot_not_written"
    await bring(loop)
    await bring(loop)
    assert last_checkpoint(loop).snapshot is not None


async def test_neither_does_one_that_cannot_be_encoded(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_partition: int, _snapshot: StageSnapshot) -> SnapshotName:
        raise OverflowError

    monkeypatch.setattr(loop.snapshots, "save", broken)
    with capture_logs() as logs:
        await bring(loop, flush(1, 3), rebalance=ASSIGNED)
        await bring(loop)
    assert {"event": "snapshot_not_written", "log_level": "error"}.items() <= {
        **next(line for line in logs if "snapshot" in line["event"])
    }.items()
    assert loop.steps() == [TransitionState.FIRING]


async def test_many_rows_make_a_snapshot_due_as_long_as_snapshots_take_a_small_share_of_the_time(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_history, "_MAX_AGE_NS", 10**18)
    monkeypatch.setattr(reading_history, "_MIN_ROWS", 0)
    save, positions = loop.snapshots.save, list[int]()

    async def slow(partition: int, snapshot: StageSnapshot) -> SnapshotName:
        loop.clock.advance(timedelta(seconds=1))
        positions.append(snapshot.position)
        return await save(partition, snapshot)

    monkeypatch.setattr(loop.snapshots, "save", slow)
    await bring(loop, flush(1, 3), rebalance=ASSIGNED)
    for up_to in range(2, 20):
        await bring(loop, flush(up_to, up_to), first=up_to - 1)
    # Twenty seconds after the one that it took; each turn takes two.
    assert positions == [1, 11]


async def test_the_first_snapshot_waits_until_what_was_read_again_is_judged(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "_PAUSE_SECONDS", 3.0)
    await bring(loop, flush(1, 3), rebalance=ASSIGNED)
    assert not loop.snapshots.records
    for up_to in range(2, 6):
        await bring(loop, flush(up_to, up_to), first=up_to - 1)
    assert loop.snapshots.records


async def test_what_becomes_of_snapshots_is_counted() -> None:
    with telemetry.telemetry("test", "i", ""):
        loop = Loop()
        committed = await with_snapshot(loop)
        await resume(loop, committed)
        loop.snapshots.records.clear()
        await resume(loop, committed)
        loop.snapshots.failures = 1
        await bring(loop, flush(3, 3), first=2)
        await bring(loop)
        lines = telemetry.exposition()[0].decode().splitlines()
    counted = {
        line.split('"')[1]: float(line.rpartition(" ")[2]) for line in lines if "evaluator_snapshots_total{" in line
    }
    assert counted["used"] == counted["ignored"] == counted["failed"] == 1
    assert counted["written"] >= 1


class Crash(BaseException):
    """The process ends here."""


class Writes:
    """Counts what is written to Kafka, and ends the process before a write."""

    def __init__(self, crash_before: int) -> None:
        self.left = crash_before
        self.is_over = False

    def write(self) -> None:
        self.left -= 1
        if self.left < 0:
            self.is_over = True
        if self.is_over:
            raise Crash


class Alerts(MemoryAlerts):
    def __init__(self, writes: Writes) -> None:
        super().__init__()
        self.writes = writes

    async def send(self, transitions: Sequence[Transition]) -> None:
        self.writes.write()
        await super().send(transitions)


class States(MemoryStates):
    def __init__(self, writes: Writes) -> None:
        super().__init__()
        self.writes = writes

    async def save(self, states: Sequence[tuple[int, Transition]]) -> None:
        for state in states:
            self.writes.write()
            await super().save([state])

    async def delete_former(self, partitions: Sequence[int]) -> None:
        self.writes.write()
        await super().delete_former(partitions)

    async def delete(self, keys: Sequence[Any]) -> None:
        for key in keys:
            self.writes.write()
            await super().delete([key])


class SnapshotRecords(MemorySnapshots):
    def __init__(self, writes: Writes) -> None:
        super().__init__(max_bytes=4000)
        self.writes = writes
        self.used = 0

    def pass_or_fail(self) -> None:
        try:
            self.writes.write()
        except Crash:
            # The writing task ends silently with its process.
            raise asyncio.CancelledError from None

    async def load(self, names: Mapping[int, SnapshotName]) -> Mapping[int, StageSnapshot]:
        self.writes.left += 1
        found = await super().load(names)
        self.used += len(found)
        return found


class Partials(MemoryPartials):
    """One partition, read from where it is assigned or rewound to."""

    def __init__(self, writes: Writes, batches: Sequence[PartialBatch]) -> None:
        super().__init__()
        self.writes = writes
        self.batches = batches
        self.position = 0
        self.committed = CommittedOffset(partition=0, offset=0)
        self.is_assigned = False

    async def fetch(self, limit: int, timeout_s: float) -> PartialFetch:  # noqa: ARG002  (a port's arguments)
        rebalance = Rebalance()
        if not self.is_assigned:
            self.is_assigned = True
            self.position = decode_checkpoint(self.committed.offset, self.committed.metadata).start
            rebalance = Rebalance(assigned=(self.committed,))
        first, self.position = self.position, min(self.position + 2, len(self.batches))
        partials = [
            Partial(partition=0, offset=offset, batch=self.batches[offset]) for offset in range(first, self.position)
        ]
        return PartialFetch(rebalance=rebalance, partials=tuple(partials))

    async def rewind(self, partition: int, offset: int) -> None:
        assert partition == 0
        self.position = offset

    async def commit(self, offsets: Sequence[CommittedOffset]) -> bool:
        self.writes.write()
        (self.committed,) = offsets
        return True


RULES = MemoryRules(RuleSet.of(1, [rule("count", "count > threshold"), rule("sum", "sum > 1.0", 2.0)]))


def batches() -> list[PartialBatch]:
    """Return records in which groups fire and resolve in several windows, over three blocks."""
    flushes = []
    for number in range(12):
        block, step = divmod(number, 4)
        start, second = block * 256, number * 4 if number < 11 else 100
        rows = [
            Row(
                RowKey(rule_id, 1, (group,), second // 10 * 10 * SECOND_NS),
                Aggregate(step + 1, step + 1, 1, step * 0.6),
            )
            for rule_id in ("count", "sum")
            for group in "ab"[: 1 + number % 2]
        ]
        progress = BlockProgress(
            source_partition=0,
            source_partitions=1,
            block=block,
            up_to=start + (256 if step == 3 else step + 1),
            previous_up_to=start + step,
            max_event_ns=second * SECOND_NS,
        )
        flushes.append(PartialBatch.of_block(progress=progress, rows=of_rows(rows)))
    return flushes


async def run_with_crash(crash_before: int) -> tuple[set[Any], Checkpoint, int, int]:
    """Return alerts, last checkpoint, how many snapshots were used, and how many writes there were."""
    writes = Writes(crash_before)
    partials, alerts = Partials(writes, batches()), Alerts(writes)
    states, records, clock = States(writes), SnapshotRecords(writes), FakeClock(NOW)
    while True:
        worker = WindowWorker(
            source=partials,
            states=states,
            snapshots=records,
            alerts=alerts,
            rules=RULES,
            metrics=Metrics(),
            clock=clock,
            commit=timedelta(seconds=1),
            idle=timedelta(seconds=1),
            max_groups=100,
            backoff=AT_ONCE,
        )
        partials.is_assigned = False
        try:
            for _ in range(10):
                clock.advance(timedelta(seconds=2))
                await worker.turn()
                await asyncio.sleep(0)
            await worker.finish()
        except Crash:
            writes.left, writes.is_over = 10**6, False
            continue
        checkpoint = decode_checkpoint(partials.committed.offset, partials.committed.metadata)
        # How far a window had come when an alert fired may differ: what was not published is decided again later.
        steps = {(each.id, each.state, each.first_window_ns) for each in alerts.written}
        return steps, replace(checkpoint, owner="", snapshot=None), records.used, 10**6 - writes.left


async def test_a_crash_between_any_two_writes_changes_nothing() -> None:
    steps, checkpoint, _, writes = await run_with_crash(10**6)
    assert {state for _, state, *_ in steps} == set(TransitionState)
    used = 0
    for crash_before in range(writes):
        result = await run_with_crash(crash_before)
        assert result[:2] == (steps, checkpoint), crash_before
        used += result[2]
    assert used > writes // 4
