"""From columns and rules to rows: what each rule counts in each block, pane and group, without an object per event."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from services.evaluator.core.match.blocks import Block, SourcePartition
from services.evaluator.core.match.bucketing import BucketedEvents, bucket_events, latest_of_each
from services.evaluator.core.match.events import (
    EventBatch,
    Ints,
    RowMask,
    event_times_ns,
    field_values,
)
from services.evaluator.core.records import (
    EMPTY_AGGREGATE,
    LATEST_NS,
    MAX_SAMPLES,
    Aggregate,
    RowKey,
    Sample,
    totals_key,
)
from services.evaluator.core.rules import CompiledRule, RuleSet
from services.evaluator.core.samples import SampleTable

_NO_ROWS: Ints = np.empty(0, dtype=np.int64)
# Count, sum, minimum and maximum.
_Values = tuple[int, float, float | None, float | None]
_NO_VALUES: _Values = EMPTY_AGGREGATE.value_count, EMPTY_AGGREGATE.sum, EMPTY_AGGREGATE.min, EMPTY_AGGREGATE.max


@dataclass(slots=True, kw_only=True)
class _Fetch:
    """One fetch; what several rules use is computed at most once."""

    events: EventBatch
    blocks: list[Block]
    times_ns: Ints
    arrived_ns: Ints
    latest_arrival_ns: int
    record_of_event: Ints
    block_of_event: Ints
    # For each event the end of the window that closes first among the rules that selected it.
    closes_ns: Ints | None = None
    _scopes: dict[str, RowMask | None] = field(default_factory=dict)
    bucketings: dict[str, BucketedEvents] = field(default_factory=dict)

    def bucketed(self, compiled: CompiledRule) -> BucketedEvents:
        """Return the events in the buckets of this rule's scope, grouping and window."""
        if compiled.bucketing_id not in self.bucketings:
            self.bucketings[compiled.bucketing_id] = bucket_events(
                self.events.columns,
                self._scope(compiled),
                compiled.rule.group_by,
                compiled.window_ns,
                times_ns=self.times_ns,
                blocks=self.block_of_event,
            )
        return self.bucketings[compiled.bucketing_id]

    def add_closings(self, compiled: CompiledRule, bucketed: BucketedEvents, events: Ints) -> None:
        """Take into account when the windows of the events close that a rule selected.

        The watermark is never ahead of a record's arrival, so windows that close after it cannot make an event late.
        """
        open_ns = compiled.window_ns + compiled.lateness_ns
        if bucketed.first_pane_ns + open_ns > self.latest_arrival_ns:
            return
        if self.closes_ns is None:
            self.closes_ns = np.full(len(self.times_ns), LATEST_NS)
        closes_ns = self.times_ns[events] // compiled.window_ns * compiled.window_ns + open_ns
        self.closes_ns[events] = np.minimum(self.closes_ns[events], closes_ns)

    def _scope(self, compiled: CompiledRule) -> RowMask | None:
        scope = compiled.rule.scope
        if not scope:
            return None
        if scope not in self._scopes:
            self._scopes[scope] = compiled.scope(self.events.columns, None)
        return self._scopes[scope]


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchOutcome:
    """What matching one fetch led to, beside the rows of its blocks."""

    # By the id of each rule that was evaluated, how many events its filter selected.
    selected: Mapping[str, int]
    # Rules that could not be evaluated, and why: they miss this fetch, the others do not.
    failed: Mapping[CompiledRule, Exception]


def match_events(
    events: EventBatch, rules: RuleSet, sources: Mapping[int, SourcePartition], outputs: int
) -> MatchOutcome:
    """Add the events of a fetch to the blocks of their sources."""
    fetch = _add_records(events, sources)
    selected: dict[str, int] = {}
    failed: dict[CompiledRule, Exception] = {}
    if len(events.columns):
        chosen = rules.plan.select(events.columns)
        failed |= chosen.failed
        for compiled in rules.rules.values():
            if compiled in failed:
                continue
            try:
                selected[compiled.rule.id] = _add_rule(fetch, compiled, chosen.rows.get(compiled, _NO_ROWS), outputs)
            except Exception as error:  # noqa: BLE001  (one rule that fails must not stop the others)
                failed[compiled] = error
    for bucketing_id, bucketed in fetch.bucketings.items():
        _add_totals(fetch, bucketing_id, bucketed, rules, outputs)
    _add_closings(fetch, outputs)
    return MatchOutcome(selected=selected, failed=failed)


