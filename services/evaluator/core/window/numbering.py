"""Numbers of windows and groups: panes are found by them, in arrays."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import starmap
from typing import NamedTuple

import numpy as np

from services.evaluator.core.distinct_integers import distinct_integers
from services.evaluator.core.match.events import Ints, RowMask
from services.evaluator.core.match.outputs import group_checksums, outputs_of
from services.evaluator.core.records import Group, RowKey
from services.evaluator.core.rules import SelectionKey
from services.evaluator.core.window.code_index import grown
from services.evaluator.core.window.group_limit import UNLIMITED, GroupLimitKind

# The number of no window.
NO_WINDOW = 0


@dataclass(slots=True, eq=False, kw_only=True)
class Window:
    """One window of a selection, or of the totals of a bucketing. Changed in place."""

    number: int
    selection: SelectionKey
    start_ns: int
    # The oldest partial record that one of its panes needs.
    first_offset: int
    # Whether rows still count in it; those of a closed one are late.
    is_open: bool
    # Whether the rule was not evaluated for some of its events: what it counts is too few.
    is_incomplete: bool = False
    # Of totals: the windows of folded blocks, by the revision of the rules that matched them.
    by_revision: "dict[int, Window]" = field(default_factory=dict)
    # Where the rows of groups beyond the limit are kept until their block ends.
    overflow: "Window | None" = None
    # Whether it is gone with all its rows, so that they do not even say what is late.
    is_forgotten: bool = False
    # Which limit it has reached, if any, and whether that was reported.
    limit_reached: GroupLimitKind | None = None
    is_limit_reported: bool = False

    # Whether it counts what the scope of a bucketing selects, not what a rule selects.
    is_totals: bool = field(init=False)
    # Whether it counts events that some rule drops as late once the watermark has reached its start.
    is_closing: bool = field(init=False)

    def __post_init__(self) -> None:
        """Keep what the selection says: it is asked for each window of each flush."""
        key = RowKey(*self.selection, (), self.start_ns)
        self.is_totals, self.is_closing = key.is_totals, key.is_closing


class WindowEntry(NamedTuple):
    """A window as a snapshot keeps it."""

    rule_id: str
    selection_revision: int
    start_ns: int
    first_offset: int
    is_open: bool
    is_incomplete: bool
    # Whether rows find it by its start.
    is_listed: bool
    # Of folded totals: the number of the window that they belong to, and the revision; else NO_WINDOW.
    folded_of: int
    revision: int
    # The number of the window whose overflow it is, or NO_WINDOW.
    overflow_of: int = NO_WINDOW

    @property
    def key(self) -> tuple[SelectionKey, int]:
        """The selection and the start, by which rows find it."""
        return (self.rule_id, self.selection_revision), self.start_ns


_NO_WINDOW = Window(number=NO_WINDOW, selection=("", 1), start_ns=0, first_offset=0, is_open=False)


class PaneCounts:
    """How many panes each window has, and how many it may have, by the numbers of windows. Changed in place."""

    def __init__(self, size: int) -> None:
        """Begin without panes, and without limits."""
        self._panes = np.zeros(size, dtype=np.int64)
        self._max_panes = np.full(size, UNLIMITED)

    def begin(self, number: int) -> None:
        """Begin with a window that has no panes and no limit."""
        self._panes, self._max_panes = grown(self._panes, number + 1, 0), grown(self._max_panes, number + 1, UNLIMITED)
        self._panes[number], self._max_panes[number] = 0, UNLIMITED

    def limit(self, number: int, max_panes: int) -> None:
        """Set how many panes a window may have."""
        self._max_panes[number] = max_panes

    def add(self, windows: Ints) -> None:
        """Count new panes, given the window of each."""
        self._panes += self.of(windows)

    def recount(self, windows: Ints) -> None:
        """Count the panes that are left, given the window of each."""
        self._panes = self.of(windows)

    def of(self, windows: Ints) -> Ints:
        """Return for each number how often it is among these."""
        return np.bincount(windows, minlength=len(self._panes))

    def rooms_in(self, numbers: Ints) -> Ints:
        """Return how many more panes each of these windows may have."""
        rooms: Ints = self._max_panes[numbers] - self._panes[numbers]
        return rooms

    def groups_in(self, numbers: Ints) -> Ints:
        """Return how many panes each of these open windows has, without that of `~other`."""
        is_full = self._max_panes[numbers] <= 0
        return self._panes[numbers] - is_full

    def limited(self) -> Ints:
        """Return the numbers of the windows that have a limit: open ones."""
        return np.flatnonzero(self._max_panes < UNLIMITED)

    @property
    def room(self) -> int:
        """How many more panes each window may have at least."""
        return int((self._max_panes - self._panes).min())


class WindowNumbers:
    """The windows of a partition by their numbers, which are used again once nothing refers to them.

    Changed in place.
    """

    def __init__(self, entries: Sequence[WindowEntry | None] = ()) -> None:
        """Begin with these windows, in the order of their numbers from 1 on; None is a number that is free."""
        self._windows: list[Window] = [_NO_WINDOW, *starmap(_window_of, enumerate(entries, start=1))]
        self._free: list[int] = [number for number, entry in enumerate(entries, start=1) if entry is None]
        self._by_start: dict[tuple[SelectionKey, int], Window] = {}
        self.panes = PaneCounts(len(self))
        # Of each number whose overflow the window is.
        self._owners = np.zeros(len(self), dtype=np.int64)
        for entry, window in zip(entries, self._windows[1:], strict=True):
            if entry is not None and entry.is_listed:
                self._by_start[entry.key] = window
            if entry is not None and entry.folded_of:
                self._windows[entry.folded_of].by_revision[entry.revision] = window
            if entry is not None and entry.overflow_of:
                self._set_overflow(self._windows[entry.overflow_of], window)

    def entries(self) -> tuple[WindowEntry | None, ...]:
        """Return all windows, in the order of their numbers from 1 on; None is a number that is free."""
        parents = {
            id(folded): (window.number, revision)
            for window in self._windows
            for revision, folded in window.by_revision.items()
        }
        return tuple(
            None
            if window is _NO_WINDOW
            else WindowEntry(
                *window.selection,
                window.start_ns,
                window.first_offset,
                window.is_open,
                window.is_incomplete,
                self._by_start.get((window.selection, window.start_ns)) is window,
                *parents.get(id(window), (NO_WINDOW, 0)),
                int(self._owners[window.number]),
            )
            for window in self._windows[1:]
        )

    def __len__(self) -> int:
        """Return the first number that was never used."""
        return len(self._windows)

    def __iter__(self) -> Iterator[Window]:
        """Return all windows, in the order of their numbers from 0 on."""
        return iter(self._windows)

    def find(self, selection: SelectionKey, start_ns: int) -> Window | None:
        """Return the window of a selection that starts there."""
        return self._by_start.get((selection, start_ns))

    def add(self, selection: SelectionKey, start_ns: int, offset: int, *, is_open: bool) -> Window:
        """Add a window whose first row is in this partial record."""
        window = self._new(selection, start_ns, offset, is_open=is_open)
        self._by_start[selection, start_ns] = window
        return window

    def folded(self, number: int, revision: int) -> Window:
        """Return the window of folded totals that rules of this revision matched."""
        window = self[number]
        folded = window.by_revision.get(revision)
        if folded is None:
            folded = self._new(window.selection, window.start_ns, window.first_offset, is_open=True)
            window.by_revision[revision] = folded
        return folded

    def overflow(self, window: Window) -> Window:
        """Return the window of the groups that are beyond the limit in this one."""
        if window.overflow is None:
            return self._set_overflow(
                window, self._new(window.selection, window.start_ns, window.first_offset, is_open=True)
            )
        return window.overflow

    def close(self, window: Window, *, is_forgotten: bool = False) -> None:
        """Close a window: its rows are late from now on, or begin another one if it is forgotten."""
        for each in (window, window.overflow, *window.by_revision.values()):
            if each is not None:
                each.is_open, each.is_forgotten = False, is_forgotten
                self.panes.limit(each.number, UNLIMITED)
        if is_forgotten:
            del self._by_start[window.selection, window.start_ns]

    @property
    def owners(self) -> Ints:
        """The window whose overflow has each number; NO_WINDOW for all others."""
        return self._owners

    def __getitem__(self, number: int) -> Window:
        """Return the window with this number."""
        return self._windows[number]

    def retire(self, panes: Ints) -> None:
        """Use the numbers of closed windows again, except those of the panes that are left, given by their windows."""
        self.panes.recount(panes)
        # A window stays as long as its overflow.
        used = (self.panes.of(panes) > 0) | (self.panes.of(self._owners[panes]) > 0)
        for number, window in enumerate(self._windows):
            if window is not _NO_WINDOW and not window.is_open and not used[number]:
                self._windows[number] = _NO_WINDOW
                self._free.append(number)
                key = window.selection, window.start_ns
                if self._by_start.get(key) is window:
                    del self._by_start[key]

    def _set_overflow(self, window: Window, overflow: Window) -> Window:
        window.overflow = overflow
        self._owners[overflow.number] = window.number
        if window.is_open:
            # No further ones once a group was beyond the limit.
            self.panes.limit(window.number, 0)
        return overflow

    def _new(self, selection: SelectionKey, start_ns: int, offset: int, *, is_open: bool) -> Window:
        number = self._free.pop() if self._free else len(self._windows)
        if number == len(self._windows):
            self._windows.append(_NO_WINDOW)
            self._owners = grown(self._owners, len(self), NO_WINDOW)
        self.panes.begin(number)
        self._owners[number] = NO_WINDOW
        window = self._windows[number] = Window(
            number=number, selection=selection, start_ns=start_ns, first_offset=offset, is_open=is_open
        )
        return window


def are_open(windows: WindowNumbers) -> RowMask:
    """Return for each number whether its window is open."""
    return np.array([window.is_open for window in windows])


def are_forgotten(windows: WindowNumbers) -> RowMask:
    """Return for each number whether its window is gone with all its rows."""
    return np.array([window.is_forgotten for window in windows])


def _window_of(number: int, entry: WindowEntry | None) -> Window:
    if entry is None:
        return _NO_WINDOW
    (selection, start_ns), first_offset = entry.key, entry.first_offset
    window = Window(
        number=number, selection=selection, start_ns=start_ns, first_offset=first_offset, is_open=entry.is_open
    )
    window.is_incomplete = entry.is_incomplete
    return window


class GroupNumbers:
    """The groups of a partition by their numbers, which are used again once nothing refers to them.

    Changed in place.
    """

    def __init__(self, groups: Sequence[Group | None] = ()) -> None:
        """Begin with these groups, in the order of their numbers; None is a number that is free."""
        self._groups: list[Group] = [() if group is None else group for group in groups]
        self._free: list[int] = [number for number, group in enumerate(groups) if group is None]
        self._numbers: dict[Group, int] = {group: number for number, group in enumerate(groups) if group is not None}
        # Of each number the length and the checksum of the group's key, or 0 where they were not needed yet.
        self._sizes = self._sums = np.zeros(0, dtype=np.int64)

    def entries(self) -> tuple[Group | None, ...]:
        """Return all groups, in the order of their numbers; None is a number that is free."""
        entries: list[Group | None] = list(self._groups)
        for number in self._free:
            entries[number] = None
        return tuple(entries)

    def __len__(self) -> int:
        """Return how many numbers are used, or were."""
        return len(self._groups)

    def __getitem__(self, number: int) -> Group:
        """Return the group with this number."""
        return self._groups[number]

    def numbers(self, groups: Sequence[Group]) -> Ints:
        """Return the number of each group."""
        known = self._numbers
        found = [*map(known.get, groups)]
        if None in found:
            found = [known[group] if group in known else self._new(group) for group in groups]
        return np.array(found, dtype=np.int64)

    def outputs(self, rule_id: str, numbers: Ints, outputs: int) -> Ints:
        """Return the output partition of each of these groups of a rule."""
        self._sizes, self._sums = grown(self._sizes, len(self), 0), grown(self._sums, len(self), 0)
        unknown = distinct_integers(numbers[self._sizes[numbers] == 0])
        if len(unknown):
            sums, sizes = group_checksums([self._groups[number] for number in unknown.tolist()])
            self._sums[unknown], self._sizes[unknown] = sums, sizes
        return outputs_of(rule_id, self._sums[numbers], self._sizes[numbers], outputs)

    def retire(self, used: RowMask) -> None:
        """Use the numbers of groups again, except those that are marked as used."""
        self._numbers = {group: number for group, number in self._numbers.items() if used[number]}
        size = int(np.flatnonzero(used).max(initial=-1)) + 1
        # What is behind the last one that is used is freed.
        self._groups = self._groups[:size]
        self._free = np.flatnonzero(~used[:size]).tolist()
        for number in self._free:
            self._groups[number] = ()
        self._sizes = self._sums = np.zeros(0, dtype=np.int64)

    def _new(self, group: Group) -> int:
        number = self._free.pop() if self._free else len(self._groups)
        if number == len(self._groups):
            self._groups.append(group)
        self._groups[number] = group
        self._numbers[group] = number
        return number
