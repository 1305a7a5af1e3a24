"""Rows of `window-partials` as columns: what one flush writes to one partition, without an object for each row.

A row is as in `records`: a key and the aggregate that is cumulative from the start of its block. It may stand for
several rules at once (`shared_rows`). Strings that rows share (selections, groups, trace contexts) and samples stand
once in tables; rows hold indexes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, TypeVar

import numpy as np

from services.evaluator.core.match.events import Floats, Ints, RowMask
from services.evaluator.core.records import BlockProgress, Group, Row, Sample
from services.evaluator.core.rules import SelectionKey
from services.evaluator.core.samples import NO_SAMPLES, SampleTable

# In place of a moment that is absent.
ABSENT_NS: Final = int(np.iinfo(np.int64).min)
# The columns of numbers; a minimum or maximum that is absent is not a number.
INTEGERS: Final = ("pane_ns", "counted", "total", "value_count", "last_event_ns")
DOUBLES: Final = ("sum", "min", "max")
# The columns of indexes, and the table that each points into.
INDEXES: Final = {"selection": "selections", "group": "groups", "traceparent": "traceparents"}

# The selections that share a row: they have counted the same events of its block so far.
Sharers = tuple[SelectionKey, ...]

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PartialRows:
    """Rows as columns. The arrays may be read-only, or views of others: do not write into them."""

    # Each entry once: what is counted (rules in one form each, or the totals of a bucketing), where, by which trace.
    selections: Sequence[Sharers]
    groups: Sequence[Group]
    traceparents: Sequence[str]
    samples: SampleTable
    # One entry for each row: indexes into the tables above, and the numbers of Aggregate.
    selection: Ints
    group: Ints
    traceparent: Ints
    pane_ns: Ints
    counted: Ints
    total: Ints
    value_count: Ints
    last_event_ns: Ints
    sum: Floats
    min: Floats
    max: Floats
    # One entry for each sample of a row, by rising row: the row, and the index of the sample. A row has all of its
    # samples, or none when the writer has sent the same ones before.
    sample_rows: Ints
    sample_indexes: Ints

    def __len__(self) -> int:
        return len(self.pane_ns)

    @property
    def keys(self) -> list[SelectionKey]:
        """The only selection of each entry of `selections`; ValueError where several share rows."""
        return [key for (key,) in self.selections]

    @property
    def sharers(self) -> Ints:
        """How many selections share each row."""
        return np.array([len(each) for each in self.selections], dtype=np.int64)[self.selection]

    def take(self, rows: Ints) -> "PartialRows":
        """Return the rows with these indexes, in this order, each with its samples; the tables stay whole."""
        of_each = np.bincount(self.sample_rows, minlength=len(self))
        counts = of_each[rows]
        firsts = np.repeat((np.cumsum(of_each) - of_each)[rows] - (np.cumsum(counts) - counts), counts)
        return replace(
            self,
            **{name: getattr(self, name)[rows] for name in (*INDEXES, *INTEGERS, *DOUBLES)},
            sample_rows=np.repeat(np.arange(len(rows)), counts),
            sample_indexes=self.sample_indexes[firsts + np.arange(len(firsts))],
        )

    def compact(self) -> "PartialRows":
        """Return the same rows with tables that hold only what some row points to."""
        changes: dict[str, Any] = {}
        for name, table in INDEXES.items():
            entries = getattr(self, table)
            used, changes[name] = _used(getattr(self, name), len(entries))
            if len(used) < len(entries):
                changes[table] = tuple(entries[index] for index in used.tolist())
        used, changes["sample_indexes"] = _used(self.sample_indexes, len(self.samples))
        if len(used) < len(self.samples):
            changes["samples"] = self.samples.take(used) if len(used) else NO_SAMPLES
        return replace(self, **changes)


def _used(indexes: Ints, entries: int) -> tuple[Ints, Ints]:
    """Return the entries of a table that are pointed to, and the indexes into these alone."""
    if entries == 1 or not len(indexes):
        return np.arange(min(entries, len(indexes))), indexes
    is_used = np.zeros(entries, dtype=np.bool_)
    is_used[indexes] = True
    used = np.flatnonzero(is_used)
    return used, indexes if len(used) == entries else (np.cumsum(is_used) - 1)[indexes]


def concat(parts: Sequence[PartialRows]) -> PartialRows:
    """Return the rows of all parts, one part after the other, with common tables."""
    columns: dict[str, list[Any]] = {each.name: [] for each in fields(PartialRows)}
    tables: dict[str, dict[Any, int]] = {table: {} for table in INDEXES.values()}
    rows, samples = 0, 0
    for part in parts:
        for name, table in INDEXES.items():
            columns[name].append(_codes(getattr(part, table), tables[table])[getattr(part, name)])
        for name in (*INTEGERS, *DOUBLES):
            columns[name].append(getattr(part, name))
        columns["sample_rows"].append(part.sample_rows + rows)
        columns["sample_indexes"].append(part.sample_indexes + samples)
        rows, samples = rows + len(part), samples + len(part.samples)
    arrays = {name: _concat(columns[name], name) for name in columns if name not in (*tables, "samples")}
    whole: dict[str, Any] = {table: tuple(entries) for table, entries in tables.items()}
    return PartialRows(**arrays, **whole, samples=SampleTable.concat([part.samples for part in parts]))


def _concat(arrays: Sequence[Any], name: str) -> Any:
    dtype = np.float64 if name in DOUBLES else np.int64
    return np.concatenate(arrays, dtype=dtype) if arrays else np.zeros(0, dtype=dtype)


def _codes(values: Iterable[_Value], table: dict[_Value, int]) -> Ints:
    """Return for each value its place in the table; new values are added."""
    return np.array([table.setdefault(value, len(table)) for value in values], dtype=np.int64)


def of_rows(rows: Sequence[Row]) -> PartialRows:
    """Return rows as columns."""
    selections: dict[Sharers, int] = {}
    groups: dict[Group, int] = {}
    traceparents: dict[str, int] = {}
    samples: dict[Sample, int] = {}
    keys, aggregates = [row.key for row in rows], [row.aggregate for row in rows]
    sample_counts = [len(aggregate.samples) for aggregate in aggregates]
    sample_indexes = _codes((sample for aggregate in aggregates for sample in aggregate.samples), samples)
    return PartialRows(
        selection=_codes((((key.rule_id, key.selection_revision),) for key in keys), selections),
        group=_codes((key.group for key in keys), groups),
        traceparent=_codes((aggregate.traceparent for aggregate in aggregates), traceparents),
        pane_ns=_integers(key.pane_ns for key in keys),
        counted=_integers(aggregate.counted for aggregate in aggregates),
        total=_integers(aggregate.total for aggregate in aggregates),
        value_count=_integers(aggregate.value_count for aggregate in aggregates),
        last_event_ns=_integers(
            ABSENT_NS if aggregate.last_event_ns is None else aggregate.last_event_ns for aggregate in aggregates
        ),
        sum=_doubles(aggregate.sum for aggregate in aggregates),
        min=_doubles(aggregate.min for aggregate in aggregates),
        max=_doubles(aggregate.max for aggregate in aggregates),
        sample_rows=np.repeat(np.arange(len(rows)), sample_counts),
        sample_indexes=sample_indexes,
        selections=tuple(selections),
        groups=tuple(groups),
        traceparents=tuple(traceparents),
        samples=SampleTable.of(samples),
    )


def _integers(values: Iterable[int]) -> Ints:
    return np.array(list(values), dtype=np.int64)


def _doubles(values: Iterable[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


NO_ROWS: Final = of_rows(())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockPart:
    """What one flush writes of one block to one output partition, beside the rows themselves."""

    progress: BlockProgress
    # How many rows it has.
    rows: int = 0
    # Panes, by their starts, in which a rule was not evaluated for some event of the block.
    missed: Mapping[SelectionKey, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PartialBatch:
    """What one flush writes to one output partition: at most one block of each source."""

    blocks: Sequence[BlockPart]
    # One block's rows after the other's.
    rows: PartialRows = NO_ROWS
    # Whether further batches of the same flush follow in this output partition.
    continues: bool = False
    # The output partition, of so many: a row that rules share is for those of them that judge its group here.
    output: int = 0
    outputs: int = 1

    @classmethod
    def of_block(
        cls,
        progress: BlockProgress,
        rows: PartialRows = NO_ROWS,
        missed: Mapping[SelectionKey, Sequence[int]] | None = None,
        *,
        continues: bool = False,
    ) -> "PartialBatch":
        """Return a batch of one block."""
        part = BlockPart(progress=progress, rows=len(rows), missed=missed or {})
        return cls(blocks=(part,), rows=rows, continues=continues)

    @property
    def expanded_rows(self) -> int:
        """About how many rows it becomes where it is read: each rule that shares a row judges it in one partition."""
        sharers = self.rows.sharers
        shared = sharers[sharers > 1]
        return len(sharers) - len(shared) + int(shared.sum()) // self.outputs

    @property
    def has_single_bucket(self) -> bool:
        """Whether all its rows are of one group and pane."""
        return not _borders(self.rows, np.arange(len(self.rows))).any()

    @property
    def block_of_row(self) -> Ints:
        """The index of each row's block."""
        return np.repeat(np.arange(len(self.blocks)), [part.rows for part in self.blocks])

    def take(self, rows: Ints) -> "PartialBatch":
        """Return the batch with these rows alone, given by their rising indexes."""
        sizes = np.bincount(self.block_of_row[rows], minlength=len(self.blocks)).tolist()
        blocks = [replace(part, rows=size) for part, size in zip(self.blocks, sizes, strict=True)]
        return replace(self, blocks=blocks, rows=self.rows.take(rows))


