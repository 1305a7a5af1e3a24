"""The window loop, killed before each of its writes: its successor ends with the same alerts and offsets."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

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
from services.evaluator.core.window.checkpoint import Checkpoint, SnapshotName, decode_checkpoint
from services.evaluator.core.window.snapshot import StageSnapshot
from services.evaluator.metrics import Metrics
from services.evaluator.ports import Partial, PartialFetch
from services.evaluator.worker.window import WindowWorker
from tests.fakes.clock import FakeClock
from tests.fakes.evaluator import NOW, MemoryAlerts, MemoryPartials, MemoryRules, MemorySnapshots, MemoryStates
from tests.unit.evaluator.pipeline import rule
from tests.unit.evaluator.test_window_worker import AT_ONCE

pytestmark = pytest.mark.usefixtures("snapshots_always_due")


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
