"""NumberColumns of windows and groups: panes are found by them, in arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import starmap
from typing import NamedTuple

import numpy as np

from services.evaluator.core.match.events import Ints, RowMask
from services.evaluator.core.records import Group, RowKey
from services.evaluator.core.rules import SelectionKey

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

    @property
    def is_totals(self) -> bool:
        """Whether it counts what the scope of a bucketing selects, not what a rule selects."""
        return RowKey(*self.selection, (), self.start_ns).is_totals

    @property
    def is_closing(self) -> bool:
        """Whether it counts events that some rule drops as late once the watermark has reached its start."""
        return RowKey(*self.selection, (), self.start_ns).is_closing


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

    @property
    def key(self) -> tuple[SelectionKey, int]:
        """The selection and the start, by which rows find it."""
        return (self.rule_id, self.selection_revision), self.start_ns


_NO_WINDOW = Window(number=NO_WINDOW, selection=("", 1), start_ns=0, first_offset=0, is_open=False)


class WindowNumbers:
    """The windows of a partition by their numbers, which are used again once nothing refers to them.

    Changed in place.
    """

    def __init__(self, entries: Sequence[WindowEntry | None] = ()) -> None:
        """Begin with these windows, in the order of their numbers from 1 on; None is a number that is free."""
        self._windows: list[Window] = [_NO_WINDOW, *starmap(_window_of, enumerate(entries, start=1))]
        self._free: list[int] = [number for number, entry in enumerate(entries, start=1) if entry is None]
        self._by_start: dict[tuple[SelectionKey, int], Window] = {}
        for entry, window in zip(entries, self._windows[1:], strict=True):
            if entry is not None and entry.is_listed:
                self._by_start[entry.key] = window
            if entry is not None and entry.folded_of:
                self._windows[entry.folded_of].by_revision[entry.revision] = window

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
            )
            for window in self._windows[1:]
        )

    @property
    def size(self) -> int:
        """The first number that was never used."""
        return len(self._windows)

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

    def close(self, window: Window, *, is_forgotten: bool = False) -> None:
        """Close a window: its rows are late from now on, or begin another one if it is forgotten."""
        window.is_open = False
        for folded in window.by_revision.values():
            folded.is_open = False
        if is_forgotten:
            del self._by_start[window.selection, window.start_ns]

    def __getitem__(self, number: int) -> Window:
        """Return the window with this number."""
        return self._windows[number]

    def are_open(self) -> RowMask:
        """Return for each number whether its window is open."""
        return np.array([window.is_open for window in self._windows])

    def retire(self, used: RowMask) -> None:
        """Use the numbers of closed windows again, except those that are marked as used."""
        for number, window in enumerate(self._windows):
            if window is not _NO_WINDOW and not window.is_open and not used[number]:
                self._windows[number] = _NO_WINDOW
                self._free.append(number)
                key = window.selection, window.start_ns
                if self._by_start.get(key) is window:
                    del self._by_start[key]

    def _new(self, selection: SelectionKey, start_ns: int, offset: int, *, is_open: bool) -> Window:
        number = self._free.pop() if self._free else len(self._windows)
        if number == len(self._windows):
            self._windows.append(_NO_WINDOW)
        window = self._windows[number] = Window(
            number=number, selection=selection, start_ns=start_ns, first_offset=offset, is_open=is_open
        )
        return window


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
        return np.array(
            [known[group] if group in known else self._new(group) for group in groups],
            dtype=np.int64,
        )

    def retire(self, used: RowMask) -> None:
        """Use the numbers of groups again, except those that are marked as used."""
        kept = {group: number for group, number in self._numbers.items() if used[number]}
        self._free += [number for group, number in self._numbers.items() if group not in kept]
        for number in self._free:
            self._groups[number] = ()
        self._numbers = kept

    def _new(self, group: Group) -> int:
        number = self._free.pop() if self._free else len(self._groups)
        if number == len(self._groups):
            self._groups.append(group)
        self._groups[number] = group
        self._numbers[group] = number
        return number
