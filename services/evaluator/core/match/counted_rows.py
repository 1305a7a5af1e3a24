"""The rows of one block, in columns that grow: what selections count in each group and pane.

Selections that have counted the same events are a class, and share their rows (`sharing`).
A row has a slot for as long as its block lives. What a fetch adds to many rows, of whatever rules, is added at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np

from services.evaluator.core.distinct_integers import distinct_integers
from services.evaluator.core.match.events import Floats, Ints
from services.evaluator.core.match.outputs import RowOutputs
from services.evaluator.core.match.row_samples import RowSamples
from services.evaluator.core.match.sharing import RowClasses, Split
from services.evaluator.core.match.slots import SlotIndex, codes_of
from services.evaluator.core.partial_rows import ABSENT_NS, NO_ROWS, PartialRows, Sharers
from services.evaluator.core.records import Group
from services.evaluator.core.rules import SelectionKey

# In place of the number of a group that has no rows.
_NO_GROUP: Final = -1
# What the columns of a row begin with.
_EMPTY: Final[dict[str, Any]] = {
    "counted": 0,
    "total": 0,
    "value_count": 0,
    "sum": 0.0,
    "min": np.nan,
    "max": np.nan,
    "last_event_ns": ABSENT_NS,
    "traceparent": 0,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Additions:
    """What a fetch adds to rows: an entry for each of them."""

    counted: Ints
    value_count: Ints
    # Not a number where nothing has a value.
    min: Floats
    max: Floats
    last_event_ns: Ints
    # These are from the start of the block: they replace what was there.
    total: Ints
    sum: Floats
    traceparent: Ints

    def take(self, rows: Ints) -> "Additions":
        """Return what is added to some of the rows."""
        return Additions(**{each.name: getattr(self, each.name)[rows] for each in fields(self)})


class CountedRows:
    """Rows of one block. Changed in place."""

    def __init__(self) -> None:
        self._classes = RowClasses()
        self._groups: dict[Group, int] = {}
        self._panes: dict[int, int] = {}
        self._traceparents: dict[str, int] = {"": 0}
        self._bucket_slots, self._row_slots = SlotIndex(), SlotIndex()
        self._columns = {name: np.zeros(0, dtype=np.asarray(empty).dtype) for name, empty in _EMPTY.items()}
        self._has_changed = np.zeros(0, dtype=np.bool_)
        self._row_outputs = RowOutputs()
        self.samples = RowSamples()

    def __len__(self) -> int:
        return len(self._row_slots)

    def buckets(self, groups: Sequence[Group], group: Ints, panes_ns: Ints) -> Ints:
        """Return a number for each pair of a group (an index of `groups`) and a pane."""
        moments, moment = np.unique(panes_ns, return_inverse=True)
        return self._bucket_slots.slots_of(
            codes_of(groups, group, self._groups), codes_of(moments.tolist(), moment, self._panes)
        )

    def traces(self, traceparents: Sequence[str], index: Ints) -> Ints:
        """Return a number for each trace context (an index of `traceparents`)."""
        return codes_of(traceparents, index, self._traceparents)

    def alone(
        self, selections: Sequence[SelectionKey], readers: Sequence[Sequence[str]], selection: Ints, buckets: Ints
    ) -> Ints:
        """Return the slot of each pair of a selection (an index of `selections`) that shares nothing, and a bucket.

        The groups of a row are judged where those of the rules are that read it: `readers`, for each selection.
        """
        classes = np.zeros(len(selections), dtype=np.int64)
        present = distinct_integers(selection).tolist()
        classes[present] = [self._classes.alone(selections[each], readers[each]) for each in present]
        return self.slots(classes[selection], buckets)

    def divide(self, listed: Sequence[Sharers]) -> list[list[int]]:
        """Return of each of these lists of selections the classes that make it up; they have no other members then.

        No selection is in two lists. What a class counted that is split is copied.
        """
        classes, splits = self._classes.divide(listed)
        if splits:
            self._copy(splits)
        return classes

    def forget(self, keys: frozenset[SelectionKey]) -> None:
        """Let these selections begin with no rows: they count all events of the block again."""
        for number in self._classes.forget(keys):
            self._has_changed[self._row_slots.slots_with(number)] = False

    def clear_counts(self, selection: SelectionKey, readers: Sequence[str], group: Group) -> None:
        """Count nothing so far in a group's rows of a selection that shares nothing."""
        slots = self._row_slots.slots_with(self._classes.alone(selection, readers))
        of_slot, _ = self._bucket_slots.pairs(self._row_slots.pairs(slots)[1])
        self._columns["counted"][slots[of_slot == self._groups.get(group, _NO_GROUP)]] = 0

    def slots(self, classes: Ints, buckets: Ints) -> Ints:
        """Return the slot of each pair of a class and a bucket; new rows are empty."""
        slots = self._row_slots.slots_of(classes, buckets)
        if len(self) > len(self._has_changed):
            self._grow(max(2 * len(self._has_changed), len(self)))
        return slots

    def column(self, name: str, slots: Ints) -> Any:
        """Return a number of some rows, as it is now."""
        return self._columns[name][slots]

    def add(self, slots: Ints, added: Additions) -> None:
        """Add to rows, each of which is given once."""
        columns = self._columns
        columns["counted"][slots] += added.counted
        columns["value_count"][slots] += added.value_count
        columns["min"][slots] = np.fmin(columns["min"][slots], added.min)
        columns["max"][slots] = np.fmax(columns["max"][slots], added.max)
        columns["total"][slots] = added.total
        columns["sum"][slots] = added.sum
        columns["traceparent"][slots] = added.traceparent
        self._add_times(slots, added.last_event_ns)

    def add_totals(self, slots: Ints, totals: Ints, last_event_ns: Ints) -> None:
        """Add what a scope selected to its rows, each of which is given once."""
        self._columns["total"][slots] += totals
        self._add_times(slots, last_event_ns)

    def add_counts(self, slots: Ints, counts: Ints) -> None:
        """Add events to rows that have nothing else, each of which is given once."""
        self._columns["counted"][slots] += counts
        self._has_changed[slots] = True

    def changed(self) -> tuple[Ints, Ints, Sequence[Sequence[str]]]:
        """Return the slots of the rows that changed, the class of each, and of each class the rules that read it."""
        slots = np.flatnonzero(self._has_changed)
        return slots, self._row_slots.pairs(slots)[0], self._classes.readers

    def take_changed(self, outputs: int, chosen: Ints | None = None) -> tuple[PartialRows, Ints]:
        """Return the rows that changed since they were taken before, each as often as output partitions need it.

        And of each the output partition. With `chosen` only the rows in these slots, all of which have changed.
        """
        changed = np.flatnonzero(self._has_changed) if chosen is None else chosen
        self._route(changed, outputs)
        is_taken = np.zeros(len(self._has_changed), dtype=np.bool_)
        is_taken[changed] = True
        slots, found = self._row_outputs.to_send(is_taken)
        taken = self.take(slots, unsent=True).compact() if len(slots) else NO_ROWS
        self._mark_sent(changed)
        return taken, found

    def mark_sent(self) -> None:
        """Take down that all rows are where they go, with their samples."""
        self._mark_sent(np.flatnonzero(self._has_changed))

    def _mark_sent(self, slots: Ints) -> None:
        self.samples.mark_sent(slots)
        self._has_changed[slots] = False

    def take(self, slots: Ints, *, unsent: bool = False) -> PartialRows:
        """Return some rows; those without samples to send have none if so."""
        selection, bucket = self._row_slots.pairs(slots)
        group, pane = self._bucket_slots.pairs(bucket)
        sample_rows, sample_indexes = self.samples.take(slots, unsent=unsent)
        samples, sample_indexes = self.samples.table_of(sample_indexes)
        return PartialRows(
            selections=tuple(self._classes.sharers),
            groups=tuple(self._groups),
            traceparents=tuple(self._traceparents),
            selection=selection,
            group=group,
            pane_ns=np.array(list(self._panes), dtype=np.int64)[pane],
            sample_rows=sample_rows,
            sample_indexes=sample_indexes,
            samples=samples,
            **{name: column[slots] for name, column in self._columns.items()},
        )

    def _copy(self, splits: Sequence[Split]) -> None:
        """Let the new classes have what those had that were split, sent as far as that was."""
        former = [self._row_slots.slots_with(split.former) for split in splits]
        classes = np.repeat([split.new for split in splits], [len(each) for each in former])
        slots = np.concatenate(former)
        copies = self.slots(classes, self._row_slots.pairs(slots)[1])
        for column in (*self._columns.values(), self._has_changed):
            column[copies] = column[slots]
        self.samples.copy(slots, copies)
        self._row_outputs.forget(slots)

    def _add_times(self, slots: Ints, last_event_ns: Ints) -> None:
        latest = self._columns["last_event_ns"]
        latest[slots] = np.maximum(latest[slots], last_event_ns)
        self._has_changed[slots] = True

    def _grow(self, capacity: int) -> None:
        more = capacity - len(self._has_changed)
        for name, column in self._columns.items():
            self._columns[name] = np.append(column, np.full(more, _EMPTY[name], dtype=column.dtype))
        self._has_changed = np.append(self._has_changed, np.zeros(more, dtype=np.bool_))
        self.samples.grow(capacity)

    def _route(self, changed: Ints, outputs: int) -> None:
        """Find the output partitions of the rows that are sent for the first time."""
        slots = self._row_outputs.unknown(changed)
        if not len(slots):
            return
        selection, bucket = self._row_slots.pairs(slots)
        group, _ = self._bucket_slots.pairs(bucket)
        self._row_outputs.add(slots, self._classes.readers, selection, list(self._groups), group, outputs)
