"""The window stage of one partition of `window-partials`: a function of its records, one after the other."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from services.evaluator.core.partial_rows import PartialBatch, to_rows
from services.evaluator.core.records import (
    SECOND_NS,
    Aggregate,
    BlockProgress,
    Group,
    Row,
    RowKey,
    Transition,
)
from services.evaluator.core.rules import CompiledRule, RuleSet, SelectionKey
from services.evaluator.core.window.checkpoint import Checkpoint
from services.evaluator.core.window.episode import Episode
from services.evaluator.core.window.panes import ScopeTotals
from services.evaluator.core.window.rule_windows import RuleWindows
from services.evaluator.core.window.sequence import FlushOrder, SourceSequence
from services.evaluator.core.window.watermark import Watermark
from services.rule_language.rule import RuleType

# How long rows are kept for a rule that is not known here (yet).
_UNUSED_RETENTION_NS = 60 * SECOND_NS


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOutcome:
    """What one record led to."""

    transitions: tuple[Transition, ...]
    flush_order: FlushOrder
    # Events that some rule dropped as late, each counted once; and how many each rule dropped, by its id.
    late_events: int
    late_by_rule: Mapping[str, int]


@dataclass(slots=True)
class _MergedRows:
    """What merging the rows of one record led to: as in BatchOutcome."""

    changed: list[Row] = field(default_factory=list)
    late_events: int = 0
    late_by_rule: Counter[str] = field(default_factory=Counter)


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
            windows = stage._windows_of((transition.rule_id, transition.selection_revision), 0)
            windows.episodes[transition.group] = Episode.after(transition)
        return stage

    @property
    def is_caught_up(self) -> bool:
        """Whether everything that a former owner judged has been read again."""
        return self.position >= self.judged_until

    @property
    def open_groups(self) -> int:
        """How many groups have an open window."""
        return _count_open(self._windows.values())

    @property
    def firing_groups(self) -> int:
        """How many groups have an open alert."""
        return _count_firing(self._windows.values())

    def count_groups(self, rule_type: RuleType) -> tuple[int, int]:
        """Count the groups with an open window, and those with an open alert, of one type of rule."""
        of_type = [
            windows
            for windows in self._windows.values()
            if windows.compiled and windows.compiled.rule.type is rule_type
        ]
        return _count_open(of_type), _count_firing(of_type)

    def update_rules(self, rules: RuleSet, now_ns: int) -> list[Transition]:
        """Use new rules from now on: judge again what they changed, resolve the alerts of removed ones."""
        self._rules = rules
        for readers in rules.total_readers.values():
            for compiled in readers:
                # They judge groups of which they have selected nothing, too.
                self._windows.setdefault(compiled.selection_key, RuleWindows(compiled.selection_key))
        transitions: list[Transition] = []
        for windows in self._windows.values():
            transitions += self._update_rule(windows, rules, now_ns)
        return transitions

    def observe(self, offset: int, batch: PartialBatch, now_ns: int) -> BatchOutcome:
        """Process one record: first its rows, then the progress of its source."""
        was_caught_up = self.is_caught_up
        self.position = offset + 1
        flush_order = self._advance_sequence(batch.progress)
        if flush_order is FlushOrder.GAP and not was_caught_up:
            # It was noticed when this was read first; reading from the middle may begin with a repetition.
            flush_order = FlushOrder.NEXT_BLOCK
        rows = () if flush_order is FlushOrder.STALE else to_rows(batch.rows)
        merged = self._merge(offset, batch.progress, rows, now_ns)
        transitions: list[Transition] = []
        if was_caught_up:
            transitions += self._judge(merged.changed, now_ns)
        elif self.is_caught_up:
            transitions += self._judge_all(now_ns)
        self.watermark.observe(batch.progress)
        # During a replay not everything is counted yet: nothing may end by it.
        if self.is_caught_up:
            transitions += self._close(now_ns)
        # During a replay late events were counted when they were read first.
        return BatchOutcome(
            transitions=tuple(transitions),
            flush_order=flush_order,
            late_events=merged.late_events if was_caught_up else 0,
            late_by_rule=merged.late_by_rule if was_caught_up else {},
        )

    def checkpoint(self, now_ns: int) -> Checkpoint:
        """Return from where a new owner could resume, once all transitions so far have been delivered."""
        self._drop_unused_windows(now_ns)
        self._drop_totals(now_ns)
        offsets = [windows.oldest_needed_offset for windows in self._windows.values()]
        needed = [offset for offset in offsets if offset is not None]
        needed += [window.first_offset for totals in self._totals.values() for window in totals.windows.values()]
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

    def _advance_sequence(self, progress: BlockProgress) -> FlushOrder:
        """Place a flush in the sequence of its source; fold the source's block when a later one has begun."""
        sequence = self._sequences.get(progress.source_partition)
        if sequence is None:
            self._sequences[progress.source_partition] = SourceSequence.starting_with(progress)
            return FlushOrder.SAME_BLOCK
        flush_order = sequence.order_of(progress)
        if progress.block > sequence.block:
            self._fold(progress.source_partition, sequence)
            self._sequences[progress.source_partition] = sequence.next_block(progress)
        return flush_order

    def _fold(self, source: int, sequence: SourceSequence) -> None:
        for key in sequence.rows:
            if key.is_totals:
                totals = self._totals.get(key.rule_id)
                scope_pane = totals.existing_pane(key.group, key.pane_ns) if totals else None
                if scope_pane is not None:
                    scope_pane.fold(source)
                continue
            windows = self._windows.get((key.rule_id, key.selection_revision))
            pane = windows.existing_pane(key.group, key.pane_ns) if windows else None
            if pane is not None:
                pane.fold(source)

    def _merge(self, offset: int, progress: BlockProgress, rows: Iterable[Row], now_ns: int) -> "_MergedRows":
        """Put rows into their panes; return those that changed something, and how many events came too late."""
        merged = _MergedRows()
        sequence = self._sequences[progress.source_partition]
        for row in rows:
            replaced = sequence.replace(row, progress.up_to)
            if replaced is None:
                continue
            key, (aggregate, former) = row.key, replaced
            if key.is_totals:
                if not key.is_closing:
                    self._merge_totals(offset, progress, key, aggregate)
                    merged.changed.append(row)
                elif self.watermark.has_reached(key.pane_ns):
                    merged.late_events += self._late_events(sequence, aggregate, former)
                continue
            pane = self._windows_of((key.rule_id, key.selection_revision), now_ns).pane(key, offset)
            if pane is None:
                merged.late_by_rule[key.rule_id] += self._late_events(sequence, aggregate, former)
            else:
                pane.replace(progress.source_partition, aggregate)
                merged.changed.append(row)
        sequence.advance(progress.up_to)
        return merged

    def _merge_totals(self, offset: int, progress: BlockProgress, key: RowKey, aggregate: Aggregate) -> None:
        totals = self._totals.setdefault(key.rule_id, ScopeTotals())
        scope_pane = totals.pane(key.group, key.pane_ns, offset)
        scope_pane.replace(progress.source_partition, progress.rules_revision, aggregate)

    def _late_events(self, sequence: SourceSequence, aggregate: Aggregate, former: Aggregate | None) -> int:
        """Return how many events of a row are late that were not counted as late before."""
        if former is not None:
            return aggregate.counted - former.counted
        # A block that began before the stage was restored: the former owner counted its late events.
        return 0 if self.is_resumed and not sequence.is_complete else aggregate.counted

    def _judge(self, rows: Sequence[Row], now_ns: int) -> list[Transition]:
        transitions: list[Transition] = []
        # The earliest window first: an episode begins with it when several meet the condition at once.
        for key, aggregate in sorted(rows, key=_judging_order):
            for windows in self._concerned_windows(key):
                transitions += windows.judge(key.group, key.pane_ns, now_ns, aggregate.traceparent)
        return transitions

    def _concerned_windows(self, key: RowKey) -> list[RuleWindows]:
        """Return the windows that a changed row may make an alert."""
        if not key.is_totals:
            return [self._windows[key.rule_id, key.selection_revision]]
        firing_when_empty = self._rules.firing_when_empty.get(key.rule_id, ()) if self._rules else ()
        selecting = self._totals[key.rule_id].windows[key.pane_ns].panes[key.group].selecting
        concerned = [self._windows.get(selection) for selection in dict.fromkeys((*firing_when_empty, *selecting))]
        return [windows for windows in concerned if windows is not None]

    def _judge_all(self, now_ns: int) -> list[Transition]:
        transitions: list[Transition] = []
        for windows in self._windows.values():
            transitions += windows.judge_all(now_ns)
        return transitions

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
        transitions: list[Transition] = []
        for windows in self._windows.values():
            transitions += windows.close(self.watermark.value_ns, now_ns)
        return transitions

    def _due_ns(self) -> int | None:
        return min((due for windows in self._windows.values() if (due := windows.due_ns) is not None), default=None)

    def _update_rule(self, windows: RuleWindows, rules: RuleSet, now_ns: int) -> list[Transition]:
        compiled = rules.in_force(windows.selection)
        if compiled is None:
            return windows.detach(rules, now_ns)
        if compiled is windows.compiled:
            return []
        self._attach(windows, compiled)
        if not self.is_caught_up:
            return []
        return [*windows.judge_all(now_ns), *windows.close(self.watermark.value_ns, now_ns)]

    def _attach(self, windows: RuleWindows, compiled: CompiledRule) -> None:
        totals = self._totals.setdefault(compiled.bucketing_id, ScopeTotals()) if compiled.needs_totals else None
        windows.attach(compiled, totals, self.watermark.value_ns)

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
                totals.close(min(self._windows[compiled.selection_key].open_from_ns for compiled in readers))
                continue
            totals.unused_since_ns = totals.unused_since_ns or now_ns
            if now_ns - totals.unused_since_ns > _UNUSED_RETENTION_NS:
                del self._totals[bucketing_id]

    def _drop_unused_windows(self, now_ns: int) -> None:
        for selection, windows in list(self._windows.items()):
            since_ns = windows.unused_since_ns
            if since_ns is not None and now_ns - since_ns > _UNUSED_RETENTION_NS:
                windows.windows.clear()
                if not windows.episodes:
                    del self._windows[selection]


def _count_open(all_windows: Iterable[RuleWindows]) -> int:
    return sum(len(window.panes) for windows in all_windows for window in windows.windows.values())


def _count_firing(all_windows: Iterable[RuleWindows]) -> int:
    return sum(episode.is_open for windows in all_windows for episode in windows.episodes.values())


def _judging_order(row: Row) -> tuple[int, bool]:
    # A rule's own rows first: they carry the trace of the event that decides.
    return row.key.pane_ns, row.key.is_totals
