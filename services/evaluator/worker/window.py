"""The window loop: fetch, merge, judge, publish, commit."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import structlog

from services.chassis.backoff import Backoff, failure_reason, retrying
from services.chassis.clock import Clock
from services.chassis.failures import Failure
from services.chassis.kafka import CommittedOffset, Rebalance
from services.contract.timestamps import timestamp_of_nanoseconds
from services.domain.tenants import TenantLimits
from services.evaluator.core.records import SECOND_NS, BlockProgress, Transition, duration_ns, moment_ns
from services.evaluator.core.rules import STORES, RuleSet
from services.evaluator.core.window.checkpoint import Checkpoint, decode_checkpoint, encode_checkpoint
from services.evaluator.core.window.group_limit import GroupLimit, GroupLimitKind
from services.evaluator.core.window.snapshot import StageSnapshot
from services.evaluator.core.window.stage import WindowStage
from services.evaluator.core.window.step import Outcome
from services.evaluator.metrics import Metrics, PartitionState
from services.evaluator.ports import Partial, PartialSource, Rules, SnapshotStore, StateStore, TransitionSink
from services.evaluator.worker.snapshots import Snapshots
from services.evaluator.worker.stage_worker import StageWorker
from services.evaluator.worker.transition_publisher import PendingTransition, TransitionPublisher

log = structlog.get_logger()

_FETCH_RECORDS = 200
# Records that were judged before are the faster to process the more of them are read at once.
_REPLAY_RECORDS = 2000
_FETCH_SECONDS = 0.25
_NO_LIMITS = TenantLimits()
# The last transitions of groups, and snapshots, by partition.
_Loaded = tuple[Mapping[int, Sequence[Transition]], Mapping[int, StageSnapshot]]
# After so many records of a partition at once the event loop runs other tasks.
_RECORDS_BEFORE_YIELD = 100


class WindowWorker(StageWorker):
    """Judges the partitions of `window-partials` that are assigned to this instance.

    A partition is resumed from its checkpoint with the states of its groups, and is then exactly where it was. What is
    decided is published before anything is committed; publishing it twice changes nothing.
    """

    def __init__(
        self,
        *,
        source: PartialSource,
        states: StateStore,
        snapshots: SnapshotStore,
        alerts: TransitionSink,
        rules: Rules,
        metrics: Metrics,
        clock: Clock,
        commit: timedelta,
        idle: timedelta,
        max_groups: int,
        tenant_groups: TenantLimits = _NO_LIMITS,
        backoff: Backoff = Backoff(),
    ) -> None:
        super().__init__(rules)
        self._source = source
        self._states = states
        self._snapshots = Snapshots(snapshots, metrics, clock)
        self._publisher = TransitionPublisher(
            alerts=alerts, states=states, metrics=metrics, is_stopping=self.is_stopping, backoff=backoff
        )
        self._backlog = self._publisher.backlog
        self._metrics = metrics
        self._clock = clock
        self._commit_seconds = commit.total_seconds()
        self._idle_ns = duration_ns(idle)
        self._max_groups = max_groups
        self._tenant_groups = tenant_groups
        self._backoff = backoff
        self._stages: dict[int, WindowStage] = {}
        self._committed: dict[int, Checkpoint] = {}
        self._behind: set[int] = set()
        self._applied_rules: RuleSet | None = None
        self._known_gaps: set[tuple[int, int, int]] = set()
        self._commit_at = 0.0

    async def turn(self) -> None:
        """Fetch once, judge, publish, and commit if it is time."""
        limit = _REPLAY_RECORDS if self._behind else _FETCH_RECORDS
        # While transitions wait to be published, new records are judged in between: theirs may be more urgent.
        timeout_s = 0.0 if self._backlog else _FETCH_SECONDS
        fetched = await self._source.fetch(limit, timeout_s)
        await self._apply(fetched.rebalance)
        self._update_rules()
        await self._observe(fetched.partials)
        self._report_restored()
        await self._publisher.publish()
        if self._clock.monotonic() >= self._commit_at:
            await self._commit()

    async def finish(self) -> None:
        """Commit what was published."""
        await self._commit()
        await self._snapshots.close()

    async def _apply(self, rebalance: Rebalance) -> None:
        for partition in rebalance.revoked:
            self._stages.pop(partition, None)
            self._behind.discard(partition)
        self._snapshots.forget(rebalance.revoked)
        self._backlog.discard(rebalance.revoked)
        await self._resume(
            {
                committed.partition: decode_checkpoint(committed.offset, committed.metadata)
                for committed in rebalance.assigned
            }
        )

    async def _resume(self, checkpoints: dict[int, Checkpoint]) -> None:
        if not checkpoints:
            return
        owners = {partition: uuid4().hex for partition in checkpoints}
        loaded = await self._load(checkpoints, owners)
        if loaded is None:
            return
        states, snapshots = loaded
        for partition, checkpoint in checkpoints.items():
            snapshot = snapshots.get(partition)
            limit = GroupLimit(
                max_groups=self._max_groups,
                partition=partition,
                partitions=self._source.partition_count,
                of_tenants=self._tenant_groups,
            )
            # Beside the event loop: a snapshot may have a million panes.
            stage = await asyncio.to_thread(
                WindowStage.restored,
                checkpoint,
                states.get(partition, ()),
                self._idle_ns,
                owners[partition],
                snapshot=snapshot,
                limit=limit,
            )
            if snapshot is None and checkpoint.start != checkpoint.offset:
                await self._source.rewind(partition, checkpoint.offset)
            self._committed[partition] = checkpoint
            self._behind.add(partition)
            self._stages[partition] = stage
        # Every stage gets the rules again; for those that have them this changes nothing.
        self._applied_rules = None

    async def _load(self, checkpoints: dict[int, Checkpoint], owners: dict[int, str]) -> _Loaded | None:
        """Return states and snapshots, however long it takes; return None if the service stops before."""
        former = {partition: checkpoint.owner for partition, checkpoint in checkpoints.items()}

        async def load() -> _Loaded:
            return await self._states.load(former, owners), await self._snapshots.load(checkpoints)

        if self._is_stopping:
            return None
        try:
            return await retrying(
                load,
                log_event="states_delayed",
                backoff=self._backoff,
                retry_reason=failure_reason,
                is_stopping=self.is_stopping,
                partitions=sorted(owners),
            )
        except Failure:
            return None

    def _update_rules(self) -> None:
        rules = self._rules.current
        if rules is None or rules is self._applied_rules:
            return
        self._applied_rules = rules
        now_ns = self._now_ns()
        for partition, stage in self._stages.items():
            self._backlog.add(
                PendingTransition(partition, transition) for transition in stage.update_rules(rules, now_ns)
            )

    async def _observe(self, partials: Sequence[Partial]) -> None:
        of_partition: dict[int, list[Partial]] = {}
        for partial in partials:
            of_partition.setdefault(partial.partition, []).append(partial)
        incomplete: dict[int, Checkpoint] = {}
        for partition in of_partition.keys() & self._stages.keys():
            # Those before the position of a snapshot were fetched before it was read.
            position = self._stages[partition].position
            records = [partial for partial in of_partition[partition] if partial.offset >= position]
            self._snapshots.observe(partition, records)
            for first in range(0, len(records), _RECORDS_BEFORE_YIELD):
                if partition not in incomplete:
                    self._judge(partition, records[first : first + _RECORDS_BEFORE_YIELD], incomplete)
                await asyncio.sleep(0)
        await self._read_again(incomplete)

    def _judge(self, partition: int, partials: Sequence[Partial], incomplete: dict[int, Checkpoint]) -> None:
        records = [(partial.offset, partial.batch) for partial in partials]
        observed = self._stages[partition].observe(records, self._now_ns())
        if observed.late_events or observed.late_by_rule:
            self._metrics.late(observed.late_events, observed.late_by_rule)
        self._report_limits(partition, observed)
        if any(self._is_new_gap(partition, offset, progress) for offset, progress in observed.gaps):
            # Not from a snapshot: what is missing may be older.
            incomplete[partition] = replace(self._committed[partition], snapshot=None)
        # What one flush of the match stage wrote has one trace.
        flush = next((partial.traceparent for partial in reversed(partials) if partial.traceparent), "")
        self._backlog.add(PendingTransition(partition, transition, flush) for transition in observed.transitions)

    def _report_limits(self, partition: int, observed: Outcome) -> None:
        """Report which rules have more groups in a window than they may have."""
        if observed.beyond_limit:
            self._metrics.beyond_limit(observed.beyond_limit)
        rules = self._applied_rules.rules if self._applied_rules else {}
        for rule_id, start_ns, limit in observed.limited_windows:
            compiled = rules.get(rule_id)
            tenant = compiled.rule.tenant if compiled else ""
            log.warning(
                "group_limit_reached",
                rule_id=rule_id,
                tenant=tenant,
                partition=partition,
                window_start=timestamp_of_nanoseconds(start_ns).ToJsonString(),
                limit=limit.value,
                max_groups=self._tenant_groups.of(tenant) if limit is GroupLimitKind.TENANT else self._max_groups,
            )

    def _is_new_gap(self, partition: int, offset: int, progress: BlockProgress) -> bool:
        """Count a gap once. If reading again does not fill it, it stays."""
        gap = partition, progress.source_partition, offset
        is_new = gap not in self._known_gaps
        if is_new:
            self._known_gaps.add(gap)
            self._metrics.gap()
            log.error("gap_detected", partition=gap[0], source_partition=gap[1], offset=gap[2], block=progress.block)
        return is_new

    async def _read_again(self, incomplete: dict[int, Checkpoint]) -> None:
        self._backlog.discard(incomplete)
        for partition, checkpoint in incomplete.items():
            await self._source.rewind(partition, checkpoint.offset)
        await self._resume(incomplete)

    async def _commit(self) -> None:
        self._commit_at = self._clock.monotonic() + self._commit_seconds
        now_ns = self._now_ns()
        checkpoints: dict[int, Checkpoint] = {}
        for partition, stage in self._stages.items():
            checkpoints[partition] = self._snapshots.named(partition, stage, stage.checkpoint(now_ns))
            # Where many groups of a rule that ended are freed, other tasks run in between.
            await asyncio.sleep(0)
        self._report(checkpoints, now_ns)
        unpublished = self._backlog.partitions()
        changed = {
            partition: checkpoint
            for partition, checkpoint in checkpoints.items()
            if partition not in unpublished and checkpoint != self._committed.get(partition)
        }
        offsets = [
            CommittedOffset(partition=partition, offset=checkpoint.offset, metadata=encode_checkpoint(checkpoint))
            for partition, checkpoint in changed.items()
        ]
        if offsets and await self._source.commit(offsets):
            self._committed.update(changed)
            await self._delete_expired(changed)
        self._snapshots.write_due(self._stages, checkpoints, now_ns)

    async def _delete_expired(self, committed: dict[int, Checkpoint]) -> None:
        keys = [
            (partition, rule_id, group)
            for partition, checkpoint in committed.items()
            for rule_id, group in self._stages[partition].expire(checkpoint)
        ]
        try:
            await self._states.delete_former(list(committed))
            if keys:
                await self._states.delete(keys)
        except Failure as failure:
            # States that are not deleted are read at the next start, and expire then.
            log.warning("states_not_deleted", reason=failure.reason, groups=len(keys))

    def _report(self, checkpoints: dict[int, Checkpoint], now_ns: int) -> None:
        states = {}
        for partition, stage in self._stages.items():
            watermark_ns = checkpoints[partition].watermark_ns
            open_groups, firing_groups = stage.count_groups()
            states[partition] = PartitionState(
                watermark_age=None if watermark_ns is None else (now_ns - watermark_ns) / SECOND_NS,
                open_groups=open_groups,
                firing_groups=firing_groups,
                tenant_groups=stage.windows.table.tenants.count(stage.windows.table.windows),
            )
        self._metrics.partitions(states)

    def _report_restored(self) -> None:
        """Log what the stores contain once all records that were judged before are read again."""
        if not self._behind or not all(self._stages[partition].is_caught_up for partition in self._behind):
            return
        partitions = sorted(self._behind)
        self._behind.clear()
        rules = self._rules.current
        kinds = Counter(compiled.rule.type for compiled in rules.rules.values()) if rules else Counter()
        for kind, store in STORES.items():
            counts = [self._stages[partition].count_groups(kind) for partition in partitions]
            log.info(
                "windows_restored",
                store=store,
                partitions=partitions,
                rules=kinds[kind],
                groups=sum(groups for groups, _ in counts),
                firing=sum(firing for _, firing in counts),
            )

    def _now_ns(self) -> int:
        return moment_ns(self._clock.now())
