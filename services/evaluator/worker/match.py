"""The match loop: fetch, match, flush, commit at block borders."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import structlog

from services.chassis.backoff import Backoff
from services.chassis.clock import Clock
from services.chassis.failures import Failure
from services.chassis.telemetry import in_trace_of, links_of, tracer
from services.domain.trace_context import headers_of
from services.evaluator.core.match.aggregation import match_events
from services.evaluator.core.match.blocks import SourcePartition
from services.evaluator.core.match.events import EventBatch
from services.evaluator.core.records import PartialBatch, moment_ns
from services.evaluator.core.rules import CompiledRule, RuleSet
from services.evaluator.metrics import Metrics
from services.evaluator.ports import (
    CommittedOffset,
    DeadLetters,
    LogSource,
    PartialSink,
    Rebalance,
    Rules,
    UnreadableRecord,
)

log = structlog.get_logger()

_HEARTBEAT_SECONDS = 1.0
_MOST_LINKS = 32
# A flush of many rows is followed by a longer pause: writing, reading and judging a row costs a third of this.
_PAUSE_SECONDS_PER_ROW = 0.00015
_LONGEST_PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How much at once, and how often."""

    fetch_records: int
    flush: timedelta
    idle: timedelta


class MatchWorker:
    """Counts what rules select in the partitions of `log-events` that this instance has.

    A record is committed once everything of its block is in `window-partials`. A crash, a rebalance or a flush that
    failed begins the current blocks again; what was sent of them before is then sent again, which changes nothing.
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
        pace: Pace,
        retry: Backoff = Backoff(),
    ) -> None:
        self._source = source
        self._sink = sink
        self._dead_letters = dead_letters
        self._rules = rules
        self._metrics = metrics
        self._clock = clock
        self._pace = pace
        self._retry = retry
        self._sources: dict[int, SourcePartition] = {}
        self._committed: dict[int, int] = {}
        self._busy_at: dict[int, float] = {}
        self._heartbeat_at = 0.0
        self._flush_at = 0.0
        self._failures = 0
        self._events = 0
        self._carriers: list[str] = []
        self._matched_by: RuleSet | None = None
        self._complaints: dict[str, CompiledRule] = {}
        self._given_up: set[str] = set()
        self._is_stopping = False

    def stop(self) -> None:
        """Take nothing more."""
        self._is_stopping = True

    async def run(self) -> None:
        """Work until stopped. Nothing is taken before the rules are known: it would count for nothing."""
        await self._rules.known()
        while not self._is_stopping:
            await self.turn()
        await self._flush()

    async def turn(self) -> None:
        """Fetch once, and flush if it is time."""
        due = self._flush_at - self._clock.monotonic()
        fetched = await self._source.fetch(self._pace.fetch_records, max(due, 0.0))
        self._reassign(fetched.rebalance)
        await self._put_aside(fetched.unreadable)
        await self._match(fetched.events)
        if self._clock.monotonic() >= self._flush_at:
            await self._flush()

    def _reassign(self, rebalance: Rebalance) -> None:
        for partition in rebalance.revoked:
            self._sources.pop(partition, None)
        for mark in rebalance.assigned:
            self._sources[mark.partition] = SourcePartition.at(mark.partition, mark.offset)
            self._committed[mark.partition] = mark.offset
            self._busy_at[mark.partition] = self._clock.monotonic()

    async def _put_aside(self, unreadable: tuple[UnreadableRecord, ...]) -> None:
        attempt = 0
        while unreadable and not self._is_stopping:
            try:
                await self._dead_letters.publish(unreadable)
            except Failure as failure:
                log.warning("dead_letters_failed", reason=failure.reason)
                await asyncio.sleep(self._retry.delay(attempt).total_seconds())
                attempt += 1
            else:
                self._note(unreadable)
                return
        if unreadable:
            # Stopping without having kept them: nothing after them may be committed.
            self._sources.clear()

    def _note(self, unreadable: tuple[UnreadableRecord, ...]) -> None:
        self._metrics.unreadable(len(unreadable))
        for each in unreadable:
            where = {"partition": each.record.partition, "offset": each.record.offset}
            with in_trace_of(headers_of(each.record.traceparent)):
                log.error("record_dead_lettered", reason=each.reason, **where)

    async def _match(self, events: EventBatch) -> None:
        rules = self._rules.current
        if rules is None or not events.records or not self._sources:
            return
        before, self._matched_by = self._matched_by, rules
        if before is not None and rules.needs_more_totals(before):
            # A rule that joins counts from the start of the current blocks, as the totals do that it shares.
            await self._rewind()
            return
        began = self._clock.monotonic()
        for record in events.records:
            self._busy_at[record.partition] = began
        failed = await asyncio.to_thread(match_events, events, rules, self._sources, self._sink.outputs)
        for compiled, error in failed.items():
            self._complain(compiled, error)
        self._report_given_up(events.columns.over_step_limit)
        self._events += len(events.columns)
        self._carriers += [record.traceparent for record in events.records if record.traceparent]
        self._metrics.matched(self._clock.monotonic() - began)

    def _complain(self, compiled: CompiledRule, error: Exception) -> None:
        """Count each failure of a rule; tell the first of each revision."""
        self._metrics.rule_failed()
        if self._complaints.get(compiled.rule.id) is not compiled:
            self._complaints[compiled.rule.id] = compiled
            log.error("rule_failed", rule_id=compiled.rule.id, rule=compiled.rule.name, exc_info=error)

    def _report_given_up(self, events: Mapping[str, int]) -> None:
        """Count the events that an expression gave up on; tell the first of each expression."""
        self._metrics.given_up(sum(events.values()))
        for text in events.keys() - self._given_up:
            log.error("expression_gave_up", expression=text, events=events[text])
        self._given_up |= events.keys()

    async def _flush(self) -> None:
        """Tell what is new; commit the blocks that are whole."""
        batches = self._news(await self._idle())
        rows = sum(len(batch.rows) for _, batch in batches)
        pause = min(rows * _PAUSE_SECONDS_PER_ROW, _LONGEST_PAUSE_SECONDS)
        self._flush_at = self._clock.monotonic() + max(pause, self._pace.flush.total_seconds())
        carriers, self._carriers = self._carriers, []
        events, self._events = self._events, 0
        if not batches:
            return
        links = links_of(map(headers_of, carriers), limit=_MOST_LINKS)
        with tracer(__name__).start_as_current_span("flush window-partials", links=links):
            try:
                await self._sink.send(batches)
            except Failure as failure:
                await self._begin_again(failure)
                return
        self._failures = 0
        self._metrics.flushed(events, rows)
        await self._commit()

    def _news(self, idle_ns: dict[int, int]) -> list[tuple[int, PartialBatch]]:
        return [
            news
            for source in self._sources.values()
            for news in source.flush(
                outputs=self._sink.outputs,
                source_partitions=self._source.partitions,
                idle_ns=idle_ns.get(source.partition),
                rules_revision=self._matched_by.revision if self._matched_by else 0,
            )
        ]

    async def _idle(self) -> dict[int, int]:
        """Find the partitions that have been silent for a while and hold nothing now; say since when that is known."""
        now = self._clock.monotonic()
        if now < self._heartbeat_at + _HEARTBEAT_SECONDS:
            return {}
        self._heartbeat_at = now
        silent_since = now - self._pace.idle.total_seconds()
        quiet = [partition for partition in self._sources if self._busy_at[partition] <= silent_since]
        # The moment before the question: what comes after the answer comes after it too.
        asked_ns = moment_ns(self._clock.now())
        end_offsets = await self._source.end_offsets(quiet) if quiet else {}
        return {
            partition: asked_ns for partition, end in end_offsets.items() if end == self._sources[partition].position
        }

    async def _commit(self) -> None:
        marks = [
            CommittedOffset(partition=source.partition, offset=source.commit_offset)
            for source in self._sources.values()
            if source.commit_offset > self._committed[source.partition]
        ]
        if marks and await self._source.commit(marks):
            self._committed.update({mark.partition: mark.offset for mark in marks})

    async def _begin_again(self, failure: Failure) -> None:
        """Go back to what is committed: of a flush that failed nobody knows what was delivered."""
        log.warning("flush_failed", reason=failure.reason)
        self._metrics.rewound()
        await self._rewind()
        await asyncio.sleep(self._retry.delay(self._failures).total_seconds())
        self._failures += 1

    async def _rewind(self) -> None:
        for partition in self._sources:
            offset = self._committed[partition]
            self._sources[partition] = SourcePartition.at(partition, offset)
            await self._source.rewind(partition, offset)
