"""From columns and rules to rows: what each rule counts in each block, pane and group, without an object per event."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.domain.level import Level
from services.domain.trace_context import trace_id_of
from services.evaluator.core.match.blocks import Block, Source
from services.evaluator.core.match.bucketing import Frame, frame_of
from services.evaluator.core.match.events import Arrivals, Columns, Ints, Record, event_times_ns, values
from services.evaluator.core.records import MAX_SAMPLES, NOTHING, SAMPLE_CHARACTERS, RowKey, Sample, Tally, totals_key
from services.evaluator.core.rules import ReadyRule, RuleSet

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Count, sum, least and greatest.
_Values = tuple[int, float, float | None, float | None]
_NO_VALUES: _Values = NOTHING.value_count, NOTHING.sum, NOTHING.min, NOTHING.max


@dataclass(slots=True, kw_only=True)
class Fetch:
    """One fetch with everything that several rules use worked out at most once."""

    arrivals: Arrivals
    blocks: list[Block]
    times_ns: Ints
    record_of_event: Ints
    block_of_event: Ints
    _scopes: dict[str, Mask | None] = field(default_factory=dict)
    frames: dict[str, Frame] = field(default_factory=dict)

    def frame(self, ready: ReadyRule) -> Frame:
        """Give the cells of this rule's scope, groups and window."""
        if ready.frame_id not in self.frames:
            self.frames[ready.frame_id] = frame_of(
                self.arrivals.columns,
                self._scope(ready),
                ready.rule.group_by,
                ready.window_ns,
                times_ns=self.times_ns,
                blocks=self.block_of_event,
            )
        return self.frames[ready.frame_id]

    def _scope(self, ready: ReadyRule) -> Mask | None:
        scope = ready.rule.scope
        if not scope:
            return None
        if scope not in self._scopes:
            self._scopes[scope] = ready.scope(self.arrivals.columns, None)
        return self._scopes[scope]


def match(
    arrivals: Arrivals, rules: RuleSet, sources: Mapping[int, Source], outputs: int
) -> dict[ReadyRule, Exception]:
    """Add the events of a fetch to the blocks of their sources.

    Give the rules that could not be evaluated, and why: they miss this fetch, the others do not.
    """
    fetch = _taken(arrivals, sources)
    failed: dict[ReadyRule, Exception] = {}
    for ready in rules.rules.values() if len(arrivals.columns) else ():
        try:
            rows = _extended(fetch, fetch.frame(ready), ready)
        except Exception as error:  # noqa: BLE001  (one rule that fails must not stop the others)
            failed[ready] = error
            continue
        for block, key, tally in rows:
            block.put(key, tally, outputs)
    for frame_id, frame in fetch.frames.items():
        _add_totals(fetch, frame_id, frame, rules, outputs)
    return failed


def _taken(arrivals: Arrivals, sources: Mapping[int, Source]) -> Fetch:
    numbers: dict[tuple[int, int], int] = {}
    blocks: list[Block] = []
    block_of_record = np.empty(len(arrivals.records), dtype=np.int64)
    for index, record in enumerate(arrivals.records):
        block = sources[record.partition].take(record.offset, record.arrival_ns)
        number = numbers.setdefault((record.partition, block.number), len(blocks))
        if number == len(blocks):
            blocks.append(block)
        block_of_record[index] = number
    record_of_event = arrivals.record_of_event()
    arrived_ns = arrivals.arrivals_ns()[record_of_event]
    times_ns = event_times_ns(arrivals.columns, arrived_ns)
    _note_event_times(arrivals, [blocks[number] for number in block_of_record], np.minimum(times_ns, arrived_ns))
    return Fetch(
        arrivals=arrivals,
        blocks=blocks,
        times_ns=times_ns,
        record_of_event=record_of_event,
        block_of_event=block_of_record[record_of_event],
    )


def _note_event_times(arrivals: Arrivals, blocks: Sequence[Block], bounded_ns: Ints) -> None:
    filled = np.flatnonzero(arrivals.lengths)
    if not len(filled):
        return
    starts = (np.cumsum(arrivals.lengths) - arrivals.lengths)[filled]
    for index, latest in zip(filled.tolist(), np.maximum.reduceat(bounded_ns, starts).tolist(), strict=True):
        blocks[index].saw(latest)


def _add_totals(fetch: Fetch, frame_id: str, frame: Frame, rules: RuleSet, outputs: int) -> None:
    """Count once, for all rules of a frame, what their scope selects; only the rules that need it are told."""
    rule_ids = [ready.rule.id for ready in rules.readers.get(frame_id, ())]
    for cell, total, last in zip(frame.cells, frame.total, frame.last_event_ns, strict=True):
        block, key = fetch.blocks[cell.block], totals_key(frame_id, cell.group, cell.pane_ns)
        old = block.totals.get(key, NOTHING)
        tally = NOTHING._replace(total=old.total + total, last_event_ns=_later(old.last_event_ns, last))
        block.put_totals(key, tally, rule_ids, outputs)


def _extended(fetch: Fetch, frame: Frame, ready: ReadyRule) -> Iterable[tuple[Block, RowKey, Tally]]:
    """Give each row of one rule that this fetch changes, with its new numbers: those in which it selected something."""
    rule = ready.rule
    events = np.flatnonzero(ready.filter(fetch.arrivals.columns, frame.selected))
    if not len(events):
        return ()
    changed, rows = np.unique(frame.of_event[events], return_inverse=True)
    cells = [frame.cells[number] for number in changed.tolist()]
    keys = [RowKey(rule.id, rule.selection_revision, cell.group, cell.pane_ns) for cell in cells]
    blocks = [fetch.blocks[cell.block] for cell in cells]
    before = [block.rows.get(key, NOTHING) for block, key in zip(blocks, keys, strict=True)]
    hits = _Hits(events, rows)
    totals = [
        block.totals.get(totals_key(ready.frame_id, cell.group, cell.pane_ns), NOTHING).total + seen
        for block, cell, seen in zip(blocks, cells, _seen(frame, hits, len(cells)), strict=True)
    ]
    return zip(blocks, keys, _counted(fetch, hits, before, totals, rule.value_field), strict=True)


