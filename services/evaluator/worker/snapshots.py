"""Snapshots of the partitions of this instance: written beside judging, named by checkpoints, read at a restart."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import structlog

from services.chassis.clock import Clock
from services.chassis.failures import Failure
from services.evaluator.core.window.checkpoint import Checkpoint, SnapshotName
from services.evaluator.core.window.reading_history import ReadingHistory
from services.evaluator.core.window.snapshot import StageSnapshot
from services.evaluator.core.window.stage import WindowStage
from services.evaluator.metrics import Metrics, SnapshotOutcome
from services.evaluator.ports import Partial, SnapshotStore

log = structlog.get_logger()

# After an attempt, and after a start, so much passes at least.
_PAUSE_SECONDS = 10.0
# Of the time snapshots take this share at most, where they are due by rows alone.
_MAX_TIME_SHARE = 0.05


@dataclass(slots=True)
class _Kept:
    """What is known of a partition since it was resumed. Changed in place."""

    name: SnapshotName | None
    # Before this time none is written, and before that one none because of many rows.
    next_at: float
    rows_count_at: float = 0.0
    panes: int = 0
    history: ReadingHistory = field(default_factory=ReadingHistory)


class Snapshots:
    """The snapshots of the assigned partitions; at most one is written at a time.

    A snapshot is named only once Kafka has all of it. What is gone with a crash before is read from the records again.
    """

    def __init__(self, store: SnapshotStore, metrics: Metrics, clock: Clock) -> None:
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._kept: dict[int, _Kept] = {}
        self._writing: asyncio.Task[None] | None = None

    async def load(self, checkpoints: Mapping[int, Checkpoint]) -> Mapping[int, StageSnapshot]:
        """Return the snapshots that these checkpoints name, as far as they are whole; raises a transient Failure."""
        names = {
            partition: checkpoint.usable_snapshot
            for partition, checkpoint in checkpoints.items()
            if checkpoint.usable_snapshot is not None
        }
        snapshots = await self._store.load(names)
        for partition, name in names.items():
            is_used = partition in snapshots
            self._metrics.snapshot(SnapshotOutcome.USED if is_used else SnapshotOutcome.IGNORED)
            log.info("snapshot_used" if is_used else "snapshot_not_used", partition=partition, position=name.position)
        # The first ones wait until what was read again has been judged.
        next_at = self._clock.monotonic() + _PAUSE_SECONDS
        for partition in checkpoints:
            self._kept[partition] = _Kept(names[partition] if partition in snapshots else None, next_at)
        return snapshots

    def observe(self, partition: int, partials: Sequence[Partial]) -> None:
        """Take into account how much was read."""
        history = self._kept[partition].history
        for partial in partials:
            history.observe(partial.offset, partial.appended_ns, partial.batch.expanded_rows)

    def named(self, partition: int, stage: WindowStage, checkpoint: Checkpoint) -> Checkpoint:
        """Return the checkpoint with the name of the last snapshot, if that saves something and counts."""
        name = self._kept[partition].name
        if name is None or name.position <= checkpoint.offset or name.position < stage.snapshots_from:
            return checkpoint
        return replace(checkpoint, snapshot=name)

    def write_due(self, stages: Mapping[int, WindowStage], checkpoints: Mapping[int, Checkpoint], now_ns: int) -> None:
        """Begin to write the snapshot of one partition, if one is due."""
        if self._writing is not None and not self._writing.done():
            return
        now = self._clock.monotonic()
        # The one that has waited longest is first.
        for partition in sorted(stages, key=lambda each: self._kept[each].next_at):
            stage, kept, checkpoint = stages[partition], self._kept[partition], checkpoints[partition]
            named = self.named(partition, stage, checkpoint).snapshot
            position = named.position if named else None
            if (
                now >= kept.next_at
                and stage.is_caught_up
                and stage.position >= stage.snapshots_from
                and kept.history.is_snapshot_due(
                    checkpoint.offset, position, kept.panes, may_save_rows=now >= kept.rows_count_at
                )
            ):
                # A shorter pause follows once it is written.
                kept.next_at = now + _PAUSE_SECONDS
                self._writing = asyncio.create_task(self._write(partition, kept, stage.snapshot(now_ns)))
                return

    def forget(self, partitions: Collection[int]) -> None:
        """Name no snapshot of partitions that were revoked, also none that is still being written."""
        for partition in partitions:
            self._kept.pop(partition, None)

    async def close(self) -> None:
        """Leave the one that is being written: nothing names it."""
        if self._writing is not None:
            self._writing.cancel()
            with suppress(asyncio.CancelledError):
                await self._writing

    async def _write(self, partition: int, kept: _Kept, snapshot: StageSnapshot) -> None:
        began = self._clock.monotonic()
        try:
            name = await self._store.save(partition, snapshot)
        except Exception as error:
            # A snapshot only makes a restart faster: whatever is wrong with it must not end the judging.
            self._metrics.snapshot(SnapshotOutcome.FAILED)
            if isinstance(error, Failure):
                log.warning("snapshot_not_written", partition=partition, reason=error.reason)
            else:
                log.exception("snapshot_not_written", partition=partition)
            return
        # If the partition was revoked or resumed meanwhile, this is not what is kept of it any more.
        kept.name, kept.panes = name, len(snapshot.table.codes)
        ended = self._clock.monotonic()
        kept.next_at, kept.rows_count_at = ended, ended + (ended - began) / _MAX_TIME_SHARE
        self._metrics.snapshot(SnapshotOutcome.WRITTEN)
        log.info(
            "snapshot_written",
            partition=partition,
            position=name.position,
            panes=kept.panes,
            records=name.last - name.first + 1,
            seconds=round(ended - began, 3),
        )
