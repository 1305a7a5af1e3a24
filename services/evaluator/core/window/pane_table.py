"""The numbers of all panes of a partition, in columns by slot: what is folded, and the growing block of each source.

A pane is one group in one window of one selection. Its code, the numbers of the window and of the group, leads to its
slot. A rule must not see totals of events from before it was known, because it has counted none of them. So folded
totals are kept apart by the revision of the rules that matched them, each in a window of its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from services.evaluator.core.match.events import Ints, RowMask
from services.evaluator.core.partial_rows import ABSENT_NS, PartialRows
from services.evaluator.core.records import Group, Sample
from services.evaluator.core.window.aggregates import NAMES, AggregateColumns, Aggregates
from services.evaluator.core.window.code_index import NO_SLOT, CodeIndex, grown
from services.evaluator.core.window.column_condition import NumberColumns
from services.evaluator.core.window.growing_block import BlockColumns, GrowingBlock, NewRows
from services.evaluator.core.window.numbering import NO_WINDOW, GroupNumbers, Window, WindowEntry, WindowNumbers
from services.evaluator.core.window.sample_log import SampleColumns, SampleLog

# Of a code: those below are the group's number.
GROUP_BITS: Final = 32
_GROUP_MASK = (1 << GROUP_BITS) - 1
# So many closed windows are kept at most.
_MAX_CLOSED = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Arrival:
    """Where rows come from: of each row its window, and of the record that brought it how far it has come.

    `matched_by` is the revision of the rules that matched the record.
    """

    source: int
    windows: Ints
    up_to: Ints
    matched_by: Ints

    def take(self, rows: Ints) -> "Arrival":
        """Return these rows."""
        return replace(self, windows=self.windows[rows], up_to=self.up_to[rows], matched_by=self.matched_by[rows])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Replaced:
    """The rows that count, by their indexes, with their panes; how many events each replaced row counted, or -1."""

    rows: Ints
    slots: Ints
    groups: Ints
    former_counted: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Totals:
    """How many events the scope of each pane selected, the time of the last one, and whether that is known at all."""

    total: Ints
    last_event_ns: Ints
    is_known: RowMask


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TableColumns:
    """Everything that a table keeps, as it is; panes that are not freed yet are among it."""

    # In the order of their numbers, those of windows from 1 on; None is a number that is free.
    windows: Sequence[WindowEntry | None]
    groups: Sequence[Group | None]
    # Of each pane, from slot 1 on.
    codes: Ints
    folded: AggregateColumns
    # By source.
    blocks: Mapping[int, BlockColumns]
    samples: SampleColumns

    def counting_windows(self) -> list[int]:
        """Return the numbers of the windows in which rows that come still count."""
        entries = enumerate(self.windows, start=1)
        return [number for number, entry in entries if entry is not None and entry.is_open and entry.is_listed]


class PaneTable:
    """All panes of a partition. Changed in place."""

    def __init__(self, columns: TableColumns | None = None) -> None:
        """Begin with nothing, or with what another table kept."""
        self.windows = WindowNumbers(columns.windows if columns else ())
        self.groups = GroupNumbers(columns.groups if columns else ())
        self._index = CodeIndex(columns.codes if columns else None)
        self._folded = Aggregates.of(columns.folded) if columns else Aggregates()
        blocks = columns.blocks if columns else {}
        self._growing: dict[int, GrowingBlock] = {source: GrowingBlock.of(rows) for source, rows in blocks.items()}
        self._samples = SampleLog(columns.samples if columns else None)
        self._scratch = np.zeros(1, dtype=np.int32)

    def columns(self) -> TableColumns:
        """Return copies of everything; this takes milliseconds for 100,000 panes."""
        return TableColumns(
            windows=self.windows.entries(),
            groups=self.groups.entries(),
            codes=self._index.codes[1:].copy(),
            folded=self._folded.columns(len(self._index)),
            blocks={source: block.columns() for source, block in self._growing.items()},
            samples=self._samples.columns(),
        )

    def find(self, windows: Ints, groups: Ints) -> Ints:
        """Return the slot of each pane by the numbers of its window and group; NO_SLOT where there is none."""
        return self._index.find((windows << GROUP_BITS) | groups)

    def panes_of(self, windows: Iterable[int]) -> tuple[Ints, Ints, Ints]:
        """Return the slots of all panes of windows, given by their numbers, and the window and group of each."""
        codes = self._index.codes
        slots = np.flatnonzero(_marked(np.array(list(windows), dtype=np.int64), self.windows.size)[codes >> GROUP_BITS])
        slots = slots[slots != NO_SLOT]
        return slots, codes[slots] >> GROUP_BITS, codes[slots] & _GROUP_MASK

    def replace(self, rows: PartialRows, arrival: Arrival) -> Replaced:
        """Put rows of one block into their panes. Of each pane the row counts that has come furthest, if any has."""
        block = self._growing.setdefault(arrival.source, GrowingBlock())
        groups = self.groups.numbers(rows.groups)[rows.group]
        slots = self._index.find_or_add((arrival.windows << GROUP_BITS) | groups)
        self._folded.grow(len(self._index))
        block_rows = block.rows_of(slots, len(self._index))
        kept = np.flatnonzero(arrival.up_to > block.take(block_rows, ("up_to",))["up_to"])
        kept = self._furthest(slots, arrival.up_to, kept)
        kept_rows = block_rows[kept]
        former = np.where(kept_rows == NO_SLOT, -1, block.take(kept_rows, ("counted",))["counted"])
        block.replace(self._new_rows(rows, slots, arrival, kept), kept_rows)
        return Replaced(rows=kept, slots=slots[kept], groups=groups[kept], former_counted=former)

    def fold(self, source: int) -> None:
        """Add the rows of a source's block to their panes for good: the block has ended."""
        block = self._growing.pop(source, None)
        if block is None:
            return
        rows = block.all_rows()
        fields = block.take(rows, ("slots", "matched_by"))
        codes = self._index.codes[fields["slots"]]
        windows = codes >> GROUP_BITS
        is_kept = self.windows.are_open()[windows]
        rows, slots, codes, windows = rows[is_kept], fields["slots"][is_kept], codes[is_kept], windows[is_kept]
        folded = self._folded_windows(windows, fields["matched_by"][is_kept])
        moved = np.flatnonzero(folded != windows)
        if len(moved):
            slots[moved] = self._index.find_or_add((folded[moved] << GROUP_BITS) | (codes[moved] & _GROUP_MASK))
            self._folded.grow(len(self._index))
        self._folded.merge(slots, block.take(rows))
        counts, ids = block.samples(rows)
        self._samples.fold(np.repeat(slots, counts), ids)

    def numbers(self, slots: Ints, names: Iterable[str] = NAMES) -> NumberColumns:
        """Return the numbers of panes, merged from all blocks; those of NO_SLOT are empty."""
        names = tuple(names)
        merged = self._folded.take(slots, names)
        places = np.arange(len(slots))
        for block in self._growing.values():
            rows = block.rows_of(slots, len(self._index))
            if rows.any():
                merged.merge(places, block.take(rows, names))
        return merged.numbers()

    def totals(self, windows: Sequence[Window | None], places: Ints, groups: Ints, revisions: Ints) -> Totals:
        """Return the totals of groups in windows, each by its place in `windows`.

        Of each, the blocks count that rules of this revision or a later one matched.
        """
        slots = self.find(_numbers(windows)[places], groups)
        total, last_event_ns = np.zeros(len(slots), dtype=np.int64), np.full(len(slots), ABSENT_NS)
        is_known = np.zeros(len(slots), dtype=bool)
        for block in self._growing.values():
            rows = block.rows_of(slots, len(self._index))
            rows[block.take(rows, ("matched_by",))["matched_by"] < revisions] = NO_SLOT
            numbers = block.take(rows, ("total", "last_event_ns"))
            total += numbers["total"]
            last_event_ns = np.maximum(last_event_ns, numbers["last_event_ns"])
            is_known |= rows != NO_SLOT
        for revision in {revision for window in windows if window for revision in window.by_revision}:
            folded = _numbers([window.by_revision.get(revision) if window else None for window in windows])
            slots = np.where(revisions <= revision, self.find(folded[places], groups), NO_SLOT)
            numbers = self._folded.take(slots, ("total", "last_event_ns")).numbers()
            total += numbers["total"]
            last_event_ns = np.maximum(last_event_ns, numbers["last_event_ns"])
            is_known |= slots != NO_SLOT
        return Totals(total=total, last_event_ns=last_event_ns, is_known=is_known)

    def samples(self, slots: Ints) -> dict[int, tuple[Sample, ...]]:
        """Return the earliest events among the samples of panes, by slot."""
        slots = np.unique(slots)
        growing: dict[int, list[int]] = {}
        for block in self._growing.values():
            counts, ids = block.samples(block.rows_of(slots, len(self._index)))
            for slot, event in zip(np.repeat(slots, counts).tolist(), ids.tolist(), strict=True):
                growing.setdefault(slot, []).append(event)
        return self._samples.earliest(slots.tolist(), growing)

    def compact(self) -> None:
        """Free what closed windows have left, once it is much; slots change."""
        windows, are_open = self._index.codes >> GROUP_BITS, self.windows.are_open()
        is_used = are_open[windows]
        is_used[NO_SLOT] = False
        for block in self._growing.values():
            is_used[block.take(block.all_rows(), ("slots",))["slots"]] = True
        used = np.flatnonzero(is_used)
        closed = int(np.count_nonzero(~are_open)) - 1
        if 2 * len(used) < len(windows) - 1 or closed > _MAX_CLOSED or self._samples.has_grown:
            self._keep(used)

    def _keep(self, used: Ints) -> None:
        codes = self._index.codes
        new_slots = np.zeros(len(codes), dtype=np.int64)
        new_slots[used] = np.arange(1, len(used) + 1)
        self._folded = self._folded.take(np.concatenate([[NO_SLOT], used]))
        self._index = CodeIndex(codes[used])
        blocks = self._growing.values()
        new_ids = self._samples.cut(
            new_slots,
            np.concatenate([np.zeros(0, np.int64), *(block.samples(block.all_rows())[1] for block in blocks)]),
        )
        for block in blocks:
            block.renumber(new_slots, new_ids)
        kept = codes[used]
        self.windows.retire(_marked(kept >> GROUP_BITS, self.windows.size))
        self.groups.retire(_marked(kept & _GROUP_MASK, len(self.groups)))

    def _furthest(self, slots: Ints, up_to: Ints, rows: Ints) -> Ints:
        """Return of the rows of each pane the one that has come furthest; of several, the first one."""
        if len(rows) and (up_to != up_to[0]).any():
            rows = rows[np.argsort(-up_to[rows], kind="stable")]
        self._scratch = grown(self._scratch, len(self._index), 0)
        # Backwards, so that the first one remains.
        self._scratch[slots[rows[::-1]]] = rows[::-1]
        first: Ints = rows[self._scratch[slots[rows]] == rows]
        return first

    def _new_rows(self, rows: PartialRows, slots: Ints, arrival: Arrival, kept: Ints) -> NewRows:
        sampled = rows if len(kept) == len(rows) and (kept[1:] > kept[:-1]).all() else rows.take(kept)
        return NewRows(
            slots=slots[kept],
            up_to=arrival.up_to[kept],
            matched_by=arrival.matched_by[kept],
            numbers={name: getattr(sampled, name) for name in NAMES},
            sample_counts=np.bincount(sampled.sample_rows, minlength=len(kept)),
            sample_ids=sampled.sample_indexes + self._samples.add(rows.samples),
        )

    def _folded_windows(self, windows: Ints, matched_by: Ints) -> Ints:
        """Return the number of the window that each row is folded into: its own, or by the revision for totals."""
        folded = windows.copy()
        for number in np.unique(windows).tolist():
            if self.windows[number].is_totals:
                rows = np.flatnonzero(windows == number)
                for revision in np.unique(matched_by[rows]).tolist():
                    folded[rows[matched_by[rows] == revision]] = self.windows.folded(number, revision).number
        return folded


def _numbers(windows: Sequence[Window | None]) -> Ints:
    return np.array([window.number if window else NO_WINDOW for window in windows], dtype=np.int64)


def _marked(numbers: Ints, size: int) -> RowMask:
    marked = np.zeros(size, dtype=bool)
    marked[numbers] = True
    return marked