def split_batch(batch: PartialBatch) -> tuple[PartialBatch, PartialBatch]:
    """Split a batch that is too large for one record. Only the second half carries times, so no row comes after them.

    A group's rows stay together where possible: each record is judged alone, so a count must come with its total.
    """
    rows = batch.rows
    order = np.lexsort([rows.pane_ns, rows.group])
    middle = _split_index(_borders(rows, order))
    first, second = batch.take(np.sort(order[:middle])), batch.take(np.sort(order[middle:]))
    timeless = [
        replace(part, progress=replace(part.progress, max_event_ns=None, max_arrival_ns=None, idle_ns=None))
        for part in first.blocks
    ]
    return (
        replace(first, blocks=timeless, continues=True),
        replace(second, blocks=[replace(part, missed={}) for part in second.blocks]),
    )


def _borders(rows: PartialRows, order: Ints) -> RowMask:
    """Mark, for each row in this order but the first, whether another group or pane begins with it."""
    borders: RowMask = (np.diff(rows.group[order]) != 0) | (np.diff(rows.pane_ns[order]) != 0)
    return borders


def _split_index(borders: RowMask) -> int:
    """Return the index of a row near the middle at which a group begins; the middle when there is only one group."""
    middle = (len(borders) + 1) // 2
    begins = np.flatnonzero(borders) + 1
    after = begins[begins >= middle]
    if len(after):
        return int(after[0])
    return int(begins[-1]) if len(begins) else middle
