"""From columns and rules to rows: what each rule counts in each block, pane and group, all rules at once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from services.evaluator.core.match.blocks import Block, SourcePartition
from services.evaluator.core.match.bucketing import (
    BucketedEvents,
    all_groups,
    bucket_events,
    compact,
    first_of_each,
    latest_of_each,
)
from services.evaluator.core.match.canaries import without_canaries_ns
from services.evaluator.core.match.counted_rows import Additions
from services.evaluator.core.match.cpu_meter import CpuClock, CpuMeter, share_costs
from services.evaluator.core.match.events import (
    EventBatch,
    Floats,
    Ints,
    RowMask,
    event_times_ns,
    field_values,
)
from services.evaluator.core.match.missed import add_missed
from services.evaluator.core.match.tenants import TenantRows
from services.evaluator.core.records import EARLIEST_NS, LATEST_NS, closing_key, totals_key
from services.evaluator.core.rules import CompiledRule, RuleSet, SelectionKey
from services.evaluator.core.samples import SampleTable

# About how many selected events are added at once: it bounds the memory for many rules that select the same events.
_HITS_AT_ONCE: Final = 1 << 19
_NO_EVENTS: Final[Ints] = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchOutcome:
    """What matching one fetch led to, beside the rows of its blocks."""

    # How many events there were, without those that were counted before the partition began again.
    events: int
    # By the id of each rule that was evaluated, how many of these its filter selected.
    selected: Mapping[str, int]
    # Rules that could not be evaluated, and why: they miss this fetch, the others do not.
    failed: Mapping[CompiledRule, Exception]
    # Seconds of CPU of each rule's own work, if there was a clock.
    costs: Mapping[CompiledRule, float] = field(default_factory=dict)


def match_events(
    events: EventBatch,
    rules: RuleSet,
    sources: Mapping[int, SourcePartition],
    without: frozenset[CompiledRule] = frozenset(),
    clock: CpuClock | None = None,
) -> MatchOutcome:
    """Add the events of a fetch to the blocks of their sources; some rules are set aside, and miss them.

    With a clock of CPU time also say what each rule's own work costs.
    """
    fetch = _add_records(events, sources)
    if not len(events.columns):
        return MatchOutcome(events=0, selected={}, failed={})
    foreign = fetch.tenants.without_events(rules)
    chosen = rules.plan.select(events.columns, without | foreign if foreign else without, clock)
    scopes: CpuMeter[str] = CpuMeter(clock)
    failed = dict(chosen.failed)
    hits: dict[CompiledRule, Ints] = {}
    for compiled in rules.rules.values():
        if compiled in failed or compiled in without or compiled in foreign:
            continue
        try:
            fetch.prepare(compiled, scopes)
        except Exception as error:  # noqa: BLE001  (one rule that fails must not stop the others)
            failed[compiled] = error
        else:
            hits[compiled] = fetch.tenants.own(compiled.rule.tenant, chosen.rows.get(compiled, _NO_EVENTS))
    buckets = _place(fetch, rules)
    for some in _in_turn(hits):
        _add_hits(fetch, buckets, some)
    buckets.add_totals(fetch.blocks)
    _add_closings(fetch)
    add_missed([*failed, *without], fetch.blocks, fetch.block_of_event, fetch.times_ns)
    sharers = {scope: [each for each in hits if each.rule.scope == scope] for scope in scopes.seconds}
    costs = share_costs(chosen.costs, scopes.seconds, sharers)
    return replace(_outcome(hits, failed, _uncounted(events, sources)), costs=costs)


def _outcome(hits: Mapping[CompiledRule, Ints], failed: Mapping[CompiledRule, Exception], new: RowMask) -> MatchOutcome:
    events = int(np.count_nonzero(new))
    is_all = events == len(new)
    selected = {
        compiled.rule.id: len(rows) if is_all else int(np.count_nonzero(new[rows])) for compiled, rows in hits.items()
    }
    return MatchOutcome(events=events, selected=selected, failed=failed)


def _uncounted(events: EventBatch, sources: Mapping[int, SourcePartition]) -> RowMask:
    """Return the events of the records that metrics do not count yet: all, unless a partition began again."""
    is_new = [record.offset >= sources[record.partition].counted_up_to for record in events.records]
    return np.repeat(np.array(is_new, dtype=np.bool_), events.lengths)


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
    tenants: TenantRows
    # For each event the end of the window that closes first among the rules that selected it.
    closes_ns: Ints | None = None
    bucketings: dict[str, BucketedEvents] = field(default_factory=dict)
    _scopes: dict[str, RowMask | None] = field(default_factory=dict)

    def prepare(self, compiled: CompiledRule, meter: CpuMeter[str]) -> None:
        """Compute what the rule needs of the events: their buckets and values. What scopes cost goes to the meter."""
        if compiled.bucketing_id not in self.bucketings:
            self.bucketings[compiled.bucketing_id] = bucket_events(
                self.events.columns,
                self.tenants.narrow(compiled.rule.tenant, self._scope(compiled, meter)),
                compiled.rule.group_by,
                compiled.window_ns,
                times_ns=self.times_ns,
                blocks=self.block_of_event,
            )
        field_values(self.events.columns, compiled.rule.value_field)

    def add_closings(self, compiled: CompiledRule, events: Ints) -> None:
        """Take into account when the windows of the events close that rules of this window and lateness selected.

        The watermark is never ahead of a record's arrival, so windows that close after it cannot make an event late.
        """
        open_ns = compiled.window_ns + compiled.lateness_ns
        if self.bucketings[compiled.bucketing_id].first_pane_ns + open_ns > self.latest_arrival_ns:
            return
        if self.closes_ns is None:
            self.closes_ns = np.full(len(self.times_ns), LATEST_NS)
        closes_ns = self.times_ns[events] // compiled.window_ns * compiled.window_ns + open_ns
        self.closes_ns[events] = np.minimum(self.closes_ns[events], closes_ns)

    def _scope(self, compiled: CompiledRule, meter: CpuMeter[str]) -> RowMask | None:
        scope = compiled.rule.scope
        if not scope:
            return None
        if scope not in self._scopes:
            self._scopes[scope] = meter.run(scope, lambda: compiled.scope(self.events.columns, None))
        return self._scopes[scope]


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
    bounded_ns = without_canaries_ns(events.columns, np.minimum(times_ns, arrived_ns))
    _add_event_times(events, [blocks[number] for number in block_of_record], bounded_ns)
    return _Fetch(
        events=events,
        blocks=blocks,
        times_ns=times_ns,
        arrived_ns=arrived_ns,
        latest_arrival_ns=int(arrived_ns.max(initial=0)),
        record_of_event=record_of_event,
        block_of_event=block_of_record[record_of_event],
        tenants=TenantRows.of(events, record_of_event),
    )


def _add_event_times(events: EventBatch, blocks: Sequence[Block], bounded_ns: Ints) -> None:
    filled = np.flatnonzero(events.lengths)
    if not len(filled):
        return
    starts = (np.cumsum(events.lengths) - events.lengths)[filled]
    for index, latest in zip(filled.tolist(), np.maximum.reduceat(bounded_ns, starts).tolist(), strict=True):
        if latest >= EARLIEST_NS:
            blocks[index].add_event_time(latest)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Buckets:
    """The buckets of all bucketings of a fetch, in one sequence; the bucket of an event is in its bucketing."""

    # Where the buckets of each bucketing begin.
    starts: Mapping[str, int]
    block: Ints
    # The number that its block has for its group and pane, and the slot of its row of totals there.
    number: Ints
    slot: Ints
    # How many events the scope selected from the start of the block, before this fetch, and in this fetch.
    before: Ints
    total: Ints
    last_event_ns: Ints

    def __len__(self) -> int:
        return len(self.block)

    def add_totals(self, blocks: Sequence[Block]) -> None:
        """Count what scopes select, once for all rules of a bucketing; it goes only to the rules that need it."""
        for block, indexes in _by_block(blocks, self.block):
            block.rows.add_totals(self.slot[indexes], self.total[indexes], self.last_event_ns[indexes])


def _place(fetch: _Fetch, rules: RuleSet) -> _Buckets:
    """Find the buckets of a fetch in its blocks."""
    bucketings = list(fetch.bucketings.values())
    sizes = [len(each.block) for each in bucketings]
    ends = np.cumsum([0, *sizes])
    groups, group = all_groups(bucketings)
    pane_ns, block_of_bucket = (
        _joined([each.pane_ns for each in bucketings]),
        _joined([each.block for each in bucketings]),
    )
    selection = np.repeat(np.arange(len(bucketings)), sizes)
    keys = [_totals_selection(bucketing_id) for bucketing_id in fetch.bucketings]
    readers = [
        [each.rule.id for each in rules.total_readers.get(bucketing_id, ())] for bucketing_id in fetch.bucketings
    ]
    number, slot, before = (np.empty(len(group), dtype=np.int64) for _ in range(3))
    for block, indexes in _by_block(fetch.blocks, block_of_bucket):
        number[indexes] = block.rows.buckets(groups, group[indexes], pane_ns[indexes])
        slot[indexes] = block.rows.slots(keys, readers, selection[indexes], number[indexes])
        before[indexes] = block.rows.column("total", slot[indexes])
    return _Buckets(
        starts=dict(zip(fetch.bucketings, ends.tolist(), strict=False)),
        block=block_of_bucket,
        number=number,
        slot=slot,
        before=before,
        total=_joined([each.total for each in bucketings]),
        last_event_ns=_joined([each.last_event_ns for each in bucketings]),
    )


def _totals_selection(bucketing_id: str) -> SelectionKey:
    key = totals_key(bucketing_id, (), 0)
    return key.rule_id, key.selection_revision


def _joined(arrays: Sequence[Ints]) -> Ints:
    return np.concatenate([_NO_EVENTS, *arrays])


def _by_block(blocks: Sequence[Block], block_of_each: Ints) -> Iterator[tuple[Block, Ints]]:
    """Return each block that occurs, and the indexes of what belongs to it."""
    for number, block in enumerate(blocks):
        indexes = np.flatnonzero(block_of_each == number)
        if len(indexes):
            yield block, indexes


def _in_turn(hits: Mapping[CompiledRule, Ints]) -> Iterator[list[tuple[CompiledRule, Ints]]]:
    """Return the rules that selected something, those of a bucketing together, not too many events at once."""
    some: list[tuple[CompiledRule, Ints]] = []
    size = 0
    for compiled, events in sorted(hits.items(), key=lambda hit: hit[0].bucketing_id):
        if not len(events):
            continue
        some.append((compiled, events))
        size += len(events)
        if size >= _HITS_AT_ONCE:
            yield some
            some, size = [], 0
    if some:
        yield some


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Hits:
    """The events that some rules selected, rule by rule, and the row of each."""

    events: Ints
    row: Ints
    # The value of each, not finite where it has none.
    values: Floats
    # Of each row: the index of its rule, its bucket, the last of its events, and how many events the scope selected
    # up to that one.
    rule: Ints
    bucket: Ints
    last: Ints
    total: Ints

    def __len__(self) -> int:
        return len(self.rule)


def _add_hits(fetch: _Fetch, buckets: _Buckets, some: Sequence[tuple[CompiledRule, Ints]]) -> None:
    """Add the events that rules selected to their rows."""
    hits = _hits(fetch, buckets, some)
    keys = [compiled.selection_key for compiled, _ in some]
    readers = [(compiled.rule.id,) for compiled, _ in some]
    slots = np.empty(len(hits), dtype=np.int64)
    rows_of = list(_by_block(fetch.blocks, buckets.block[hits.bucket]))
    for block, rows in rows_of:
        slots[rows] = block.rows.slots(keys, readers, hits.rule[rows], buckets.number[hits.bucket[rows]])
    added = _additions(fetch, hits, rows_of, slots)
    for block, rows in rows_of:
        block.rows.add(slots[rows], added.take(rows))
    _add_samples(fetch, hits, rows_of, slots)


def _hits(fetch: _Fetch, buckets: _Buckets, some: Sequence[tuple[CompiledRule, Ints]]) -> _Hits:
    in_buckets, ranks, values = [], [], []
    for compiled, events in some:
        bucketed = fetch.bucketings[compiled.bucketing_id]
        in_buckets.append(bucketed.bucket_of_event[events] + buckets.starts[compiled.bucketing_id])
        ranks.append(bucketed.rank[events])
        values.append(field_values(fetch.events.columns, compiled.rule.value_field)[0][events])
        fetch.add_closings(compiled, events)
    events = np.concatenate([each for _, each in some])
    rule = np.repeat(np.arange(len(some)), [len(each) for _, each in some])
    rows, row, _ = compact(rule * len(buckets) + np.concatenate(in_buckets))
    rule_of_row, bucket = np.divmod(rows, len(buckets))
    # Of several entries with the same index the last one stays.
    last, rank = np.empty(len(rows), dtype=np.int64), np.empty(len(rows), dtype=np.int64)
    last[row], rank[row] = events, np.concatenate(ranks)
    # How many the scope selected in all is in the totals of the bucketing: a row is not sent again for them.
    return _Hits(
        events=events,
        row=row,
        values=np.concatenate(values),
        rule=rule_of_row,
        bucket=bucket,
        last=last,
        total=buckets.before[bucket] + rank + 1,
    )


def _additions(fetch: _Fetch, hits: _Hits, rows_of: Sequence[tuple[Block, Ints]], slots: Ints) -> Additions:
    sums = np.empty(len(hits))
    traceparents = [record.traceparent for record in fetch.events.records]
    traces = np.empty(len(hits), dtype=np.int64)
    for block, rows in rows_of:
        sums[rows] = block.rows.column("sum", slots[rows])
        traces[rows] = block.rows.traces(traceparents, fetch.record_of_event[hits.last[rows]])
    chosen = np.isfinite(hits.values)
    row, values = hits.row[chosen], hits.values[chosen]
    minimum, maximum = np.full(len(hits), np.inf), np.full(len(hits), -np.inf)
    np.minimum.at(minimum, row, values)
    np.maximum.at(maximum, row, values)
    # Summing begins with the sum so far and goes event by event, so it does not matter how fetches were cut.
    # A sum may become infinite; the window stage takes the largest double then.
    with np.errstate(over="ignore"):
        np.add.at(sums, row, values)
    return Additions(
        counted=np.bincount(hits.row, minlength=len(hits)),
        value_count=np.bincount(row, minlength=len(hits)),
        min=np.where(np.isfinite(minimum), minimum, np.nan),
        max=np.where(np.isfinite(maximum), maximum, np.nan),
        last_event_ns=latest_of_each(hits.row, fetch.times_ns[hits.events], len(hits)),
        total=hits.total,
        sum=sums,
        traceparent=traces,
    )


def _add_samples(fetch: _Fetch, hits: _Hits, rows_of: Sequence[tuple[Block, Ints]], slots: Ints) -> None:
    """Add to rows the samples that they still lack as evidence."""
    lacking = np.empty(len(hits), dtype=np.int64)
    block_of_row = np.empty(len(hits), dtype=np.int64)
    for number, (block, rows) in enumerate(rows_of):
        lacking[rows] = block.rows.samples.lacking(slots[rows])
        block_of_row[rows] = number
    chosen = first_of_each(hits.row, lacking)
    if not len(chosen):
        return
    events, sample = np.unique(hits.events[chosen], return_inverse=True)
    table = SampleTable.of_events(fetch.events.columns, events, fetch.times_ns[events])
    row = hits.row[chosen]
    for block, of_block in _by_block([block for block, _ in rows_of], block_of_row[row]):
        block.rows.samples.add(table, slots[row[of_block]], sample[of_block])


def _add_closings(fetch: _Fetch) -> None:
    """Count each event that may come too late once, however many rules selected it."""
    if fetch.closes_ns is None:
        return
    events = np.flatnonzero(fetch.closes_ns <= fetch.arrived_ns)
    moments, moment_of_event = np.unique(fetch.closes_ns[events], return_inverse=True)
    codes, _, counts = compact(fetch.block_of_event[events] * max(len(moments), 1) + moment_of_event)
    block_of_code, moment = np.divmod(codes, max(len(moments), 1))
    key = closing_key(0)
    for block, indexes in _by_block(fetch.blocks, block_of_code):
        zeros = np.zeros(len(indexes), dtype=np.int64)
        numbers = block.rows.buckets([key.group], zeros, moments[moment[indexes]])
        slots = block.rows.slots([(key.rule_id, key.selection_revision)], [(key.rule_id,)], zeros, numbers)
        block.rows.add_counts(slots, counts[indexes])
