"""The window stage of one partition of `window-partials`: a function of its records, one after the other."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from services.evaluator.core.partial_rows import PartialBatch
from services.evaluator.core.records import EARLIEST_NS, LATEST_NS, SECOND_NS, BlockProgress, Group, RowKey, Transition
from services.evaluator.core.rules import CompiledRule, RuleSet, SelectionKey
from services.evaluator.core.window.checkpoint import Checkpoint
from services.evaluator.core.window.code_index import NO_SLOT
from services.evaluator.core.window.judging import (
    JudgedWindow,
    all_panes,
    close_windows,
    every_pane,
    fire_alerts,
    joined,
)
from services.evaluator.core.window.merging import BlockRows, MergedRows, distinct_windows, late_by_rule, merge_rows
from services.evaluator.core.window.numbering import Window
from services.evaluator.core.window.pane_table import PaneTable
from services.evaluator.core.window.rule_windows import RuleWindows, ScopeTotals, open_from
from services.evaluator.core.window.sequence import FlushOrder, SourceSequence
from services.evaluator.core.window.watermark import Watermark
from services.rule_language.rule import RuleType

# How long rows are kept for a rule that is not known here (yet).
_UNUSED_RETENTION_NS = 60 * SECOND_NS
# Records of a block that were judged before are merged many at once, up to so many records or rows: that is faster than
# one by one, until joining large ones costs more.
_MAX_UNMERGED = 500
_MAX_UNMERGED_ROWS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOutcome:
    """What one record led to."""

    transitions: tuple[Transition, ...] = ()
    flush_order: FlushOrder = FlushOrder.SAME_BLOCK
    # Events that some rule dropped as late, each counted once; and how many each rule dropped, by its id.
    late_events: int = 0
    late_by_rule: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class WindowStage:
    """All rules' windows of one output partition. Changed in place."""

    watermark: Watermark
    position: int
    judged_until: int
    # Whether a former owner closed windows: then it has counted late events too.
    is_resumed: bool = False
    owner: str = ""
    _rules: RuleSet | None = None
    _sequences: dict[int, SourceSequence] = field(default_factory=dict)
    _windows: dict[SelectionKey, RuleWindows] = field(default_factory=dict)
    _totals: dict[str, ScopeTotals] = field(default_factory=dict)
    _table: PaneTable = field(default_factory=PaneTable)
    # The watermark that closes the next window of some rule.
    _next_close_ns: int = EARLIEST_NS
    # Of each source, records of its block that were judged before and are not merged yet.
    _unmerged: dict[int, list[tuple[int, PartialBatch]]] = field(default_factory=dict)

    @classmethod
    def restored(
        cls, checkpoint: Checkpoint, states: Iterable[Transition], allowance_ns: int, owner: str = ""
    ) -> "WindowStage":
        """Restore a partition for a new owner; `states` are the last transitions of its groups."""
        stage = cls(
            watermark=Watermark(allowance_ns=allowance_ns, value_ns=checkpoint.watermark_ns),
            position=checkpoint.offset,
            judged_until=checkpoint.position,
            is_resumed=checkpoint.watermark_ns is not None,
            owner=owner,
        )
        for transition in states:
            stage._windows_of((transition.rule_id, transition.selection_revision), 0).apply(transition)
        return stage

    @property
    def is_caught_up(self) -> bool:
        """Whether everything that a former owner judged has been read again."""
        return self.position >= self.judged_until

    def count_groups(self, rule_type: RuleType | None = None) -> tuple[int, int]:
        """Count the groups with an open window, and those with an open alert; of one type of rule, or of all."""
        counted = [
            windows
            for windows in self._windows.values()
            if rule_type is None or (windows.compiled and windows.compiled.rule.type is rule_type)
        ]
        slots, *_ = self._table.panes_of(window.number for windows in counted for window in windows.windows.values())
        return len(slots), sum(episode.is_open for windows in counted for episode in windows.episodes.values())

    def update_rules(self, rules: RuleSet, now_ns: int) -> list[Transition]:
        """Use new rules from now on: judge again what they changed, resolve the alerts of removed ones."""
        self._merge_all(now_ns)
        self._rules = rules
        for readers in rules.total_readers.values():
            for compiled in readers:
                # They judge groups of which they have selected nothing, too.
                self._windows.setdefault(compiled.selection_key, RuleWindows(compiled.selection_key))
        transitions: list[Transition] = []
        changed: list[RuleWindows] = []
        for windows in self._windows.values():
            compiled_now = rules.in_force(windows.selection)
            if compiled_now is None:
                transitions += windows.detach(rules, now_ns)
            elif compiled_now is not windows.compiled:
                self._attach(windows, compiled_now)
                changed.append(windows)
        if changed and self.is_caught_up:
            transitions += self._judge_all(changed, now_ns)
            transitions += self._close_windows(now_ns)
        return transitions

    def observe(self, offset: int, batch: PartialBatch, now_ns: int) -> BatchOutcome:
        """Process one record: first its rows, then the progress of its source."""
        was_caught_up = self.is_caught_up
        self.position = offset + 1
        flush_order = self._advance_sequence(batch.progress, now_ns)
        if flush_order is not FlushOrder.STALE:
            self._sequences[batch.progress.source_partition].advance(batch.progress.up_to)
            self._mark_missed(offset, batch, now_ns)
            if len(batch.rows):
                self._unmerged.setdefault(batch.progress.source_partition, []).append((offset, batch))
        if not was_caught_up:
            return self._replayed(batch, flush_order, now_ns)
        merged = self._merge(batch.progress.source_partition, now_ns)
        outcome = BatchOutcome(flush_order=flush_order)
        transitions: list[Transition] = []
        if merged is not None:
            outcome = replace(outcome, **self._late(batch.progress, merged))
            transitions += self._judge(merged, now_ns)
        self.watermark.observe(batch.progress)
        transitions += self._close(now_ns)
        return replace(outcome, transitions=tuple(transitions))

    def checkpoint(self, now_ns: int) -> Checkpoint:
        """Return from where a new owner could resume, once all transitions so far have been delivered."""
        self._merge_all(now_ns)
        self._drop_unused_windows(now_ns)
        self._drop_totals(now_ns)
        self._table.compact()
        used: list[RuleWindows | ScopeTotals] = [*self._windows.values(), *self._totals.values()]
        needed = [window.first_offset for windows in used for window in windows.windows.values()]
        return Checkpoint(
            offset=min(needed, default=self.position),
            position=max(self.position, self.judged_until),
            watermark_ns=self.watermark.value_ns,
            owner=self.owner,
        )

    def expire(self, committed: Checkpoint) -> list[tuple[str, Group]]:
        """Drop resolved alerts that a restart from the checkpoint cannot repeat; return those whose state can go."""
        if committed.watermark_ns is None:
            return []
        expired = [
            (windows.selection[0], group)
            for windows in self._windows.values()
            for group in windows.expire(committed.watermark_ns)
        ]
        kept = {(windows.selection[0], group) for windows in self._windows.values() for group in windows.episodes}
        return [key for key in expired if key not in kept]

    def _replayed(self, batch: PartialBatch, flush_order: FlushOrder, now_ns: int) -> BatchOutcome:
        """Go on with a record that was judged before; what it leads to is known once the last one is read.

        Not everything is counted until then: nothing may end by it. Late events and gaps were reported when it was
        read first.
        """
        self.watermark.observe(batch.progress)
        waiting = self._unmerged.get(batch.progress.source_partition, ())
        if len(waiting) >= _MAX_UNMERGED or sum(len(each.rows) for _, each in waiting) >= _MAX_UNMERGED_ROWS:
            self._merge(batch.progress.source_partition, now_ns)
        if flush_order is FlushOrder.GAP:
            # Reading from the middle may begin with a repetition.
            flush_order = FlushOrder.NEXT_BLOCK
        if not self.is_caught_up:
            return BatchOutcome(flush_order=flush_order)
        self._merge_all(now_ns)
        transitions = [*self._judge_all(list(self._windows.values()), now_ns), *self._close(now_ns)]
        return BatchOutcome(transitions=tuple(transitions), flush_order=flush_order)

    def _advance_sequence(self, progress: BlockProgress, now_ns: int) -> FlushOrder:
        """Place a flush in the sequence of its source; fold the source's block when a later one has begun."""
        source = progress.source_partition
        sequence = self._sequences.get(source)
        if sequence is None:
            self._sequences[source] = SourceSequence.starting_with(progress)
            return FlushOrder.SAME_BLOCK
        flush_order = sequence.order_of(progress)
        if progress.block > sequence.block:
            self._merge(source, now_ns)
            self._table.fold(source)
            self._sequences[source] = sequence.next_block(progress)
        return flush_order

    def _merge_all(self, now_ns: int) -> None:
        for source in list(self._unmerged):
            self._merge(source, now_ns)

    def _merge(self, source: int, now_ns: int) -> MergedRows | None:
        """Put the rows of a source that wait for it into their panes."""
        records = self._unmerged.pop(source, None)
        if not records:
            return None
        block = BlockRows.of(records)
        firsts, places = distinct_windows(block.rows)
        windows = [
            self._window(block.rows.selections[selection], start_ns, offset, now_ns)
            for selection, start_ns, offset in zip(
                block.rows.selection[firsts].tolist(),
                block.rows.pane_ns[firsts].tolist(),
                block.offsets[firsts].tolist(),
                strict=True,
            )
        ]
        return merge_rows(self._table, block, windows, places)

    def _window(self, selection: SelectionKey, start_ns: int, offset: int, now_ns: int) -> Window:
        """Return the window that a row counts in, a new one if there is none."""
        window = self._table.windows.find(selection, start_ns)
        if window is not None:
            # Rows of several sources that were judged before are merged source by source.
            window.first_offset = min(window.first_offset, offset)
            return window
        key = RowKey(*selection, (), start_ns)
        if key.is_closing:
            return self._table.windows.add(selection, start_ns, offset, is_open=False)
        if key.is_totals:
            owner: RuleWindows | ScopeTotals = self._totals.setdefault(key.rule_id, ScopeTotals())
            is_open = True
        else:
            owner = self._windows_of(selection, now_ns)
            is_open = start_ns >= owner.open_from_ns
        window = self._table.windows.add(selection, start_ns, offset, is_open=is_open)
        if is_open:
            owner.windows[start_ns] = window
        return window

    def _mark_missed(self, offset: int, batch: PartialBatch, now_ns: int) -> None:
        """Mark the windows in which a rule was not evaluated for some events."""
        for selection, starts in batch.missed.items():
            for start_ns in starts:
                self._window(selection, start_ns, offset, now_ns).is_incomplete = True

    def _late(self, progress: BlockProgress, merged: MergedRows) -> Mapping[str, Any]:
        """Count the events of rows that came too late and were not counted as late before."""
        # A block that began before the stage was restored: the former owner counted its late events.
        of_new = not self.is_resumed or self._sequences[progress.source_partition].is_complete
        late = merged.of_windows([not window.is_open and not window.is_totals for window in merged.windows])
        closed = merged.of_windows(
            [window.is_closing and self.watermark.has_reached(window.start_ns) for window in merged.windows]
        )
        return {
            "late_events": int(merged.added(closed, of_new=of_new).sum()),
            "late_by_rule": late_by_rule(merged, late, merged.added(late, of_new=of_new)),
        }

    def _judge(self, merged: MergedRows, now_ns: int) -> list[Transition]:
        """Judge the panes that rows have changed: those of rules, and those whose totals they are."""
        parts, rows = [], []
        own = {place: judged for place, window in enumerate(merged.windows) if (judged := self._in_force(window))}
        if own:
            chosen = merged.of_windows([place in own for place in range(len(merged.windows))])
            parts.append(merged.candidates(own, chosen))
            rows.append(chosen)
        for place, window in enumerate(merged.windows):
            readers = self._readers(window) if window.is_totals else []
            if readers:
                chosen = np.flatnonzero(merged.places == place)
                every = every_pane(self._table, readers, merged.replaced.groups[chosen])
                is_eager = np.array([reader.compiled.holds_when_empty for reader in readers])
                concerned = np.flatnonzero(is_eager[every.places] | (every.slots != NO_SLOT))
                parts.append(every.take(concerned))
                rows.append(np.tile(chosen, len(readers))[concerned])
        if not parts:
            return []
        all_rows = np.concatenate(rows)
        return fire_alerts(
            self._table, joined(parts), now_ns, lambda candidate: merged.traceparent(int(all_rows[candidate]))
        )

    def _in_force(self, window: Window) -> JudgedWindow | None:
        """Return the window with its rule if that is in force here."""
        rules = self._windows.get(window.selection)
        if rules is None or rules.compiled is None or not window.is_open:
            return None
        return JudgedWindow(rules=rules, compiled=rules.compiled, start_ns=window.start_ns)

    def _readers(self, window: Window) -> list[JudgedWindow]:
        """Return the windows that changed totals may make an alert.

        Those are the ones in which a rule has selected something, or in which it may fire without.
        """
        start_ns = window.start_ns
        readers = self._rules.total_readers.get(window.selection[0], ()) if self._rules else ()
        return [
            JudgedWindow(rules=rules, compiled=compiled, start_ns=start_ns)
            for compiled in readers
            if (rules := self._windows[compiled.selection_key]).open_from_ns <= start_ns
            and (compiled.holds_when_empty or start_ns in rules.windows)
        ]

    def _judge_all(self, rules: Sequence[RuleWindows], now_ns: int) -> list[Transition]:
        """Judge every open window of rules, because they or their totals changed; open alerts take over an edit."""
        transitions: list[Transition] = []
        windows: list[JudgedWindow] = []
        for each in rules:
            if each.compiled is not None:
                transitions += each.apply_edit(each.compiled, now_ns)
                windows += [
                    JudgedWindow(rules=each, compiled=each.compiled, start_ns=start_ns) for start_ns in each.starts()
                ]
        return [*transitions, *fire_alerts(self._table, all_panes(self._table, windows), now_ns)]

    def _close(self, now_ns: int) -> list[Transition]:
        transitions = self._close_windows(now_ns)
        # Where all sources are idle the wall clock decides, as far as something is open: it does not make the next
        # event late.
        idle_until_ns = self.watermark.idle_until_ns
        while idle_until_ns is not None and (due_ns := self._due_ns()) is not None and due_ns <= idle_until_ns:
            self.watermark.jump(due_ns)
            transitions += self._close_windows(now_ns)
        return transitions

    def _close_windows(self, now_ns: int) -> list[Transition]:
        """Close the windows that the watermark has passed."""
        watermark_ns = self.watermark.value_ns
        if watermark_ns is None or watermark_ns < self._next_close_ns:
            return []
        transitions: list[Transition] = []
        self._next_close_ns = LATEST_NS
        for windows in self._windows.values():
            compiled = windows.compiled
            if compiled is None:
                continue
            open_from_ns = open_from(compiled, watermark_ns)
            if open_from_ns > windows.open_from_ns:
                transitions += close_windows(self._table, windows, compiled, open_from_ns, now_ns)
                for window in windows.close_before(open_from_ns):
                    self._table.windows.close(window)
            self._next_close_ns = min(
                self._next_close_ns, windows.open_from_ns + compiled.window_ns + compiled.lateness_ns
            )
        return transitions

    def _due_ns(self) -> int | None:
        return min((due for windows in self._windows.values() if (due := windows.due_ns) is not None), default=None)

    def _attach(self, windows: RuleWindows, compiled: CompiledRule) -> None:
        totals = self._totals.setdefault(compiled.bucketing_id, ScopeTotals()) if compiled.needs_totals else None
        windows.attach(compiled, totals, self.watermark.value_ns)
        self._next_close_ns = EARLIEST_NS

    def _windows_of(self, selection: SelectionKey, now_ns: int) -> RuleWindows:
        windows = self._windows.get(selection)
        if windows is None:
            windows = self._windows[selection] = RuleWindows(selection, unused_since_ns=now_ns)
            compiled = self._rules.in_force(selection) if self._rules else None
            if compiled is not None:
                self._attach(windows, compiled)
        return windows

    def _drop_totals(self, now_ns: int) -> None:
        """Drop the totals of closed windows, and those that no rule has read for a while."""
        for bucketing_id, totals in list(self._totals.items()):
            readers = self._rules.total_readers.get(bucketing_id, ()) if self._rules else ()
            if readers:
                totals.unused_since_ns = None
                self._forget(
                    totals.pop_before(min(self._windows[compiled.selection_key].open_from_ns for compiled in readers))
                )
                continue
            totals.unused_since_ns = totals.unused_since_ns or now_ns
            if now_ns - totals.unused_since_ns > _UNUSED_RETENTION_NS:
                self._forget(totals.pop_before(LATEST_NS))
                del self._totals[bucketing_id]

    def _drop_unused_windows(self, now_ns: int) -> None:
        for selection, windows in list(self._windows.items()):
            since_ns = windows.unused_since_ns
            if since_ns is not None and now_ns - since_ns > _UNUSED_RETENTION_NS:
                self._forget(windows.windows.values())
                windows.windows.clear()
                if not windows.episodes:
                    del self._windows[selection]

    def _forget(self, windows: Iterable[Window]) -> None:
        for window in windows:
            self._table.windows.close(window, is_forgotten=True)
