"""The window loop: fetch, merge, judge, tell, commit."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import uuid4

import structlog

from services.chassis.backoff import Backoff
from services.chassis.clock import Clock
from services.chassis.failures import Failure
from services.evaluator.core.records import SECOND_NS, Transition, duration_ns, moment_ns
from services.evaluator.core.rules import STORES, RuleSet
from services.evaluator.core.window.checkpoint import Checkpoint, decode_checkpoint, encode_checkpoint
from services.evaluator.core.window.sequence import FlushOrder
from services.evaluator.core.window.stage import WindowStage
from services.evaluator.metrics import Figures, Metrics
from services.evaluator.ports import (
    CommittedOffset,
    Partial,
    PartialSource,
    Rebalance,
    Rules,
    StateStore,
    TransitionSink,
)
from services.evaluator.worker.transition_publisher import PendingTransition, TransitionPublisher

log = structlog.get_logger()

_FETCH_RECORDS = 200
# What was judged before goes the faster the more is read at once.
_REPLAY_RECORDS = 2000
_FETCH_SECONDS = 0.25
# After so many records others get a turn on the event loop.
_STRETCH_RECORDS = 10


class WindowWorker:
    """Judges the partitions of `window-partials` that this instance has.

    A partition is taken up from its committed mark with the states of its groups, and is then exactly where it was.
    What is decided is told before anything is committed; telling it twice changes nothing.
    """

    def __init__(
        self,
        *,
        source: PartialSource,
        states: StateStore,
        alerts: TransitionSink,
        rules: Rules,
        metrics: Metrics,
        clock: Clock,
        commit: timedelta,
        idle: timedelta,
        retry: Backoff = Backoff(),
    ) -> None:
        self._source = source
        self._states = states
        self._teller = TransitionPublisher(
            alerts=alerts, states=states, metrics=metrics, is_stopping=lambda: self._is_stopping, retry=retry
        )
        self._backlog = self._teller.backlog
        self._rules = rules
        self._metrics = metrics
        self._clock = clock
        self._commit_seconds = commit.total_seconds()
        self._idle_ns = duration_ns(idle)
        self._retry = retry
        self._stages: dict[int, WindowStage] = {}
        self._committed: dict[int, Checkpoint] = {}
        self._behind: set[int] = set()
        self._learned: RuleSet | None = None
        self._read_again: set[tuple[int, int, int]] = set()
        self._commit_at = 0.0
        self._is_stopping = False

    def stop(self) -> None:
        """Take nothing more."""
        self._is_stopping = True

    async def run(self) -> None:
        """Work until stopped. Nothing is judged before the rules are known."""
        await self._rules.known()
        while not self._is_stopping:
            await self.turn()
        await self._commit()

    async def turn(self) -> None:
        """Fetch once, judge, tell, and commit if it is time."""
        judged_until = {partition: stage.judged_until for partition, stage in self._stages.items()}
        most = _REPLAY_RECORDS if self._behind else _FETCH_RECORDS
        # While there is something to tell, what comes meanwhile is taken in between: it may be more urgent.
        patience = 0.0 if self._backlog else _FETCH_SECONDS
        fetched = await self._source.fetch(most, patience, judged_until)
        await self._reassign(fetched.rebalance)
        self._learn()
        await self._observe(fetched.partials)
        self._report_restored()
        await self._teller.publish()
        if self._clock.monotonic() >= self._commit_at:
            await self._commit()

    async def _reassign(self, rebalance: Rebalance) -> None:
        for partition in rebalance.revoked:
            self._stages.pop(partition, None)
            self._behind.discard(partition)
        self._backlog.discard(rebalance.revoked)
        marks = {mark.partition: decode_checkpoint(mark.offset, mark.metadata) for mark in rebalance.assigned}
        await self._take_up(marks)

    async def _take_up(self, checkpoints: dict[int, Checkpoint]) -> None:
        if not checkpoints:
            return
        owners = {partition: uuid4().hex for partition in checkpoints}
        states = await self._load({partition: at.owner for partition, at in checkpoints.items()}, owners)
        if states is None:
            return
        for partition, checkpoint in checkpoints.items():
            self._committed[partition] = checkpoint
            self._behind.add(partition)
            self._stages[partition] = WindowStage.restored(
                checkpoint, states.get(partition, ()), self._idle_ns, owners[partition]
            )
        # Every stage learns the rules anew; for those that know them this changes nothing.
        self._learned = None

    async def _load(self, former: dict[int, str], owners: dict[int, str]) -> Mapping[int, Sequence[Transition]] | None:
        """Read the states; None when the service stops before they are there."""
        attempt = 0
        while not self._is_stopping:
            try:
                return await self._states.take_up(former, owners)
            except Failure as failure:
                log.warning("states_delayed", reason=failure.reason, partitions=sorted(owners))
                await asyncio.sleep(self._retry.delay(attempt).total_seconds())
                attempt += 1
        return None

    def _learn(self) -> None:
        rules = self._rules.current
        if rules is None or rules is self._learned:
            return
        self._learned = rules
        now_ns = self._now_ns()
        for partition, stage in self._stages.items():
            self._backlog.add(
                PendingTransition(partition, transition) for transition in stage.update_rules(rules, now_ns)
            )

    async def _observe(self, partials: Sequence[Partial]) -> None:
        spoilt: dict[int, Checkpoint] = {}
        for count, partial in enumerate(partials, start=1):
            if partial.partition in self._stages and partial.partition not in spoilt:
                self._merge(partial, spoilt)
            if count % _STRETCH_RECORDS == 0:
                await asyncio.sleep(0)
        await self._read_anew(spoilt)

    def _merge(self, partial: Partial, spoilt: dict[int, Checkpoint]) -> None:
        observed = self._stages[partial.partition].observe(partial.offset, partial.batch, self._now_ns())
        if observed.late_events:
            self._metrics.late(observed.late_events)
        if observed.flush_order is FlushOrder.GAP and self._is_new_gap(partial):
            spoilt[partial.partition] = self._committed[partial.partition]
        self._backlog.add(
            PendingTransition(partial.partition, each, partial.traceparent) for each in observed.transitions
        )

    def _is_new_gap(self, partial: Partial) -> bool:
        """Count a gap when it is seen first. When reading again does not fill it, it stays."""
        progress = partial.batch.progress
        gap = partial.partition, progress.source_partition, partial.offset
        is_new = gap not in self._read_again
        if is_new:
            self._read_again.add(gap)
            self._metrics.gap()
            log.error("gap_noticed", partition=gap[0], source_partition=gap[1], offset=gap[2], block=progress.block)
        return is_new

    async def _read_anew(self, spoilt: dict[int, Checkpoint]) -> None:
        self._backlog.discard(spoilt)
        for partition, checkpoint in spoilt.items():
            await self._source.rewind(partition, checkpoint.offset)
        await self._take_up(spoilt)

    async def _commit(self) -> None:
        self._commit_at = self._clock.monotonic() + self._commit_seconds
        now_ns = self._now_ns()
        checkpoints = {partition: stage.checkpoint(now_ns) for partition, stage in self._stages.items()}
        self._report(checkpoints, now_ns)
        untold = self._backlog.partitions()
        changed = {
            each: at for each, at in checkpoints.items() if each not in untold and at != self._committed.get(each)
        }
        marks = [
            CommittedOffset(partition=each, offset=at.offset, metadata=encode_checkpoint(at))
            for each, at in changed.items()
        ]
        if marks and await self._source.commit(marks):
            self._committed.update(changed)
            await self._forget(changed)

    async def _forget(self, committed: dict[int, Checkpoint]) -> None:
        keys = [
            (partition, rule_id, group)
            for partition, checkpoint in committed.items()
            for rule_id, group in self._stages[partition].expire(checkpoint)
        ]
        try:
            await self._states.clear(list(committed))
            if keys:
                await self._states.forget(keys)
        except Failure as failure:
            # What is kept too long is read at the next start, and goes then.
            log.warning("states_kept", reason=failure.reason, groups=len(keys))

    def _report(self, checkpoints: dict[int, Checkpoint], now_ns: int) -> None:
        figures = {}
        for partition, stage in self._stages.items():
            watermark_ns = checkpoints[partition].watermark_ns
            figures[partition] = Figures(
                watermark_age=None if watermark_ns is None else (now_ns - watermark_ns) / SECOND_NS,
                open_groups=stage.open_groups,
                firing_groups=stage.firing_groups,
            )
        self._metrics.stages(figures)

    def _report_restored(self) -> None:
        """Say what is in the stores once everything that was there before has been read again."""
        if not self._behind or not all(self._stages[each].is_caught_up for each in self._behind):
            return
        partitions = sorted(self._behind)
        self._behind.clear()
        rules = self._rules.current
        kinds = Counter(compiled.rule.type for compiled in rules.rules.values()) if rules else Counter()
        for kind, store in STORES.items():
            held = [self._stages[each].count_groups(kind) for each in partitions]
            log.info(
                "store_restored",
                store=store,
                partitions=partitions,
                rules=kinds[kind],
                groups=sum(groups for groups, _ in held),
                firing=sum(firing for _, firing in held),
            )

    def _now_ns(self) -> int:
        return moment_ns(self._clock.now())
