"""The window loop's snapshots: written beside judging, named by the next commit, and harmless wherever it stops."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from services.chassis import telemetry
from services.chassis.kafka import CommittedOffset, Rebalance
from services.evaluator.core.partial_rows import PartialBatch
from services.evaluator.core.records import (
    SECOND_NS,
    TransitionState,
)
from services.evaluator.core.window import reading_history
from services.evaluator.core.window.checkpoint import Checkpoint, SnapshotName, decode_checkpoint
from services.evaluator.core.window.snapshot import StageSnapshot
from services.evaluator.worker import snapshots
from tests.unit.evaluator.test_window_worker import ASSIGNED, Loop, flush

pytestmark = pytest.mark.usefixtures("snapshots_always_due")


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
