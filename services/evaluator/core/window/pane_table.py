"""The numbers of all panes of a partition, in columns by slot: what is folded, and the growing blocks of all sources.

A pane is one group in one window of one selection. Its code, the numbers of the window and of the group, leads to its
slot. A rule must not see totals of events from before it was known, because it has counted none of them. So folded
totals are kept apart by the revision of the rules that matched them, each in a window of its own. So are the rows of
groups beyond the limit while their block grows (`group_limit`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from services.evaluator.core.distinct_integers import distinct_integers
from services.evaluator.core.match.events import Ints, RowMask
from services.evaluator.core.partial_rows import ABSENT_NS, PartialRows
from services.evaluator.core.records import Group, Sample
from services.evaluator.core.window.aggregates import NAMES, AggregateColumns, Aggregates
from services.evaluator.core.window.code_index import NO_SLOT, CodeIndex, grown
from services.evaluator.core.window.column_condition import NumberColumns
from services.evaluator.core.window.group_limit import DEFAULT_LIMIT, GroupLimit
from services.evaluator.core.window.growing_blocks import BlockColumns, GrowingBlocks, NewRows
from services.evaluator.core.window.numbering import (
    NO_WINDOW,
    GroupNumbers,
    Window,
    WindowEntry,
    WindowNumbers,
    are_forgotten,
    are_open,
)
from services.evaluator.core.window.other_group import OtherGroups
from services.evaluator.core.window.sample_log import SampleColumns, SampleLog
from services.evaluator.core.window.tenant_groups import TenantGroups

# Of a code: those below are the group's number.
GROUP_BITS: Final = 32
_GROUP_MASK = (1 << GROUP_BITS) - 1
# So many closed windows are kept at most.
_MAX_CLOSED = 256
# What a rule has left that ended is freed at once from this share of the panes on; to free it costs as much as they do.
_MIN_FREED = 1 / 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Arrival:
    """Where rows come from: of each row its source and its window, and how far its block had come.

    `matched_by` is the revision of the rules that matched it.
    """

    sources: Sequence[int]
    # An index of `sources`.
    source: Ints
    windows: Ints
    up_to: Ints
    matched_by: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Replaced:
    """The rows that count, by their indexes, with the panes that they change.

    `former_counted` is how many events each replaced row counted, or -1. Several rows may change one pane: those of
    different sources, and those of what is beyond the limit (`is_beyond`). `is_first` is true of one of them.
    """

    rows: Ints
    slots: Ints
    groups: Ints
    former_counted: Ints
    is_beyond: RowMask
    is_first: RowMask


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

    def __init__(self, columns: TableColumns | None = None, limit: GroupLimit = DEFAULT_LIMIT) -> None:
        """Begin with nothing, or with what another table kept."""
        self.windows = WindowNumbers(columns.windows if columns else ())
        self.groups = GroupNumbers(columns.groups if columns else ())
        self.others = OtherGroups(limit, self.groups)
        self.tenants = TenantGroups(limit)
        # The rules that read the totals of each bucketing.
        self.readers: Mapping[str, Sequence[str]] = {}
        self._index = CodeIndex(columns.codes if columns else None)
        self.windows.panes.add(self._index.codes[1:] >> GROUP_BITS)
        self._folded = Aggregates.of(columns.folded) if columns else Aggregates()
        self._growing = GrowingBlocks(columns.blocks if columns else None)
        self._samples = SampleLog(columns.samples if columns else None)
        self._scratch = np.zeros(1, dtype=np.int32)

    def columns(self) -> TableColumns:
        """Return copies of everything; this takes milliseconds for 100,000 panes."""
        return TableColumns(
            windows=self.windows.entries(),
            groups=self.groups.entries(),
            codes=self._index.codes[1:].copy(),
            folded=self._folded.columns(len(self._index)),
            blocks=self._growing.columns(),
            samples=self._samples.columns(),
        )

    def find(self, windows: Ints, groups: Ints, *, is_adding: bool = False) -> Ints:
        """Return the slot of each pane by the numbers of its window and group; if it has none NO_SLOT, or a new one."""
        codes = (windows << GROUP_BITS) | groups
        if not is_adding:
            return self._index.find(codes)
        size = len(self._index)
        slots = self._index.find_or_add(codes)
        self.windows.panes.add(self._index.codes[size:] >> GROUP_BITS)
        self._folded.grow(len(self._index))
        return slots

    def panes_of(self, windows: Iterable[int]) -> tuple[Ints, Ints, Ints]:
        """Return the slots of all panes of windows, given by their numbers, and the window and group of each."""
        codes = self._index.codes
        slots = np.flatnonzero(_marked(np.array(list(windows), dtype=np.int64), len(self.windows))[codes >> GROUP_BITS])
        slots = slots[slots != NO_SLOT]
        return slots, codes[slots] >> GROUP_BITS, codes[slots] & _GROUP_MASK

    def replace(self, rows: PartialRows, arrival: Arrival) -> Replaced:
        """Put rows of growing blocks into their panes.

        Of each source and pane the row counts that has come furthest, if any has; of those that have come equally far
        the one that later rules matched.
        """
        growing = self._growing
        groups = self.groups.numbers(rows.groups)[rows.group]
        slots = self.find(arrival.windows, groups, is_adding=True)
        of_source = np.array([growing.index.place(source) for source in arrival.sources], dtype=np.int64)
        places = of_source[arrival.source]
        former_rows = growing.index.find(places, slots, len(self._index))
        former_fields = growing.take(former_rows, ("up_to", "matched_by"))
        is_later = (arrival.up_to == former_fields["up_to"]) & (arrival.matched_by > former_fields["matched_by"])
        kept = np.flatnonzero((arrival.up_to > former_fields["up_to"]) | is_later)
        kept = self._furthest(places * len(self._index) + slots, arrival, kept)
        kept_rows = former_rows[kept]
        former = np.where(kept_rows == NO_SLOT, -1, growing.take(kept_rows, ("counted",))["counted"])
        new = self._new_rows(rows, places, slots, arrival, kept)
        owners = self.windows.owners[arrival.windows[kept]]
        replaced = Replaced(
            rows=kept,
            slots=new.slots,
            groups=groups[kept],
            former_counted=former,
            is_beyond=owners != NO_WINDOW,
            is_first=self._are_first(new.slots),
        )
        if replaced.is_beyond.any():
            replaced = self._count_in_other(new, kept_rows, owners, replaced)
        growing.replace(new, kept_rows)
        return replaced

    def fold(self, source: int) -> None:
        """Add the rows of a source's block to their panes for good: the block has ended."""
        growing = self._growing
        rows = growing.end(source)
        fields = growing.take(rows, ("slots", "matched_by"))
        windows = self._index.codes[fields["slots"]] >> GROUP_BITS
        is_kept = are_open(self.windows)[windows]
        rows, slots = rows[is_kept], fields["slots"][is_kept].astype(np.int64)
        owners = self.windows.owners[windows[is_kept]]
        # What is beyond the limit is in the numbers of `~other` already.
        counted = np.flatnonzero(owners == NO_WINDOW)
        slots[counted] = self._folded_slots(slots[counted], fields["matched_by"][is_kept][counted])
        self._folded.merge(slots[counted], growing.take(rows[counted]))
        beyond = np.flatnonzero(owners != NO_WINDOW)
        _, slots[beyond] = self._other_panes(owners[beyond], self._index.codes[slots[beyond]] & _GROUP_MASK)
        counts, ids = growing.samples(rows)
        self._samples.fold(np.repeat(slots, counts), ids)

    def numbers(self, slots: Ints, names: Iterable[str] = NAMES) -> NumberColumns:
        """Return the numbers of panes, merged from all blocks; those of NO_SLOT are empty."""
        names = tuple(names)
        merged = self._folded.take(slots, names)
        places = np.arange(len(slots))
        for rows in self._growing.index.find_by_source(slots, len(self._index)):
            merged.merge(places, self._growing.take(rows, names))
        return merged.numbers()

    def totals(self, windows: Sequence[Window | None], places: Ints, groups: Ints, revisions: Ints) -> Totals:
        """Return the totals of groups in windows, each by its place in `windows`.

        Of each, the blocks count that rules of this revision or a later one matched.
        """
        slots = self.find(_numbers(windows)[places], groups)
        total, last_event_ns = np.zeros(len(slots), dtype=np.int64), np.full(len(slots), ABSENT_NS)
        is_known = np.zeros(len(slots), dtype=bool)
        for rows in self._growing.index.find_by_source(slots, len(self._index)):
            rows[self._growing.take(rows, ("matched_by",))["matched_by"] < revisions] = NO_SLOT
            numbers = self._growing.take(rows, ("total", "last_event_ns"))
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
        slots = distinct_integers(slots)
        growing: dict[int, list[int]] = {}
        slot_of_row, rows = self._sampled_rows(slots)
        counts, ids = self._growing.samples(rows)
        for slot, event in zip(np.repeat(slot_of_row, counts).tolist(), ids.tolist(), strict=True):
            growing.setdefault(slot, []).append(event)
        return self._samples.earliest(slots.tolist(), growing)

    def compact(self, *, is_forced: bool = False) -> None:
        """Free what is used no more once it is much, or, when a rule has ended, at once; slots change."""
        windows, is_open = self._index.codes >> GROUP_BITS, are_open(self.windows)
        is_used = is_open[windows] & (self.windows.owners[windows] == NO_WINDOW)
        is_used[self._growing.take(self._growing.all_rows(), ("slots",))["slots"]] = True
        is_used &= ~are_forgotten(self.windows)[windows]
        is_used[NO_SLOT] = False
        used = np.flatnonzero(is_used)
        closed, panes = int(np.count_nonzero(~is_open)) - 1, len(windows) - 1
        least = panes * _MIN_FREED if is_forced else panes / 2
        if panes - len(used) > least or closed > _MAX_CLOSED or self._samples.has_grown:
            self._keep(used)

    def _keep(self, used: Ints) -> None:
        codes = self._index.codes
        new_slots = np.zeros(len(codes), dtype=np.int64)
        new_slots[used] = np.arange(1, len(used) + 1)
        self._folded = self._folded.take(np.concatenate([[NO_SLOT], used]))
        self._index = CodeIndex(codes[used])
        self._scratch = np.zeros(1, dtype=np.int32)
        growing = self._growing
        growing.drop(new_slots != NO_SLOT)
        growing.renumber(new_slots, self._samples.cut(new_slots, growing.samples(growing.all_rows())[1]))
        kept = codes[used]
        self.windows.retire(kept >> GROUP_BITS)
        self.groups.retire(_marked(kept & _GROUP_MASK, len(self.groups)))

    def _count_in_other(self, new: NewRows, former_rows: Ints, owners: Ints, replaced: Replaced) -> Replaced:
        """Add to `~other` what rows of groups beyond the limit add to their former ones; return which panes change."""
        rows = np.flatnonzero(are_open(self.windows)[owners] & (owners != NO_WINDOW))
        if not len(rows):
            return replaced
        slots, groups, is_first = replaced.slots.copy(), replaced.groups.copy(), replaced.is_first.copy()
        of_rows = owners[rows]
        groups[rows], slots[rows] = self._other_panes(of_rows, replaced.groups[rows])
        is_first[rows] &= self._are_first(of_rows)
        is_totals = np.zeros(len(self.windows), dtype=bool)
        totals = [number for number in distinct_integers(of_rows).tolist() if self.windows[number].is_totals]
        is_totals[totals] = True
        counted = rows[~is_totals[of_rows]]
        added, numbers, _ = self._growing.added(new, former_rows, counted)
        self._folded.merge_all(slots[added], numbers)
        for owner in totals:
            of_owner, other = rows[of_rows == owner], int(groups[rows[of_rows == owner][0]])
            for rule_id in self.readers.get(self.windows[owner].selection[0], ()):
                here = of_owner[self.others.are_judged_here(rule_id, replaced.groups[of_owner])]
                _, numbers, matched_by = self._growing.added(new, former_rows, here)
                self._add(owner, self.others.of_reader(rule_id, other), matched_by, numbers)
        return replace(replaced, slots=slots, groups=groups, is_first=is_first)

    def _other_panes(self, windows: Ints, groups: Ints) -> tuple[Ints, Ints]:
        """Return the group `~other` beside each of these groups, and the slot of its pane in the window of each."""
        distinct, firsts, places = np.unique(windows, return_index=True, return_inverse=True)
        others = self.others.numbers(groups[firsts])
        return others[places], self.find(distinct, others, is_adding=True)[places]

    def _add(self, window: int, group: int, matched_by: Ints, numbers: NumberColumns) -> None:
        """Add numbers to a pane of totals, by the revision of the rules."""
        windows = self._folded_windows(np.full(len(matched_by), window), matched_by)
        self._folded.merge_all(self.find(windows, np.full(len(windows), group), is_adding=True), numbers)

    def _sampled_rows(self, slots: Ints) -> tuple[Ints, Ints]:
        """Return the rows of growing blocks with the samples of these panes, and the slot of each row's pane."""
        found = self._growing.index.find_by_source(slots, len(self._index))
        owned, rows = [np.tile(slots, len(found))], [np.zeros(0, dtype=np.int64), *found]
        codes = self._index.codes
        for slot in slots[slots != NO_SLOT].tolist():
            window = self.windows[int(codes[slot] >> GROUP_BITS)]
            group = int(codes[slot] & _GROUP_MASK)
            if window.overflow is not None and group == self.others.number(group):
                every = self._growing.all_rows()
                rows_windows = codes[self._growing.take(every, ("slots",))["slots"]] >> GROUP_BITS
                rows.append(every[rows_windows == window.overflow.number])
                owned.append(np.full(len(rows[-1]), slot))
        return np.concatenate(owned), np.concatenate(rows)

    def _furthest(self, panes: Ints, arrival: Arrival, rows: Ints) -> Ints:
        """Return of the rows of each source and pane the one that has come furthest; of several, the first one."""
        up_to, matched_by = arrival.up_to, arrival.matched_by
        if len(rows) and ((up_to != up_to[0]).any() or (matched_by != matched_by[0]).any()):
            rows = rows[np.lexsort([-matched_by[rows], -up_to[rows]])]
        first: Ints = rows[self._are_first(panes[rows])]
        return first

    def _are_first(self, numbers: Ints) -> RowMask:
        """Return which of these are the first of those that are equal."""
        self._scratch = grown(self._scratch, int(numbers.max(initial=0)) + 1, 0)
        places = np.arange(len(numbers))
        # Backwards, so that the first one remains.
        self._scratch[numbers[::-1]] = places[::-1]
        are_first: RowMask = self._scratch[numbers] == places
        return are_first

    def _new_rows(self, rows: PartialRows, places: Ints, slots: Ints, arrival: Arrival, kept: Ints) -> NewRows:
        sampled = rows if len(kept) == len(rows) and (kept[1:] > kept[:-1]).all() else rows.take(kept)
        return NewRows(
            places=places[kept],
            slots=slots[kept],
            up_to=arrival.up_to[kept],
            matched_by=arrival.matched_by[kept],
            numbers={name: getattr(sampled, name) for name in NAMES},
            sample_counts=np.bincount(sampled.sample_rows, minlength=len(kept)),
            sample_ids=sampled.sample_indexes + self._samples.add(rows.samples),
        )

    def _folded_slots(self, slots: Ints, matched_by: Ints) -> Ints:
        """Return the slot of the pane that the row of each pane is folded into."""
        codes = self._index.codes[slots]
        windows = codes >> GROUP_BITS
        folded = self._folded_windows(windows, matched_by)
        moved = np.flatnonzero(folded != windows)
        if len(moved):
            slots = slots.copy()
            slots[moved] = self.find(folded[moved], codes[moved] & _GROUP_MASK, is_adding=True)
        return slots

    def _folded_windows(self, windows: Ints, matched_by: Ints) -> Ints:
        """Return the number of the window that each row is folded into: its own, or by the revision for totals."""
        folded = windows.copy()
        for number in distinct_integers(windows).tolist():
            if self.windows[number].is_totals:
                rows = np.flatnonzero(windows == number)
                for revision in distinct_integers(matched_by[rows]).tolist():
                    folded[rows[matched_by[rows] == revision]] = self.windows.folded(number, revision).number
        return folded


def _numbers(windows: Sequence[Window | None]) -> Ints:
    return np.array([window.number if window else NO_WINDOW for window in windows], dtype=np.int64)


def _marked(numbers: Ints, size: int) -> RowMask:
    marked = np.zeros(size, dtype=bool)
    marked[numbers] = True
    return marked
