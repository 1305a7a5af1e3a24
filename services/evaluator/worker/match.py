"""The match loop: fetch, match, flush, commit at block borders."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from math import inf

import structlog

from services.chassis.backoff import Backoff, failure_reason, retrying
from services.chassis.clock import Clock
from services.chassis.failures import Failure
from services.chassis.kafka import CommittedOffset, Rebalance
from services.chassis.telemetry import in_trace_of, links_of, tracer
from services.domain.trace_context import headers_of
from services.evaluator.core.match.aggregation import MatchOutcome, match_events
from services.evaluator.core.match.blocks import SourcePartition, flush_sources
from services.evaluator.core.match.canaries import busy_partitions
from services.evaluator.core.match.cpu_meter import CpuClock
from services.evaluator.core.match.early_flush import flush_early
from services.evaluator.core.match.events import EventBatch
from services.evaluator.core.match.pacing import FlushedRows, early_pause_seconds, fetch_limit, pause_seconds
from services.evaluator.core.match.rule_swap import RuleSwap, swap_rules
from services.evaluator.core.match.sent_block import SentBlock, encode_sent, sent_up_to
from services.evaluator.core.match.traces import Sampled, SampledTraces, sample_traces
from services.evaluator.core.partial_rows import PartialBatch
from services.evaluator.core.records import moment_ns
from services.evaluator.core.rules import CompiledRule, RuleSet
from services.evaluator.metrics import Metrics
from services.evaluator.ports import DeadLetters, LogFetch, LogSource, PartialSink, Rules, UnreadableRecord
from services.evaluator.worker.kept_records import KeptRecords, match_kept
from services.evaluator.worker.rule_supervisor import RuleSupervisor
from services.evaluator.worker.stage_worker import StageWorker

log = structlog.get_logger()

_IDLE_CHECK_SECONDS = 1.0
_MAX_LINKS = 32
# How often is committed what was sent of blocks that are not complete, and after which rows at once: to send them again
# would cost more.
_COMMIT_SECONDS = 1.0
_MANY_ROWS = 5_000
# A rule that is new is counted from the start of the current blocks, whose records are kept for that up to this size.
_MAX_KEPT_BYTES = 64 << 20
# Where one rule after the other is written, the current blocks begin again only so often.
_BEGIN_AGAIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchLimits:
    """How much is fetched at once, how often is flushed, and after which silence a partition is idle."""

    fetch_records: int
    flush: timedelta
    idle: timedelta


class MatchWorker(StageWorker):
    """Counts what rules select in the partitions of `log-events` that are assigned to this instance.

    A record is committed once its whole block is in `window-partials`. A crash, a rebalance or a failed flush begins
    the current blocks again; what was sent of them before, and is not committed as sent, is then sent again, which
    changes nothing.
    """

    def __init__(
        self,
        *,
        source: LogSource,
        sink: PartialSink,
        dead_letters: DeadLetters,
        rules: Rules,
        metrics: Metrics,
        clock: Clock,
        limits: MatchLimits,
        supervisor: RuleSupervisor,
        traces: SampledTraces,
        cpu_clock: CpuClock,
        backoff: Backoff = Backoff(),
    ) -> None:
        super().__init__(rules)
        self._source = source
        self._sink = sink
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._clock = clock
        self._limits = limits
        self._interval_s = limits.flush.total_seconds()
        self._supervisor = supervisor
        self._traces = traces
        self._cpu_clock = cpu_clock
        self._backoff = backoff
        self._sources: dict[int, SourcePartition] = {}
        self._kept = KeptRecords(_MAX_KEPT_BYTES)
        self._committed: dict[int, CommittedOffset] = {}
        # What could be committed: as of the last flush that was delivered.
        self._delivered: dict[int, CommittedOffset] = {}
        self._commit_at = 0.0
        self._busy_at: dict[int, float] = {}
        self._idle_check_at = 0.0
        self._flush_at = 0.0
        # Without an end where no rows are sent before others.
        self._early_pause_s = self._early_flush_at = inf
        # The CPU that it took to match and to flush since the last flush, and the time that matching waited for a
        # processor; waiting for Kafka is no work.
        self._work_s = 0.0
        # The CPU of the rules' own work for each record of the fetch that was measured last.
        self._record_s = 0.0
        self._failed_flushes = 0
        self._events = 0
        self._selected: Counter[str] = Counter()
        self._traceparents: list[str] = []
        self._rules_in_use: RuleSet | None = None
        self._begin_again_at = float("-inf")
        self._compiling: asyncio.Task[Callable[[], None]] | None = None
        self._logged_expressions: set[str] = set()

    async def turn(self) -> None:
        """Fetch once, and flush if it is time. When nothing has come by then, the next record is flushed at once."""
        await self._swap_rules()
        self._supervisor.turn(self._rules_in_use)
        fetched = await self._fetch()
        started_s = self._cpu_clock()
        self._apply(fetched.rebalance)
        await self._dead_letter(fetched.unreadable)
        await self._match(fetched)
        if self._clock.monotonic() >= min(self._flush_at, self._early_flush_at):
            await self._flush_early()
        rows = await self._flush() if self._clock.monotonic() >= self._flush_at else None
        self._work_s += self._cpu_clock() - started_s
        if rows is not None:
            pause_s = pause_seconds(interval_s=self._interval_s, work_s=self._work_s, rows=rows)
            self._flush_at, self._work_s = self._clock.monotonic() + pause_s, 0.0
            self._early_pause_s = early_pause_seconds(interval_s=self._interval_s, rows=rows)
            self._early_flush_at = self._clock.monotonic() + self._early_pause_s
        if self._clock.monotonic() >= self._commit_at:
            await self._commit()

    async def finish(self) -> None:
        """Flush what was matched."""
        await self._flush()
        await self._commit()

    async def _swap_rules(self) -> None:
        """Use new rules, if it is time."""
        rules, now = self._rules.current, self._clock.monotonic()
        if rules is None or rules is self._rules_in_use:
            return
        swap = swap_rules(
            self._rules_in_use,
            rules,
            is_at_border=all(source.is_at_border for source in self._sources.values()),
            may_begin_again=now >= self._begin_again_at,
        )
        if swap is RuleSwap.KEEP:
            return
        before, self._rules_in_use = self._rules_in_use, rules
        if before and swap is RuleSwap.BEGIN_AGAIN:
            self._begin_again_at = now + _BEGIN_AGAIN_SECONDS
            log.info("blocks_begun_again", rules_revision=rules.revision)
            await self._begin_again_with(rules, rules.selecting_more(before))

    async def _begin_again_with(self, rules: RuleSet, again: frozenset[CompiledRule]) -> None:
        """Begin the current blocks again: where their tenants' records are kept these rules alone, else all."""
        tenants = frozenset(compiled.rule.tenant for compiled in again)
        records = self._kept.of_tenants(tenants, self._sources)
        if records is None:
            await self._rewind()
            return
        self._supervisor.use(rules)
        selected = await match_kept(
            records, rules, again, self._sources, source=self._source, supervisor=self._supervisor
        )
        for compiled in again:
            del self._selected[compiled.rule.id]
        self._selected.update(selected)

    async def _fetch(self) -> LogFetch:
        pause_s = min(self._flush_at, self._early_flush_at) - self._clock.monotonic()
        fill = pause_s > 0 or any(source.has_unflushed_records for source in self._sources.values())
        timeout_s = max(pause_s, 0.0) if fill else self._interval_s
        limit = fetch_limit(
            max_records=self._limits.fetch_records, interval_s=self._interval_s, record_s=self._record_s
        )
        return await self._source.fetch(limit, timeout_s, fill=fill)

    def _apply(self, rebalance: Rebalance) -> None:
        for partition in rebalance.revoked:
            self._sources.pop(partition, None)
            self._delivered.pop(partition, None)
            self._kept.forget(partition)
        for committed in rebalance.assigned:
            self._sources[committed.partition] = self._resumed(committed)
            self._committed[committed.partition] = committed
            self._busy_at[committed.partition] = self._clock.monotonic()

    def _resumed(self, committed: CommittedOffset) -> SourcePartition:
        up_to = sent_up_to(
            committed.metadata, start=committed.offset, outputs=self._sink.outputs, selections=self._selections
        )
        return SourcePartition.at(committed.partition, committed.offset, sent_before=up_to)

    async def _dead_letter(self, unreadable: tuple[UnreadableRecord, ...]) -> None:
        published = await asyncio.gather(*map(self._publish, unreadable))
        if not all(published):
            # The service stops without a dead letter: no record after it may be committed.
            self._sources.clear()

    async def _publish(self, unreadable: UnreadableRecord) -> bool:
        """Publish a dead letter, however long it takes; return False if the service stops before Kafka has it."""
        record = unreadable.record
        if self._is_stopping:
            return False
        try:
            await retrying(
                lambda: self._dead_letters.publish(record, unreadable.reason),
                log_event="dead_letter_failed",
                backoff=self._backoff,
                retry_reason=failure_reason,
                is_stopping=self.is_stopping,
            )
        except Failure:
            return False
        self._metrics.unreadable()
        with in_trace_of(record.headers):
            log.error(
                "record_dead_lettered", reason=unreadable.reason, partition=record.partition, offset=record.offset
            )
        return True

    async def _match(self, fetched: LogFetch) -> None:
        events, rules = fetched.events, self._rules_in_use
        if rules is None or not events.records or not self._sources:
            return
        if len(rules.tenants) > 1:
            self._kept.add(fetched.records, events.records)
        else:
            self._kept.clear()
        started = self._clock.monotonic()
        self._busy_at.update(dict.fromkeys(busy_partitions(events), started))
        await self._compile_beside(rules)
        self._supervisor.use(rules)
        clock = self._supervisor.clock_for_fetch()
        match = partial(match_events, events, rules, self._sources, self._supervisor.set_aside, clock)
        (matched, cpu), traced = await asyncio.to_thread(self._match_and_sample, match, events)
        self._traces.add(traced)
        self._report_over_step_limit(events.columns.over_step_limit)
        for source in self._sources.values():
            source.skip_sent()
        self._events += matched.events
        self._selected.update(matched.selected)
        self._traceparents += [record.traceparent for record in events.records if record.traceparent]
        seconds = self._clock.monotonic() - started
        if clock is not None:
            self._record_s = sum(matched.costs.values()) / len(events.records)
        self._work_s += max(seconds - cpu, 0.0)
        self._supervisor.fetched(matched, busy=seconds, cpu=cpu, is_measured=clock is not None)
        self._metrics.matched(seconds)

    def _match_and_sample(
        self, match: Callable[[], MatchOutcome], events: EventBatch
    ) -> tuple[tuple[MatchOutcome, float], Sampled]:
        """Match a fetch, and sample its traces, in one thread."""
        return self._supervisor.timed(match), sample_traces(events, self._traces.max_priority)

    async def _compile_beside(self, rules: RuleSet) -> None:
        """Compile again what has turned out to be slow, beside the fetches, and put it to use between two of them."""
        if self._compiling is not None and self._compiling.done():
            use = await self._compiling
            use()
            self._compiling = None
        if self._compiling is None and rules.plan.needs_compiling:
            self._compiling = asyncio.create_task(asyncio.to_thread(rules.plan.compile), name="compile patterns")

    def _report_over_step_limit(self, events: Mapping[str, int]) -> None:
        """Count the events on which an expression gave up; log the first of each expression."""
        self._metrics.over_step_limit(sum(events.values()))
        for text in events.keys() - self._logged_expressions:
            log.error("expression_step_limit_reached", expression=text, events=events[text])
        self._logged_expressions |= events.keys()

    async def _flush_early(self) -> None:
        """Send changed rows that cost little, before the others and while those wait; commit nothing."""
        self._early_flush_at = self._clock.monotonic() + self._early_pause_s
        if self._rules_in_use is None or len(self._rules_in_use.rules) == 1:
            return
        batches = flush_early(
            self._sources.values(),
            self._rules_in_use,
            outputs=self._sink.outputs,
            source_partitions=self._source.partition_count,
        )
        if not batches:
            return
        with tracer(__name__).start_as_current_span("flush window-partials early"):
            try:
                await self._sink.send(batches)
            except Failure as failure:
                await self._begin_again(failure)

    async def _flush(self) -> FlushedRows | None:
        """Send the rows that changed, and commit whole blocks; return how many rows, None if nothing is new."""
        batches = self._changed(await self._idle_since_ns())
        rows = FlushedRows(
            written=sum(len(batch.rows) for _, batch in batches),
            expanded=sum(batch.expanded_rows for _, batch in batches),
        )
        traceparents, self._traceparents = self._traceparents, []
        events, self._events = self._events, 0
        selected, self._selected = self._selected, Counter()
        if not batches:
            return None
        links = links_of(map(headers_of, traceparents), limit=_MAX_LINKS)
        with tracer(__name__).start_as_current_span("flush window-partials", links=links):
            try:
                await self._sink.send(batches)
            except Failure as failure:
                await self._begin_again(failure)
                return rows
        self._failed_flushes = 0
        self._metrics.flushed(events, rows.written)
        self._metrics.rules_evaluated(selected, self._clock.now())
        for source in self._sources.values():
            source.mark_counted()
            self._kept.drop_before(source.partition, source.commit_offset)
            self._delivered[source.partition] = self._sent(source)
        has_ended = any(each.offset > self._committed[partition].offset for partition, each in self._delivered.items())
        if has_ended or rows.written > _MANY_ROWS:
            await self._commit()
        return rows

    def _changed(self, idle_ns: dict[int, int]) -> list[tuple[int, PartialBatch]]:
        return flush_sources(
            self._sources.values(),
            outputs=self._sink.outputs,
            source_partitions=self._source.partition_count,
            idle_ns=idle_ns,
            rules_revision=self._rules_in_use.revision if self._rules_in_use else 0,
        )

    async def _idle_since_ns(self) -> dict[int, int]:
        """Return the time of asking for each partition that has been silent for a while and has no more records."""
        now = self._clock.monotonic()
        if now < self._idle_check_at:
            return {}
        self._idle_check_at = now + _IDLE_CHECK_SECONDS
        silent_since = now - self._limits.idle.total_seconds()
        quiet = [partition for partition in self._sources if self._busy_at[partition] <= silent_since]
        # The time before the request: what arrives after the answer arrives after it too.
        asked_ns = moment_ns(self._clock.now())
        ends = await self._source.end_offsets(quiet) if quiet else {}
        return {partition: asked_ns for partition, end in ends.items() if end == self._sources[partition].position}

    @property
    def _selections(self) -> str:
        return self._rules_in_use.selection_digest if self._rules_in_use else ""

    def _sent(self, source: SourcePartition) -> CommittedOffset:
        sent = SentBlock(
            start=source.commit_offset,
            up_to=source.sent_up_to,
            outputs=self._sink.outputs,
            selections=self._selections,
        )
        return CommittedOffset(partition=source.partition, offset=sent.start, metadata=encode_sent(sent))

    async def _commit(self) -> None:
        """Commit what was delivered: whole blocks, and how much of the current ones."""
        self._commit_at = self._clock.monotonic() + _COMMIT_SECONDS
        offsets = [each for partition, each in self._delivered.items() if each != self._committed[partition]]
        if offsets and await self._source.commit(offsets):
            self._committed.update({committed.partition: committed for committed in offsets})

    async def _begin_again(self, failure: Failure) -> None:
        """Go back to the committed offsets: of a failed flush it is not known what was delivered."""
        log.warning("flush_failed", reason=failure.reason)
        self._metrics.rewound()
        await self._rewind()
        await self._backoff.pause(self._failed_flushes)
        self._failed_flushes += 1

    async def _rewind(self) -> None:
        # What was matched and not flushed is matched again.
        self._events = 0
        self._selected.clear()
        for partition, source in self._sources.items():
            offset = self._committed[partition].offset
            self._kept.forget(partition)
            self._sources[partition] = source.again(offset)
            await self._source.rewind(partition, offset)
