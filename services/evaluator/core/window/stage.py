"""The window stage of one partition of `window-partials`: a function of its records, in their order."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Self

import numpy as np

from services.evaluator.core.partial_rows import BlockPart, PartialBatch
from services.evaluator.core.records import LATEST_NS, BlockProgress, Group, Transition
from services.evaluator.core.rules import RuleSet
from services.evaluator.core.shared_rows import expand
from services.evaluator.core.window.checkpoint import Checkpoint
from services.evaluator.core.window.group_limit import DEFAULT_LIMIT, GroupLimit
from services.evaluator.core.window.judging import (
    JudgedWindow,
    all_panes,
    close_windows,
    fire_alerts,
)
from services.evaluator.core.window.merging import ArrivedRows, distinct_windows, merge_rows
from services.evaluator.core.window.pane_table import PaneTable
from services.evaluator.core.window.partition_windows import PartitionWindows
from services.evaluator.core.window.rule_windows import RuleWindows, ScopeTotals, open_from
from services.evaluator.core.window.sequence import FlushOrder, SourceSequence
from services.evaluator.core.window.snapshot import StageSnapshot, put_together, selection_states
from services.evaluator.core.window.step import Outcome, Step
from services.evaluator.core.window.watermark import Watermark
from services.rule_language.rule import RuleType

# Records of a block are merged many at once, up to so many records or rows: that is faster than one by one, until
# joining large ones costs more.
_MAX_UNMERGED = 500
_MAX_UNMERGED_ROWS = 20_000


@dataclass(slots=True)
class WindowStage:
    """All rules' windows of one output partition. Changed in place."""

    windows: PartitionWindows
    # Everything before this offset counts; records of a flush that goes on wait until all of it is read.
    position: int
    judged_until: int
    # Whether a former owner closed windows: then it has counted late events too.
    is_resumed: bool = False
    owner: str = ""
    # Earlier snapshots do not count: a rule came to be known after its rows, and they do not say whether its windows
    # have been judged.
    snapshots_from: int = 0
    _waiting: list[tuple[int, PartialBatch]] = field(default_factory=list)
    _sequences: dict[int, SourceSequence] = field(default_factory=dict)
    # Records of growing blocks whose rows are not merged yet.
    _unmerged: list[tuple[int, PartialBatch]] = field(default_factory=list)
    _unmerged_rows: int = 0

    @classmethod
    def restored(
        cls,
        checkpoint: Checkpoint,
        states: Iterable[Transition],
        allowance_ns: int,
        owner: str = "",
        snapshot: StageSnapshot | None = None,
        limit: GroupLimit = DEFAULT_LIMIT,
    ) -> Self:
        """Restore a partition for a new owner; `states` are the last transitions of its groups.

        It is to be given the records from its position on: from the oldest needed offset, or from where a snapshot is.
        """
        watermark = Watermark(allowance_ns=allowance_ns, value_ns=checkpoint.watermark_ns)
        stage = cls(
            windows=PartitionWindows(watermark, table=PaneTable(limit=limit)),
            position=checkpoint.offset,
            judged_until=checkpoint.position,
            is_resumed=checkpoint.watermark_ns is not None,
            owner=owner,
        )
        if snapshot is not None:
            stage.position, stage.is_resumed = snapshot.position, snapshot.is_resumed
            stage._sequences = {source: replace(sequence) for source, sequence in snapshot.sequences.items()}
            put_together(stage.windows, snapshot)
        for transition in states:
            stage.windows.of_selection((transition.rule_id, transition.selection_revision), 0).apply(transition)
        return stage

    @property
    def watermark(self) -> Watermark:
        """How far event time has come."""
        return self.windows.watermark

    @property
    def is_caught_up(self) -> bool:
        """Whether everything that a former owner judged has been read again."""
        return self.position >= self.judged_until

    def count_groups(self, rule_type: RuleType | None = None) -> tuple[int, int]:
        """Count the groups with an open window, and those with an open alert; of one type of rule, or of all."""
        return self.windows.count_groups(rule_type)

    def update_rules(self, rules: RuleSet, now_ns: int) -> list[Transition]:
        """Use new rules from now on: judge again what they changed, resolve the alerts of removed ones."""
        self._merge(now_ns)
        transitions, changed = self.windows.update_rules(rules, now_ns)
        if self.windows.has_late_rule:
            self.windows.has_late_rule, self.snapshots_from = False, self.position + 1
        if changed and self.is_caught_up:
            transitions += self._judge_all(changed, now_ns)
            transitions += self._close_windows(now_ns)
        return transitions

    def observe(self, records: Sequence[tuple[int, PartialBatch]], now_ns: int) -> Outcome:
        """Process records, given with their offsets; what they lead to does not depend on how many are given at once.

        The records of a flush are judged together once all of them are here, within a bound.
        """
        step = Step(now_ns)
        for offset, batch in records:
            record = offset, expand(batch)
            if not self.is_caught_up:
                self._replay(record, step)
                continue
            self._waiting.append(record)
            if not batch.continues or _is_much(self._waiting):
                self._judge_flush(step)
        return step.outcome()

    def checkpoint(self, now_ns: int) -> Checkpoint:
        """Return from where a new owner could resume, once all transitions so far have been delivered."""
        self._merge(now_ns)
        self.windows.drop_unused(now_ns)
        used: list[RuleWindows | ScopeTotals] = [*self.windows.by_selection.values(), *self.windows.totals.values()]
        needed = [window.first_offset for windows in used for window in windows.windows.values()]
        return Checkpoint(
            offset=min(needed, default=self.position),
            position=max(self.position, self.judged_until),
            watermark_ns=self.watermark.value_ns,
            owner=self.owner,
        )

    def snapshot(self, now_ns: int) -> StageSnapshot:
        """Return what reading all records before the position again would rebuild, as copies."""
        self._merge(now_ns)
        return StageSnapshot(
            position=self.position,
            is_resumed=self.is_resumed,
            selections=selection_states(self.windows),
            sequences={source: replace(sequence) for source, sequence in self._sequences.items()},
            source_count=self.watermark.source_count,
            sources=self.watermark.sources(),
            matched_by=self.windows.matched_by,
            table=self.windows.table.columns(),
        )

    def expire(self, committed: Checkpoint) -> list[tuple[str, Group]]:
        """Drop resolved alerts that a restart from the checkpoint cannot repeat; return those whose state can go."""
        return [] if committed.watermark_ns is None else self.windows.expire(committed.watermark_ns)

    def _judge_flush(self, step: Step) -> None:
        """Process the records that wait: first all rows, then the progress of their sources."""
        records, self._waiting = self._waiting, []
        for offset, batch in records:
            step.gaps += [(offset, progress) for progress in self._set_aside(offset, batch, step.now_ns, step)]
        self._merge(step.now_ns, step)
        step.judge(self.windows)
        for offset, batch in records:
            self._advance(offset, batch)
        step.transitions += self._close(step.now_ns)

    def _replay(self, record: tuple[int, PartialBatch], step: Step) -> None:
        """Go on with a record that was judged before; what it leads to is known once the last one is read.

        Not everything is counted until then: nothing may end by it. Late events and gaps were reported when it was
        read first; reading from the middle may begin with a repetition.
        """
        offset, batch = record
        self._set_aside(offset, batch, step.now_ns)
        self._advance(offset, batch)
        if _is_much(self._unmerged):
            self._merge(step.now_ns)
        if self.is_caught_up:
            self._merge(step.now_ns)
            step.transitions += self._judge_all(list(self.windows.by_selection.values()), step.now_ns)
            step.transitions += self._close(step.now_ns)

    def _advance(self, offset: int, batch: PartialBatch) -> None:
        """Take note that a record counts, and how far its sources are."""
        self.position = offset + 1
        for part in batch.blocks:
            self.watermark.observe(part.progress)

    def _set_aside(
        self, offset: int, batch: PartialBatch, now_ns: int, step: Step | None = None
    ) -> list[BlockProgress]:
        """Place a record in the sequences of its sources; let the rows that count wait to be merged.

        Return the blocks of which something is missing before this record.
        """
        orders = [self._advance_sequence(part.progress, now_ns, step) for part in batch.blocks]
        are_stale = np.array([order is FlushOrder.STALE for order in orders])
        for part in compress(batch.blocks, ~are_stale):
            self._sequences[part.progress.source_partition].advance(part.progress.up_to)
            self._mark_missed(offset, part, now_ns)
        if are_stale.any():
            batch = batch.take(np.flatnonzero(~are_stale[batch.block_of_row]))
        if len(batch.rows):
            self._queue_rows(offset, batch, now_ns, step)
        return [part.progress for part, order in zip(batch.blocks, orders, strict=True) if order is FlushOrder.GAP]

    def _queue_rows(self, offset: int, batch: PartialBatch, now_ns: int, step: Step | None) -> None:
        """Let rows wait to be merged. Near a limit of groups they are merged record by record, at once."""
        rows = len(batch.rows)
        if not self.windows.has_room(self._unmerged_rows + rows):
            self._merge(now_ns, step)
        self._unmerged.append((offset, batch))
        self._unmerged_rows += rows
        if not self.windows.has_room(rows):
            self._merge(now_ns, step)

    def _advance_sequence(self, progress: BlockProgress, now_ns: int, step: Step | None) -> FlushOrder:
        """Place a flush in the sequence of its source; fold the source's block when a later one has begun."""
        source = progress.source_partition
        sequence = self._sequences.get(source)
        if sequence is None:
            self._sequences[source] = SourceSequence.starting_with(progress)
            return FlushOrder.SAME_BLOCK
        flush_order = sequence.order_of(progress)
        if progress.block > sequence.block:
            self._merge(now_ns, step)
            self.windows.table.fold(source)
            self._sequences[source] = sequence.next_block(progress)
        return flush_order

    def _merge(self, now_ns: int, step: Step | None = None) -> None:
        """Put the rows that wait for it into their panes; in a step, count those that come too late."""
        records, self._unmerged, self._unmerged_rows = self._unmerged, [], 0
        if not records:
            return
        arrived = ArrivedRows.of(records)
        is_wanted = self.windows.are_wanted(arrived.rows.keys, int(arrived.matched_by.max()))
        if not is_wanted.all():
            arrived = arrived.take(np.flatnonzero(is_wanted[arrived.rows.selection]))
        if not len(arrived.rows):
            return
        firsts, places = distinct_windows(arrived.rows)
        keys = arrived.rows.keys
        windows = [
            self.windows.window(keys[selection], start_ns, offset, now_ns)
            for selection, start_ns, offset in zip(
                arrived.rows.selection[firsts].tolist(),
                arrived.rows.pane_ns[firsts].tolist(),
                arrived.offsets[firsts].tolist(),
                strict=True,
            )
        ]
        is_near = not self.windows.has_room(len(arrived.rows))
        self.windows.table.tenants.merged(len(arrived.rows))
        admissions = self.windows.admissions(windows, len(arrived.rows)) if is_near else []
        parts = merge_rows(self.windows.table, arrived, windows, places, admissions)
        if step is not None:
            # A block that began before the stage was restored: the former owner counted its late events.
            of_new = np.array([not self.is_resumed or self._sequences[each].is_complete for each in arrived.sources])
            for merged in parts:
                step.add(merged, self.watermark, of_new)

    def _mark_missed(self, offset: int, part: BlockPart, now_ns: int) -> None:
        """Mark the windows in which a rule was not evaluated for some events."""
        is_wanted = self.windows.are_wanted(list(part.missed), part.progress.rules_revision)
        for selection, starts in compress(part.missed.items(), is_wanted):
            for start_ns in starts:
                self.windows.window(selection, start_ns, offset, now_ns).is_incomplete = True

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
        table = self.windows.table
        return [*transitions, *fire_alerts(table, all_panes(table, windows), now_ns)]

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
        if watermark_ns is None or watermark_ns < self.windows.next_close_ns:
            return []
        transitions: list[Transition] = []
        table, next_close_ns = self.windows.table, LATEST_NS
        for windows in self.windows.by_selection.values():
            compiled = windows.compiled
            if compiled is None:
                continue
            open_from_ns = open_from(compiled, watermark_ns)
            if open_from_ns > windows.open_from_ns:
                transitions += close_windows(table, windows, compiled, open_from_ns, now_ns)
                for window in windows.close_before(open_from_ns):
                    table.windows.close(window)
            next_close_ns = min(next_close_ns, windows.open_from_ns + compiled.window_ns + compiled.lateness_ns)
        self.windows.next_close_ns = next_close_ns
        return transitions

    def _due_ns(self) -> int | None:
        return min(
            (due for windows in self.windows.by_selection.values() if (due := windows.due_ns) is not None), default=None
        )


def _is_much(records: Sequence[tuple[int, PartialBatch]]) -> bool:
    return len(records) >= _MAX_UNMERGED or sum(len(batch.rows) for _, batch in records) >= _MAX_UNMERGED_ROWS
