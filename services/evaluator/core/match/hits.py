"""From the events that rules selected to rows: what each rule counts in each block, pane and group."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

import numpy as np

from services.evaluator.core.distinct_integers import distinct_integers
from services.evaluator.core.match.blocked_fetch import BlockedFetch, by_block
from services.evaluator.core.match.blocks import Block
from services.evaluator.core.match.bucketing import all_groups, compact, first_of_each, latest_of_each
from services.evaluator.core.match.counted_rows import Additions
from services.evaluator.core.match.events import Floats, Ints, field_values
from services.evaluator.core.match.sharing import NO_CLASS, RuleHits
from services.evaluator.core.records import totals_key
from services.evaluator.core.rules import RuleSet, SelectionKey
from services.evaluator.core.samples import SampleTable

_NO_NUMBERS: Final[Ints] = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Buckets:
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
        for block, indexes in by_block(blocks, self.block):
            block.rows.add_totals(self.slot[indexes], self.total[indexes], self.last_event_ns[indexes])


def place_buckets(fetch: BlockedFetch, rules: RuleSet, bucketing_ids: Collection[str]) -> Buckets:
    """Find the buckets of a fetch in its blocks, those of some bucketings."""
    placed = {each: bucketed for each, bucketed in fetch.bucketings.items() if each in bucketing_ids}
    bucketings = list(placed.values())
    sizes = [len(each.block) for each in bucketings]
    ends = np.cumsum([0, *sizes])
    groups, group = all_groups(bucketings)
    pane_ns, block_of_bucket = (
        _joined([each.pane_ns for each in bucketings]),
        _joined([each.block for each in bucketings]),
    )
    selection = np.repeat(np.arange(len(bucketings)), sizes)
    keys = [totals_selection(bucketing_id) for bucketing_id in placed]
    readers = [[each.rule.id for each in rules.total_readers.get(bucketing_id, ())] for bucketing_id in placed]
    number, slot, before = (np.empty(len(group), dtype=np.int64) for _ in range(3))
    for block, indexes in by_block(fetch.blocks, block_of_bucket):
        number[indexes] = block.rows.buckets(groups, group[indexes], pane_ns[indexes])
        slot[indexes] = block.rows.alone(keys, readers, selection[indexes], number[indexes])
        before[indexes] = block.rows.column("total", slot[indexes])
    return Buckets(
        starts=dict(zip(placed, ends.tolist(), strict=False)),
        block=block_of_bucket,
        number=number,
        slot=slot,
        before=before,
        total=_joined([each.total for each in bucketings]),
        last_event_ns=_joined([each.last_event_ns for each in bucketings]),
    )


def totals_selection(bucketing_id: str) -> SelectionKey:
    """Return the key of what the scope of a bucketing selects."""
    return totals_key(bucketing_id, (), 0).selection


def _joined(arrays: Sequence[Ints]) -> Ints:
    return np.concatenate([_NO_NUMBERS, *arrays])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Hits:
    """The events that some rules selected, those of rules that selected the same ones once, and the row of each."""

    events: Ints
    row: Ints
    # The value of each, not finite where it has none.
    values: Floats
    # Of each row: the index of its rules, its bucket, the last of its events, and how many events the scope selected
    # up to that one.
    rules: Ints
    bucket: Ints
    last: Ints
    total: Ints

    def __len__(self) -> int:
        return len(self.rules)

    def take(self, rows: Ints) -> "_Hits":
        """Return these rows, given by rising indexes, with their events."""
        if len(rows) == len(self):
            return self
        places = np.full(len(self), -1)
        places[rows] = np.arange(len(rows))
        of_row = places[self.row]
        events = np.flatnonzero(of_row >= 0)
        taken = {name: getattr(self, name)[rows] for name in ("rules", "bucket", "last", "total")}
        return _Hits(events=self.events[events], row=of_row[events], values=self.values[events], **taken)


def add_hits(fetch: BlockedFetch, buckets: Buckets, some: Sequence[RuleHits]) -> None:
    """Add the events that rules selected to their rows: of rules that share rows, once."""
    hits = _hits(fetch, buckets, some)
    for classes in _classes(fetch, buckets, some, hits):
        rows = np.flatnonzero(classes != NO_CLASS)
        _add(fetch, buckets, hits.take(rows), classes[rows])


def _classes(fetch: BlockedFetch, buckets: Buckets, some: Sequence[RuleHits], hits: _Hits) -> list[Ints]:
    """Return of each row a class that its rules make up in its block, then of each a second one, and so on.

    Rules that did not select the same events before are in several classes.
    """
    found: list[Ints] = []
    for block, rows in by_block(fetch.blocks, buckets.block[hits.bucket]):
        present = distinct_integers(hits.rules[rows])
        divided = block.rows.divide([some[each].selections for each in present.tolist()])
        for number, classes in enumerate(zip_longest(*divided, fillvalue=NO_CLASS)):
            if number == len(found):
                found.append(np.full(len(hits), NO_CLASS))
            of_rules = np.full(len(some), NO_CLASS)
            of_rules[present] = classes
            found[number][rows] = of_rules[hits.rules[rows]]
    return found


def _add(fetch: BlockedFetch, buckets: Buckets, hits: _Hits, classes: Ints) -> None:
    """Add to the rows of these classes, one for each row of the hits."""
    slots = np.empty(len(hits), dtype=np.int64)
    rows_of = list(by_block(fetch.blocks, buckets.block[hits.bucket]))
    for block, rows in rows_of:
        slots[rows] = block.rows.slots(classes[rows], buckets.number[hits.bucket[rows]])
    added = _additions(fetch, hits, rows_of, slots)
    for block, rows in rows_of:
        block.rows.add(slots[rows], added.take(rows))
    _add_samples(fetch, hits, rows_of, slots)


def _hits(fetch: BlockedFetch, buckets: Buckets, some: Sequence[RuleHits]) -> _Hits:
    in_buckets, ranks, values = [], [], []
    for each in some:
        compiled = each.rules[0]
        bucketed = fetch.bucketings[compiled.bucketing_id]
        in_buckets.append(bucketed.bucket_of_event[each.events] + buckets.starts[compiled.bucketing_id])
        ranks.append(bucketed.rank[each.events])
        values.append(field_values(fetch.events.columns, compiled.rule.value_field)[0][each.events])
        for one in {rule.lateness_ns: rule for rule in each.rules}.values():
            fetch.add_closings(one, each.events)
    events = np.concatenate([each.events for each in some])
    index = np.repeat(np.arange(len(some)), [len(each.events) for each in some])
    rows, row, _ = compact(index * len(buckets) + np.concatenate(in_buckets))
    rules_of_row, bucket = np.divmod(rows, len(buckets))
    # Of several entries with the same index the last one stays.
    last, rank = np.empty(len(rows), dtype=np.int64), np.empty(len(rows), dtype=np.int64)
    last[row], rank[row] = events, np.concatenate(ranks)
    # How many the scope selected in all is in the totals of the bucketing: a row is not sent again for them.
    return _Hits(
        events=events,
        row=row,
        values=np.concatenate(values),
        rules=rules_of_row,
        bucket=bucket,
        last=last,
        total=buckets.before[bucket] + rank + 1,
    )


def _additions(fetch: BlockedFetch, hits: _Hits, rows_of: Sequence[tuple[Block, Ints]], slots: Ints) -> Additions:
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


def _add_samples(fetch: BlockedFetch, hits: _Hits, rows_of: Sequence[tuple[Block, Ints]], slots: Ints) -> None:
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
    for block, of_block in by_block([block for block, _ in rows_of], block_of_row[row]):
        block.rows.samples.add(table, slots[row[of_block]], sample[of_block])