def _add_records(events: EventBatch, sources: Mapping[int, SourcePartition]) -> _Fetch:
    numbers: dict[tuple[int, int], int] = {}
    blocks: list[Block] = []
    block_of_record = np.empty(len(events.records), dtype=np.int64)
    for index, record in enumerate(events.records):
        block = sources[record.partition].add_record(record.offset, record.arrival_ns)
        number = numbers.setdefault((record.partition, block.number), len(blocks))
        if number == len(blocks):
            blocks.append(block)
        block_of_record[index] = number
    record_of_event = events.record_of_event()
    arrived_ns = events.arrivals_ns()[record_of_event]
    times_ns = event_times_ns(events.columns, arrived_ns)
    _add_event_times(events, [blocks[number] for number in block_of_record], np.minimum(times_ns, arrived_ns))
    return _Fetch(
        events=events,
        blocks=blocks,
        times_ns=times_ns,
        arrived_ns=arrived_ns,
        latest_arrival_ns=int(arrived_ns.max(initial=0)),
        record_of_event=record_of_event,
        block_of_event=block_of_record[record_of_event],
    )


def _add_event_times(events: EventBatch, blocks: Sequence[Block], bounded_ns: Ints) -> None:
    filled = np.flatnonzero(events.lengths)
    if not len(filled):
        return
    starts = (np.cumsum(events.lengths) - events.lengths)[filled]
    for index, latest in zip(filled.tolist(), np.maximum.reduceat(bounded_ns, starts).tolist(), strict=True):
        blocks[index].add_event_time(latest)


def _add_totals(fetch: _Fetch, bucketing_id: str, bucketed: BucketedEvents, rules: RuleSet, outputs: int) -> None:
    """Count what a scope selects, once for all rules of a bucketing; it goes only to the rules that need it."""
    rule_ids = [compiled.rule.id for compiled in rules.total_readers.get(bucketing_id, ())]
    for bucket, total, last in zip(bucketed.buckets, bucketed.total, bucketed.last_event_ns, strict=True):
        block, key = fetch.blocks[bucket.block], totals_key(bucketing_id, bucket.group, bucket.pane_ns)
        old = block.totals.get(key, EMPTY_AGGREGATE)
        aggregate = EMPTY_AGGREGATE._replace(total=old.total + total, last_event_ns=_later(old.last_event_ns, last))
        block.replace_totals(key, aggregate, rule_ids, outputs)


def _add_closings(fetch: _Fetch, outputs: int) -> None:
    """Count each event that may come too late once, however many rules selected it."""
    if fetch.closes_ns is None:
        return
    events = np.flatnonzero(fetch.closes_ns <= fetch.arrived_ns)
    moments, moment_of_event = np.unique(fetch.closes_ns[events], return_inverse=True)
    codes, counts = np.unique(fetch.block_of_event[events] * max(len(moments), 1) + moment_of_event, return_counts=True)
    for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
        block, moment = divmod(code, len(moments))
        fetch.blocks[block].add_closing(int(moments[moment]), count, outputs)


def _add_rule(fetch: _Fetch, compiled: CompiledRule, events: Ints, outputs: int) -> int:
    """Add to the blocks the events that a rule selected in this fetch; return how many these are."""
    bucketed = fetch.bucketed(compiled)
    if len(events):
        for block, key, aggregate in _aggregate_rule(fetch, bucketed, compiled, events):
            block.replace_row(key, aggregate, outputs)
        fetch.add_closings(compiled, bucketed, events)
    return len(events)


def _aggregate_rule(
    fetch: _Fetch, bucketed: BucketedEvents, compiled: CompiledRule, events: Ints
) -> Iterable[tuple[Block, RowKey, Aggregate]]:
    """Return each row of one rule in which these events are, with its new numbers."""
    rule = compiled.rule
    changed, rows = np.unique(bucketed.bucket_of_event[events], return_inverse=True)
    buckets = [bucketed.buckets[number] for number in changed.tolist()]
    keys = [RowKey(rule.id, rule.selection_revision, bucket.group, bucket.pane_ns) for bucket in buckets]
    blocks = [fetch.blocks[bucket.block] for bucket in buckets]
    before = [block.rows.get(key, EMPTY_AGGREGATE) for block, key in zip(blocks, keys, strict=True)]
    hits = _Hits(events, rows)
    added = _totals_until_last_hit(bucketed, hits, len(buckets))
    totals = [
        block.totals.get(totals_key(compiled.bucketing_id, bucket.group, bucket.pane_ns), EMPTY_AGGREGATE).total + total
        for block, bucket, total in zip(blocks, buckets, added, strict=True)
    ]
    return zip(blocks, keys, _extend_rows(fetch, hits, before, totals, rule.value_field), strict=True)


@dataclass(frozen=True, slots=True)
class _Hits:
    """The events that a rule's filter selected, and the row of each."""

    events: Ints
    rows: Ints


