"""The samples of panes: indexes into one table of events; objects are made only of what an alert shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from services.evaluator.core.distinct_integers import distinct_integers
from services.evaluator.core.match.events import Ints
from services.evaluator.core.records import MAX_SAMPLES, Sample
from services.evaluator.core.samples import SampleTable

# So many further samples at least before the log is cut to what it needs.
_MIN_ADDED = 4096


def spread(firsts: Ints, counts: Ints) -> Ints:
    """Return `counts[i]` numbers from `firsts[i]` on, for one i after the other."""
    before = np.cumsum(counts) - counts
    return np.repeat(firsts - before, counts) + np.arange(int(counts.sum()))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SampleColumns:
    """Events in tables, one table after the other; of each folded sample the slot of its pane and its event's index."""

    tables: Sequence[SampleTable]
    slots: Ints
    ids: Ints


class SampleLog:
    """The events that samples refer to, and the samples of folded blocks by slot. Changed in place."""

    def __init__(self, columns: SampleColumns | None = None) -> None:
        """Begin with nothing, or with these."""
        self._tables: list[SampleTable] = [*columns.tables] if columns else []
        self._size = self._kept = sum(map(len, self._tables))
        self._slots: list[Ints] = [columns.slots] if columns else []
        self._ids: list[Ints] = [columns.ids] if columns else []

    def columns(self) -> SampleColumns:
        """Return everything; no array of it is changed later."""
        none = np.zeros(0, dtype=np.int64)
        return SampleColumns(
            tables=tuple(self._tables),
            slots=np.concatenate([none, *self._slots]),
            ids=np.concatenate([none, *self._ids]),
        )

    def add(self, samples: SampleTable) -> int:
        """Add events; return the index of the first one."""
        first = self._size
        if len(samples):
            self._tables.append(samples)
            self._size += len(samples)
        return first

    def fold(self, slots: Ints, ids: Ints) -> None:
        """Add samples to panes for good."""
        if len(slots):
            self._slots.append(slots)
            self._ids.append(ids)

    def earliest(self, slots: Sequence[int], growing: Mapping[int, Sequence[int]]) -> dict[int, tuple[Sample, ...]]:
        """Return the earliest events of these panes, given the indexes of those that are not folded, by slot."""
        found = {slot: list(growing.get(slot, ())) for slot in slots}
        self._slots, self._ids = _joined(self._slots), _joined(self._ids)
        for folded, ids in zip(self._slots, self._ids, strict=True):
            chosen = np.isin(folded, np.array(slots, dtype=np.int64))
            for slot, event in zip(folded[chosen].tolist(), ids[chosen].tolist(), strict=True):
                found[slot].append(event)
        events = sorted({event for of_slot in found.values() for event in of_slot})
        samples = dict(zip(events, self._taken(np.array(events, dtype=np.int64)).to_list(), strict=True))
        return {slot: _earliest([samples[event] for event in of_slot]) for slot, of_slot in found.items()}

    @property
    def has_grown(self) -> bool:
        """Whether it has become so long that it should be cut."""
        return self._size > 2 * self._kept + _MIN_ADDED

    def cut(self, new_slots: Ints, growing: Ints) -> Ints:
        """Keep what is needed: of each pane the earliest samples, and events that growing blocks refer to.

        `new_slots` has the new number of each slot, or 0 where the pane is gone. Return the new index of each event.
        """
        slots = np.concatenate([np.zeros(0, dtype=np.int64), *self._slots])
        ids = np.concatenate([np.zeros(0, dtype=np.int64), *self._ids])
        slots = new_slots[slots]
        slots, ids = self._earliest_of_each(slots[slots > 0], ids[slots > 0])
        used = distinct_integers(np.concatenate([ids, growing]))
        self._tables = [self._taken(used)] if len(used) else []
        new_ids = np.zeros(self._size, dtype=np.int64)
        new_ids[used] = np.arange(len(used))
        self._size = self._kept = len(used)
        self._slots, self._ids = [slots], [new_ids[ids]]
        return new_ids

    def _taken(self, events: Ints) -> SampleTable:
        table = SampleTable.concat(self._tables)
        self._tables = [table]
        return table.take(events)

    def _earliest_of_each(self, slots: Ints, ids: Ints) -> tuple[Ints, Ints]:
        """Return the samples that may be among the earliest of their pane: more than those only at the same time."""
        times = self._times()[ids]
        order = np.lexsort([times, slots])
        slots, ids, times = slots[order], ids[order], times[order]
        starts = np.flatnonzero(np.diff(slots, prepend=-1))
        start = np.repeat(starts, np.diff(starts, append=len(slots)))
        last = np.minimum(start + MAX_SAMPLES - 1, np.arange(len(slots)))
        kept = times == times[last]
        return slots[kept], ids[kept]

    def _times(self) -> Ints:
        table = SampleTable.concat(self._tables)
        self._tables = [table]
        times: Ints = table.batch.column("event_ns").to_numpy()
        return times


def _joined(arrays: list[Ints]) -> list[Ints]:
    return [np.concatenate(arrays)] if arrays else []


def _earliest(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    return tuple(sorted(samples, key=_sample_order)[:MAX_SAMPLES])


def _sample_order(sample: Sample) -> tuple[int, list[str]]:
    return sample.event_ns, [str(part) for part in sample[1:]]
