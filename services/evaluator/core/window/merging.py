"""Rows of `window-partials` on their way into panes: which count, which change a pane, which are late."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.evaluator.core.match.events import Ints
from services.evaluator.core.partial_rows import PartialBatch, PartialRows, concat
from services.evaluator.core.window.admission import Admission, place_rows
from services.evaluator.core.window.judging import Candidates, JudgedWindow
from services.evaluator.core.window.numbering import Window
from services.evaluator.core.window.pane_table import Arrival, PaneTable, Replaced


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockRows:
    """Rows of one block of a source, from one record or from several in their order.

    Of each row, the offset of its record, how far that has come, and the revision of the rules that matched it.
    """

    source: int
    rows: PartialRows
    offsets: Ints
    up_to: Ints
    matched_by: Ints

    @classmethod
    def of(cls, records: Sequence[tuple[int, PartialBatch]]) -> "BlockRows":
        """Return the rows of records, given with their offsets."""
        if len(records) == 1:
            return cls._of_one(*records[0])
        lengths = [len(batch.rows) for _, batch in records]
        progress = [batch.progress for _, batch in records]
        return cls(
            source=progress[0].source_partition,
            rows=concat([batch.rows for _, batch in records]),
            offsets=np.repeat([offset for offset, _ in records], lengths),
            up_to=np.repeat([each.up_to for each in progress], lengths),
            matched_by=np.repeat([each.rules_revision for each in progress], lengths),
        )

    @classmethod
    def _of_one(cls, offset: int, batch: PartialBatch) -> "BlockRows":
        progress, size = batch.progress, len(batch.rows)
        return cls(
            source=progress.source_partition,
            rows=batch.rows,
            offsets=np.full(size, offset),
            up_to=np.full(size, progress.up_to),
            matched_by=np.full(size, progress.rules_revision),
        )

    def take(self, rows: Ints) -> "BlockRows":
        """Return these rows."""
        return replace(
            self,
            rows=self.rows.take(rows),
            offsets=self.offsets[rows],
            up_to=self.up_to[rows],
            matched_by=self.matched_by[rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MergedRows:
    """The rows that count after a merge: of each, the place of its window in `windows`."""

    rows: PartialRows
    windows: Sequence[Window]
    places: Ints
    replaced: Replaced

    def of_windows(self, marked: Sequence[bool]) -> Ints:
        """Return the indexes among the rows that count of those whose window is marked."""
        return np.flatnonzero(np.array(marked, dtype=bool)[self.places])

    def judged(self, marked: Sequence[bool]) -> Ints:
        """Return the same, but only one of the rows of each pane."""
        counted = self.of_windows(marked)
        return counted[self.replaced.is_first[counted]]

    def added(self, counted: Ints, *, of_new: bool) -> Ints:
        """Return how many events each of these adds to its former row; all of a new row's events, or none."""
        now = self.rows.counted[self.replaced.rows[counted]]
        former = self.replaced.former_counted[counted]
        added: Ints = np.where(former >= 0, now - former, now if of_new else 0)
        return added

    def candidates(self, own: Mapping[int, JudgedWindow], counted: Ints) -> Candidates:
        """Return the panes of these, given the windows of rules by their places."""
        new_places = np.zeros(len(self.windows), dtype=np.int64)
        new_places[list(own)] = np.arange(len(own))
        return Candidates(
            windows=list(own.values()),
            places=new_places[self.places[counted]],
            groups=self.replaced.groups[counted],
            slots=self.replaced.slots[counted],
        )

    def traceparent(self, counted: int) -> str:
        """Return the trace of one of the rows that count."""
        return self.rows.traceparents[int(self.rows.traceparent[self.replaced.rows[counted]])]


def distinct_windows(rows: PartialRows) -> tuple[Ints, Ints]:
    """Return the first row of each window, and the place of each row's window among them."""
    starts = rows.pane_ns
    if (starts == starts[0]).all():
        return _firsts(rows.selection, len(rows.selections))
    _, numbers = np.unique(starts, return_inverse=True)
    _, firsts, places = np.unique(rows.selection * len(starts) + numbers, return_index=True, return_inverse=True)
    return firsts, places


def _firsts(codes: Ints, size: int) -> tuple[Ints, Ints]:
    """Return where each code that occurs is first, by rising code, and the place of each among them."""
    first = np.full(size, -1, dtype=np.int64)
    # Backwards, so that the first one remains.
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    is_used = first >= 0
    return first[is_used], (np.cumsum(is_used) - 1)[codes]


def merge_rows(
    table: PaneTable,
    block: BlockRows,
    windows: Sequence[Window],
    places: Ints,
    admissions: Sequence[Admission] | None = None,
) -> list[MergedRows]:
    """Put rows into the panes of their windows, each given by its place in `windows`; return what counts, in parts.

    Where a window is near its limit, `admissions` say which groups have panes in each window.
    """
    if admissions is None:
        numbers = np.array([window.number for window in windows], dtype=np.int64)[places]
    else:
        groups = table.groups.numbers(block.rows.groups)[block.rows.group]
        numbers = place_rows(table, admissions, places, groups)
    arrival = Arrival(source=block.source, windows=numbers, up_to=block.up_to, matched_by=block.matched_by)
    merged = []
    if len(block.rows.sample_rows) and (block.up_to != block.up_to[0]).any():
        # A later row may leave out the samples of one that it replaces.
        sampled = np.unique(block.rows.sample_rows)
        rows = block.rows.take(sampled)
        replaced = table.replace(rows, arrival.take(sampled))
        merged.append(MergedRows(rows=rows, windows=windows, places=places[sampled[replaced.rows]], replaced=replaced))
    replaced = table.replace(block.rows, arrival)
    merged.append(MergedRows(rows=block.rows, windows=windows, places=places[replaced.rows], replaced=replaced))
    return merged


def sum_by_rule(merged: MergedRows, counted: Ints, added: Ints) -> Mapping[str, int]:
    """Sum up events of rows that count, by the rule."""
    counts: dict[str, int] = {}
    for place, events in zip(merged.places[counted].tolist(), added.tolist(), strict=True):
        rule_id = merged.windows[place].selection[0]
        counts[rule_id] = counts.get(rule_id, 0) + events
    return counts