def _totals_until_last_hit(bucketed: BucketedEvents, hits: _Hits, rows: int) -> list[int]:
    """Return how many events of this fetch each row's scope selected up to the last one that the filter selected.

    How many the scope selected in all is in the totals of the bucketing: a row is not sent again for them.
    """
    last_hit = np.zeros(rows, dtype=np.int64)
    # Of several entries with the same index the last one stays.
    last_hit[hits.rows] = hits.events
    totals: list[int] = (bucketed.rank[last_hit] + 1).tolist()
    return totals


def _extend_rows(
    fetch: _Fetch, hits: _Hits, before: list[Aggregate], totals: list[int], value_field: str
) -> list[Aggregate]:
    """Return the rows with what a fetch adds to them."""
    counts = np.bincount(hits.rows, minlength=len(before)).tolist()
    latest = latest_of_each(hits.rows, fetch.times_ns[hits.events], len(before)).tolist()
    samples = _samples(fetch, hits, before)
    return [
        Aggregate(
            old.counted + count,
            total,
            values[0],
            values[1],
            values[2],
            values[3],
            _later(old.last_event_ns, last),
            old.samples + samples[index] if index in samples else old.samples,
            traceparent,
        )
        for index, (old, count, total, last, values, traceparent) in enumerate(
            zip(
                before,
                counts,
                totals,
                latest,
                _extend_values(fetch, hits, before, value_field),
                _traceparents(fetch, hits, len(before)),
                strict=True,
            )
        )
    ]


def _extend_values(fetch: _Fetch, hits: _Hits, before: list[Aggregate], value_field: str) -> list[_Values]:
    """Return count, sum, minimum and maximum of each row's values, with those of the selected events."""
    numbers, present = field_values(fetch.events.columns, value_field)
    chosen = present[hits.events]
    if not chosen.any():
        return [(old.value_count, old.sum, old.min, old.max) for old in before]
    rows, added = hits.rows[chosen], numbers[hits.events[chosen]]
    counts = np.array([old.value_count for old in before])
    np.add.at(counts, rows, 1)
    # Summing begins with the sum so far and goes event by event, so it does not matter how fetches were cut.
    # A sum may become infinite; the window stage takes the largest double then.
    sums = np.array([old.sum for old in before])
    with np.errstate(over="ignore"):
        np.add.at(sums, rows, added)
    minimum = np.array([np.inf if old.min is None else old.min for old in before])
    np.minimum.at(minimum, rows, added)
    maximum = np.array([-np.inf if old.max is None else old.max for old in before])
    np.maximum.at(maximum, rows, added)
    columns = zip(counts.tolist(), sums.tolist(), minimum.tolist(), maximum.tolist(), strict=True)
    return [row if row[0] else _NO_VALUES for row in columns]


def _traceparents(fetch: _Fetch, hits: _Hits, rows: int) -> list[str]:
    """Return for each row the trace that brought its last selected event."""
    last_record = np.zeros(rows, dtype=np.int64)
    # Of several entries with the same index the last one stays.
    last_record[hits.rows] = fetch.record_of_event[hits.events]
    records = fetch.events.records
    return [records[index].traceparent for index in last_record.tolist()]


def _later(known: int | None, new: int) -> int:
    return new if known is None or new > known else known


def _samples(fetch: _Fetch, hits: _Hits, before: list[Aggregate]) -> dict[int, tuple[Sample, ...]]:
    """Return the samples that rows still lack as evidence."""
    lacking = np.array([MAX_SAMPLES - len(aggregate.samples) for aggregate in before])
    chosen = first_of_each(hits.rows, lacking)
    if not len(chosen):
        return {}
    events = hits.events[chosen]
    samples: dict[int, tuple[Sample, ...]] = {}
    made = SampleTable.of_events(fetch.events.columns, events, fetch.times_ns[events]).to_list()
    for row, sample in zip(hits.rows[chosen].tolist(), made, strict=True):
        samples[row] = (*samples.get(row, ()), sample)
    return samples


def first_of_each(buckets: Ints, wanted: Ints) -> Ints:
    """Return the positions of the first `wanted[b]` entries of each bucket b, in order."""
    candidates = np.flatnonzero(wanted[buckets] > 0)
    if not len(candidates):
        return candidates
    order = candidates[np.argsort(buckets[candidates], kind="stable")]
    sorted_buckets = buckets[order]
    starts = np.flatnonzero(np.diff(sorted_buckets, prepend=-1))
    lengths = np.diff(starts, append=len(order))
    rank = np.arange(len(order)) - np.repeat(starts, lengths)
    return np.sort(order[rank < wanted[sorted_buckets]])
