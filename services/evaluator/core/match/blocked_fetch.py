"""The events of a fetch in the blocks that count them, and what several rules need to know of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from services.evaluator.core.match.blocks import Block, SourcePartition
from services.evaluator.core.match.bucketing import BucketedEvents, bucket_events, compact
from services.evaluator.core.match.canaries import without_canaries_ns
from services.evaluator.core.match.cpu_meter import CpuMeter
from services.evaluator.core.match.events import EventBatch, Ints, RowMask, event_times_ns, field_values
from services.evaluator.core.match.tenants import TenantRows
from services.evaluator.core.records import EARLIEST_NS, LATEST_NS, closing_key
from services.evaluator.core.rules import CompiledRule


@dataclass(slots=True, kw_only=True)
class BlockedFetch:
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

    def may_be_late(self, rules: Iterable[CompiledRule]) -> bool:
        """Whether an event may come too late for one of these rules; see `add_closings`."""
        earliest_ns = int(self.times_ns.min(initial=LATEST_NS))
        forms = {(compiled.window_ns, compiled.window_ns + compiled.lateness_ns) for compiled in rules}
        return any(earliest_ns // window * window + open_ns <= self.latest_arrival_ns for window, open_ns in forms)

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

    def count_closings(self) -> None:
        """Count each event that may come too late once, however many rules selected it."""
        if self.closes_ns is None:
            return
        events = np.flatnonzero(self.closes_ns <= self.arrived_ns)
        moments, moment_of_event = np.unique(self.closes_ns[events], return_inverse=True)
        size = max(len(moments), 1)
        tenants = len(self.tenants.numbers)
        block_and_tenant = self.block_of_event[events] * tenants + self.tenants.number_of(events)
        codes, _, counts = compact(block_and_tenant * size + moment_of_event)
        block_and_tenant, moment = np.divmod(codes, size)
        block_of_code, tenant = np.divmod(block_and_tenant, tenants)
        keys = [closing_key(0, tenant) for tenant in self.tenants.numbers]
        for block, indexes in by_block(self.blocks, block_of_code):
            zeros = np.zeros(len(indexes), dtype=np.int64)
            numbers = block.rows.buckets([key.group for key in keys], tenant[indexes], moments[moment[indexes]])
            slots = block.rows.alone([keys[0].selection], [(keys[0].rule_id,)], zeros, numbers)
            block.rows.add_counts(slots, counts[indexes])

    def _scope(self, compiled: CompiledRule, meter: CpuMeter[str]) -> RowMask | None:
        scope = compiled.rule.scope
        if not scope:
            return None
        if scope not in self._scopes:
            self._scopes[scope] = meter.run(scope, lambda: compiled.scope(self.events.columns, None))
        return self._scopes[scope]


def add_records(events: EventBatch, sources: Mapping[int, SourcePartition]) -> BlockedFetch:
    """Add the records of a fetch to the current blocks of their sources."""
    added = [sources[record.partition].add_record(record.offset, record.arrival_ns) for record in events.records]
    return blocked(events, added)


def blocked(events: EventBatch, block_of_each: Sequence[Block]) -> BlockedFetch:
    """Return events in the blocks of their records, to which these are added."""
    numbers: dict[tuple[int, int], int] = {}
    blocks: list[Block] = []
    block_of_record = np.empty(len(events.records), dtype=np.int64)
    for index, (record, block) in enumerate(zip(events.records, block_of_each, strict=True)):
        number = numbers.setdefault((record.partition, block.number), len(blocks))
        if number == len(blocks):
            blocks.append(block)
        block_of_record[index] = number
    record_of_event = events.record_of_event()
    arrived_ns = events.arrivals_ns()[record_of_event]
    times_ns = event_times_ns(events.columns, arrived_ns)
    bounded_ns = without_canaries_ns(events.columns, np.minimum(times_ns, arrived_ns))
    _add_event_times(events, [blocks[number] for number in block_of_record], bounded_ns)
    return BlockedFetch(
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


def by_block(blocks: Sequence[Block], block_of_each: Ints) -> Iterator[tuple[Block, Ints]]:
    """Return each block that occurs, and the indexes of what belongs to it."""
    for number, block in enumerate(blocks):
        indexes = np.flatnonzero(block_of_each == number)
        if len(indexes):
            yield block, indexes
