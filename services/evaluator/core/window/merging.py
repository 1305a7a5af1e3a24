"""Rows of `window-partials` on their way into panes: which count, which change a pane, which are late."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.evaluator.core.distinct_integers import distinct_integers
from services.evaluator.core.match.events import Ints, RowMask
from services.evaluator.core.partial_rows import PartialBatch, PartialRows, concat
from services.evaluator.core.window.admission import Admission, place_rows
from services.evaluator.core.window.judging import Candidates, JudgedWindow
from services.evaluator.core.window.numbering import Window
from services.evaluator.core.window.pane_table import Arrival, PaneTable, Replaced


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArrivedRows:
    """Rows of growing blocks, from one record or from several in their order.

    Of each row, its source (an index of `sources`), the offset of its record, how far its block had come, and the
    revision of the rules that matched it.
    """

    rows: PartialRows
    sources: Sequence[int]
    source: Ints
    offsets: Ints
    up_to: Ints
    matched_by: Ints
    # Whether several records have rows of one source: a later one may leave out the samples of one that it replaces.
    may_replace: bool

    @classmethod
    def of(cls, records: Sequence[tuple[int, PartialBatch]]) -> "ArrivedRows":
        """Return the rows of records, given with their offsets."""
        parts = [(offset, part) for offset, batch in records for part in batch.blocks if part.rows]
        sizes = [part.rows for _, part in parts]
        progress = [part.progress for _, part in parts]
        sources = list(dict.fromkeys(each.source_partition for each in progress))
        places = {source: place for place, source in enumerate(sources)}
        return cls(
            rows=records[0][1].rows if len(records) == 1 else concat([batch.rows for _, batch in records]),
            sources=sources,
            source=np.repeat([places[each.source_partition] for each in progress], sizes),
            offsets=np.repeat([offset for offset, _ in parts], sizes),
            up_to=np.repeat([each.up_to for each in progress], sizes),
            matched_by=np.repeat([each.rules_revision for each in progress], sizes),
            may_replace=len(sources) < len(parts),
        )

    def take(self, rows: Ints) -> "ArrivedRows":
        """Return these rows."""
        return replace(
            self,
            rows=self.rows.take(rows),
            source=self.source[rows],
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
    # Of each row that counts its source, an index of those that the rows came from.
    source: Ints

    def of_windows(self, marked: Sequence[bool]) -> Ints:
        """Return the indexes among the rows that count of those whose window is marked."""
        return np.flatnonzero(np.array(marked, dtype=bool)[self.places])

    def judged(self, marked: Sequence[bool]) -> Ints:
        """Return the same, but only one of the rows of each pane."""
        counted = self.of_windows(marked)
        return counted[self.replaced.is_first[counted]]

    def added(self, counted: Ints, of_new: RowMask | None = None) -> Ints:
        """Return how many events each of these adds to its former row.

        A row that has replaced none adds all of its events; with `of_new` only where its source is marked.
        """
        now = self.rows.counted[self.replaced.rows[counted]]
        former = self.replaced.former_counted[counted]
        new = now if of_new is None else np.where(of_new[self.source[counted]], now, 0)
        added: Ints = np.where(former >= 0, now - former, new)
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
    arrived: ArrivedRows,
    windows: Sequence[Window],
    places: Ints,
    admissions: Sequence[Admission] = (),
) -> list[MergedRows]:
    """Put rows into the panes of their windows, each given by its place in `windows`; return what counts, in parts.

    `admissions` say which groups have panes in windows that are near a limit.
    """
    if admissions:
        groups = table.groups.numbers(arrived.rows.groups)[arrived.rows.group]
        numbers = place_rows(table, windows, admissions, places, groups)
    else:
        numbers = np.array([window.number for window in windows], dtype=np.int64)[places]
    merged = []
    if len(arrived.rows.sample_rows) and arrived.may_replace:
        # A later row may leave out the samples of one that it replaces.
        sampled = distinct_integers(arrived.rows.sample_rows)
        merged.append(_merge(table, arrived.take(sampled), windows, places[sampled], numbers[sampled]))
    merged.append(_merge(table, arrived, windows, places, numbers))
    return merged


def _merge(
    table: PaneTable, arrived: ArrivedRows, windows: Sequence[Window], places: Ints, numbers: Ints
) -> MergedRows:
    arrival = Arrival(
        sources=arrived.sources,
        source=arrived.source,
        windows=numbers,
        up_to=arrived.up_to,
        matched_by=arrived.matched_by,
    )
    replaced = table.replace(arrived.rows, arrival)
    return MergedRows(
        rows=arrived.rows,
        windows=windows,
        places=places[replaced.rows],
        replaced=replaced,
        source=arrived.source[replaced.rows],
    )


def sum_by_rule(merged: MergedRows, counted: Ints, added: Ints) -> Mapping[str, int]:
    """Sum up events of rows that count, by the rule."""
    places = merged.places[counted]
    sums = np.zeros(len(merged.windows), dtype=np.int64)
    np.add.at(sums, places, added)
    counts: dict[str, int] = {}
    for place in distinct_integers(places).tolist():
        rule_id = merged.windows[place].selection[0]
        counts[rule_id] = counts.get(rule_id, 0) + int(sums[place])
    return counts