@dataclass(frozen=True, slots=True)
class _Hits:
    """The events that a rule's filter selected, and the row of each."""

    events: Ints
    rows: Ints


def _seen(frame: Frame, hits: _Hits, rows: int) -> list[int]:
    """Say how many events of this fetch each row's scope selected up to the last one that the filter selected.

    How many there are in all is for the frame's totals to say: a row is not sent again for them.
    """
    last_hit = np.zeros(rows, dtype=np.int64)
    # Of several entries with the same index the last one stays.
    last_hit[hits.rows] = hits.events
    seen: list[int] = (frame.rank[last_hit] + 1).tolist()
    return seen


def _counted(fetch: Fetch, hits: _Hits, before: list[Tally], totals: list[int], value_field: str) -> list[Tally]:
    """Add a fetch to its rows."""
    counts = np.bincount(hits.rows, minlength=len(before)).tolist()
    latest = np.full(len(before), np.iinfo(np.int64).min)
    np.maximum.at(latest, hits.rows, fetch.times_ns[hits.events])
    samples = _samples(fetch, hits, before)
    return [
        Tally(
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
                latest.tolist(),
                _valued(fetch, hits, before, value_field),
                _traceparents(fetch, hits, len(before)),
                strict=True,
            )
        )
    ]


def _valued(fetch: Fetch, hits: _Hits, before: list[Tally], value_field: str) -> list[_Values]:
    """Give count, sum, least and greatest of each row's values, those of the selected events added."""
    numbers, present = values(fetch.arrivals.columns, value_field)
    chosen = present[hits.events]
    if not chosen.any():
        return [(old.value_count, old.sum, old.min, old.max) for old in before]
    rows, added = hits.rows[chosen], numbers[hits.events[chosen]]
    counts = np.array([old.value_count for old in before])
    np.add.at(counts, rows, 1)
    # Summing begins with the sum so far and goes event by event, so it does not matter how fetches were cut.
    # A sum may become infinite; the window stage knows what that counts for.
    sums = np.array([old.sum for old in before])
    with np.errstate(over="ignore"):
        np.add.at(sums, rows, added)
    least = np.array([np.inf if old.min is None else old.min for old in before])
    np.minimum.at(least, rows, added)
    greatest = np.array([-np.inf if old.max is None else old.max for old in before])
    np.maximum.at(greatest, rows, added)
    columns = zip(counts.tolist(), sums.tolist(), least.tolist(), greatest.tolist(), strict=True)
    return [row if row[0] else _NO_VALUES for row in columns]


def _traceparents(fetch: Fetch, hits: _Hits, rows: int) -> list[str]:
    """Give for each row the trace that brought its last selected event."""
    last_record = np.zeros(rows, dtype=np.int64)
    # Of several entries with the same index the last one stays.
    last_record[hits.rows] = fetch.record_of_event[hits.events]
    records = fetch.arrivals.records
    return [records[index].traceparent for index in last_record.tolist()]


def _later(known: int | None, new: int) -> int:
    return new if known is None or new > known else known


def _samples(fetch: Fetch, hits: _Hits, before: list[Tally]) -> dict[int, tuple[Sample, ...]]:
    """Give the events that rows still lack as evidence."""
    lacking = np.array([MAX_SAMPLES - len(tally.samples) for tally in before])
    chosen = first_of_each(hits.rows, lacking)
    if not len(chosen):
        return {}
    events = hits.events[chosen]
    records = [fetch.arrivals.records[index] for index in fetch.record_of_event[events].tolist()]
    found: dict[int, tuple[Sample, ...]] = {}
    made = samples_of(fetch.arrivals.columns, events, fetch.times_ns[events], records)
    for row, sample in zip(hits.rows[chosen].tolist(), made, strict=True):
        found[row] = (*found.get(row, ()), sample)
    return found


_FIELDS = ("service", "level", "message", "status_code", "response_time", "host", "trace_id")
_LEVELS = frozenset(Level)


def first_of_each(cells: Ints, wanted: Ints) -> Ints:
    """Give the positions of the first `wanted[c]` entries of each cell c, in order."""
    candidates = np.flatnonzero(wanted[cells] > 0)
    if not len(candidates):
        return candidates
    order = candidates[np.argsort(cells[candidates], kind="stable")]
    sorted_cells = cells[order]
    starts = np.flatnonzero(np.diff(sorted_cells, prepend=-1))
    lengths = np.diff(starts, append=len(order))
    rank = np.arange(len(order)) - np.repeat(starts, lengths)
    return np.sort(order[rank < wanted[sorted_cells]])


def samples_of(columns: Columns, events: Ints, times_ns: Ints, records: Sequence[Record]) -> list[Sample]:
    """Make samples of some events; `times_ns` and `records` have an entry for each of them."""
    taken = columns.batch.select(list(_FIELDS)).take(events).to_pylist()
    return [
        Sample(
            event_ns=time_ns,
            service=row["service"],
            level=_level(row["level"]),
            message=row["message"][:SAMPLE_CHARACTERS],
            status_code=row["status_code"],
            response_time=row["response_time"],
            host=row["host"],
            trace_id=row["trace_id"] or trace_id_of(record.traceparent),
        )
        for row, time_ns, record in zip(taken, times_ns.tolist(), records, strict=True)
    ]


def _level(number: int) -> Level | None:
    return Level(number) if number in _LEVELS else None
