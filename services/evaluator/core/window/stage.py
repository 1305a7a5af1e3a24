"""The window stage of one partition of `window-partials`: a function of its records, one after the other.

Its inputs are only these records, the rules and what was restored, so reading the same records again gives the same
transitions, wherever reading begins again.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from services.evaluator.core.records import SECOND_NS, Group, PartialBatch, Progress, Row, RowKey, Tally, Transition
from services.evaluator.core.rules import ReadyRule, RuleSet
from services.evaluator.core.window.checkpoint import Checkpoint
from services.evaluator.core.window.episode import Episode
from services.evaluator.core.window.panes import FrameTotals, Selection
from services.evaluator.core.window.rule_windows import RuleWindows
from services.evaluator.core.window.sequence import Chain, Reception
from services.evaluator.core.window.watermark import Watermark
from services.rule_language.rule import RuleType

# How long rows are kept for a rule that nobody here knows (yet).
_UNCLAIMED_NS = 60 * SECOND_NS


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What came of one record."""

    transitions: tuple[Transition, ...]
    reception: Reception
    late_events: int


@dataclass(slots=True)
class WindowStage:
    """All rules' windows of one output partition. Changed in place."""

    watermark: Watermark
    position: int
    judged_until: int
    # Whether windows were closed before: then events have been counted as late.
    is_resumed: bool = False
    owner: str = ""
    _rules: RuleSet | None = None
    _chains: dict[int, Chain] = field(default_factory=dict)
    _windows: dict[Selection, RuleWindows] = field(default_factory=dict)
    _totals: dict[str, FrameTotals] = field(default_factory=dict)

    @classmethod
    def restored(
        cls, checkpoint: Checkpoint, states: Iterable[Transition], allowance_ns: int, owner: str = ""
    ) -> "WindowStage":
        """Take a partition up for a new owner: `states` are the last transitions of its groups."""
        stage = cls(
            watermark=Watermark(allowance_ns=allowance_ns, value_ns=checkpoint.watermark_ns),
            position=checkpoint.offset,
            judged_until=checkpoint.position,
            is_resumed=checkpoint.watermark_ns is not None,
            owner=owner,
        )
        for transition in states:
            windows = stage._of(transition.rule_id, transition.selection_revision, 0)
            windows.episodes[transition.group] = Episode.after(transition)
        return stage

    @property
    def is_caught_up(self) -> bool:
        """Whether everything that was judged before has been read again."""
        return self.position >= self.judged_until

    @property
    def open_groups(self) -> int:
        """How many groups have an open window."""
        return sum(len(window.panes) for windows in self._windows.values() for window in windows.windows.values())

    @property
    def firing_groups(self) -> int:
        """How many groups have an open alert."""
        return sum(episode.is_open for windows in self._windows.values() for episode in windows.episodes.values())

    def census(self, kind: RuleType) -> tuple[int, int]:
        """Count the groups with an open window, and those with an open alert, of one type of rule."""
        of_kind = [each for each in self._windows.values() if each.ready and each.ready.rule.type is kind]
        groups = sum(len(window.panes) for windows in of_kind for window in windows.windows.values())
        return groups, sum(episode.is_open for windows in of_kind for episode in windows.episodes.values())

    def learn(self, rules: RuleSet, now_ns: int) -> list[Transition]:
        """Take over new rules: judge again what they changed, end the alerts of those that are gone."""
        self._rules = rules
        for readers in rules.readers.values():
            for ready in readers:
                # They hear of groups of which they have selected nothing.
                self._windows.setdefault(ready.selection, RuleWindows(*ready.selection))
        return [step for windows in self._windows.values() for step in self._adopt(windows, rules, now_ns)]

    def observe(self, offset: int, batch: PartialBatch, now_ns: int) -> Observed:
        """Take in one record: first its rows, then how far its source has come."""
        was_caught_up = self.is_caught_up
        self.position = offset + 1
        reception = self._follow(batch.progress)
        if reception is Reception.GAP and not was_caught_up:
            # It was looked for when this was read first; reading from the middle may begin with a repeat.
            reception = Reception.NEXT_BLOCK
        rows = () if reception is Reception.PAST else batch.rows
        changed, late_events = self._merge(offset, batch.progress, rows, now_ns)
        steps: list[Transition] = []
        if was_caught_up:
            steps += self._judge(changed, now_ns)
        elif self.is_caught_up:
            steps += self._judge_all(now_ns)
        self.watermark.observe(batch.progress)
        # What is read again has not all been counted yet: nothing may end by it.
        if self.is_caught_up:
            steps += self._close(now_ns)
        # What is read again was counted when it was read first.
        return Observed(transitions=tuple(steps), reception=reception, late_events=late_events if was_caught_up else 0)

    def checkpoint(self, now_ns: int) -> Checkpoint:
        """Say from where this partition could be taken up now, once all transitions so far have been delivered."""
        self._drop_unclaimed(now_ns)
        self._close_totals(now_ns)
        needed = [low for windows in self._windows.values() if (low := windows.low_water()) is not None]
        needed += [window.first_offset for totals in self._totals.values() for window in totals.windows.values()]
        return Checkpoint(
            offset=min(needed, default=self.position),
            position=max(self.position, self.judged_until),
            watermark_ns=self.watermark.value_ns,
            owner=self.owner,
        )

    def forget(self, committed: Checkpoint) -> list[tuple[str, Group]]:
        """Let go of ended alerts that a restart from the checkpoint cannot repeat; give those whose state can go."""
        if committed.watermark_ns is None:
            return []
        gone = [
            (windows.rule_id, group)
            for windows in self._windows.values()
            for group in windows.forget(committed.watermark_ns)
        ]
        held = {(windows.rule_id, group) for windows in self._windows.values() for group in windows.episodes}
        return [key for key in gone if key not in held]

    def _follow(self, progress: Progress) -> Reception:
        """Fold a source's block when a later one has begun."""
        chain = self._chains.get(progress.source_partition)
        if chain is None:
            self._chains[progress.source_partition] = Chain.begun_by(progress)
            return Reception.SAME_BLOCK
        reception = chain.follows(progress)
        if progress.block > chain.block:
            self._fold(progress.source_partition, chain)
            self._chains[progress.source_partition] = chain.after(progress)
        return reception

    def _fold(self, source: int, chain: Chain) -> None:
        for key in chain.rows:
            if key.is_totals:
                totals = self._totals.get(key.rule_id)
                in_scope = totals.existing_pane(key.group, key.pane_ns) if totals else None
                if in_scope is not None:
                    in_scope.fold(source)
                continue
            windows = self._windows.get((key.rule_id, key.selection_revision))
            pane = windows.existing_pane(key) if windows else None
            if pane is not None:
                pane.fold(source)

    def _merge(self, offset: int, progress: Progress, rows: Iterable[Row], now_ns: int) -> tuple[list[Row], int]:
        """Put rows into their panes; give those that changed something, and how many events came too late."""
        changed: list[Row] = []
        late_events = 0
        chain = self._chains[progress.source_partition]
        for row in rows:
            replaced = chain.replace(row, progress.up_to)
            if replaced is None:
                continue
            tally, before = replaced
            if row.key.is_totals:
                totals = self._totals.setdefault(row.key.rule_id, FrameTotals())
                in_scope = totals.pane(row.key.group, row.key.pane_ns, offset)
                in_scope.put(progress.source_partition, progress.rules_revision, tally)
                changed.append(row)
                continue
            pane = self._of(row.key.rule_id, row.key.selection_revision, now_ns).pane(row.key, offset)
            if pane is None:
                late_events += self._late(chain, tally, before)
            else:
                pane.put(progress.source_partition, tally)
                changed.append(row)
        chain.reach(progress.up_to)
        return changed, late_events

    def _late(self, chain: Chain, tally: Tally, before: Tally | None) -> int:
        """Say how many events of a row are late that were not counted as late before."""
        if before is not None:
            return tally.counted - before.counted
        # A block that began before the stage was taken up: what it held by then was counted by then.
        return 0 if self.is_resumed and not chain.is_complete else tally.counted

    def _judge(self, rows: list[Row], now_ns: int) -> Iterator[Transition]:
        # The earliest window first: an alert begins with it when several meet the condition at once.
        for key, tally in sorted(rows, key=_judging_order):
            for windows in self._concerned(key):
                yield from windows.judge(key.group, key.pane_ns, now_ns, tally.traceparent)

    def _concerned(self, key: RowKey) -> list[RuleWindows]:
        """Give the windows that a changed row may make an alert."""
        if not key.is_totals:
            return [self._windows[key.rule_id, key.selection_revision]]
        unselecting = self._rules.unselecting.get(key.rule_id, ()) if self._rules else ()
        selecting = self._totals[key.rule_id].windows[key.pane_ns].panes[key.group].selecting
        found = [self._windows.get(selection) for selection in dict.fromkeys((*unselecting, *selecting))]
        return [windows for windows in found if windows is not None]

    def _readers(self, frame_id: str) -> list[RuleWindows]:
        readers = self._rules.readers.get(frame_id, ()) if self._rules else ()
        return [self._windows[ready.selection] for ready in readers]

    def _judge_all(self, now_ns: int) -> Iterator[Transition]:
        for windows in self._windows.values():
            yield from windows.judge_all(now_ns)

    def _close(self, now_ns: int) -> Iterator[Transition]:
        for windows in self._windows.values():
            yield from windows.close(self.watermark.value_ns, now_ns)
        # Where nothing arrives at all the wall clock decides, as far as something is open: it does not make
        # the next event late.
        idle_until_ns = self.watermark.idle_until_ns
        while idle_until_ns is not None and (due_ns := self._due_ns()) is not None and due_ns <= idle_until_ns:
            self.watermark.jump(due_ns)
            for windows in self._windows.values():
                yield from windows.close(self.watermark.value_ns, now_ns)

    def _due_ns(self) -> int | None:
        return min((due for windows in self._windows.values() if (due := windows.due_ns()) is not None), default=None)

    def _adopt(self, windows: RuleWindows, rules: RuleSet, now_ns: int) -> Iterator[Transition]:
        ready = rules.current(windows.rule_id, windows.selection_revision)
        if ready is None:
            windows.detach(now_ns)
            yield from windows.end(rules, now_ns)
        elif ready is not windows.ready:
            self._attach(windows, ready)
            if self.is_caught_up:
                yield from windows.judge_all(now_ns)
                yield from windows.close(self.watermark.value_ns, now_ns)

    def _attach(self, windows: RuleWindows, ready: ReadyRule) -> None:
        windows.enter(self._totals.setdefault(ready.frame_id, FrameTotals()) if ready.needs_totals else None)
        windows.attach(ready, self.watermark.value_ns)

    def _close_totals(self, now_ns: int) -> None:
        """Let go of totals that no rule needs any more, or none has asked for in a while."""
        for frame_id, totals in list(self._totals.items()):
            readers = self._readers(frame_id)
            if readers:
                totals.unclaimed_since_ns = None
                totals.close(min(windows.open_from_ns for windows in readers))
                continue
            totals.unclaimed_since_ns = totals.unclaimed_since_ns or now_ns
            if now_ns - totals.unclaimed_since_ns > _UNCLAIMED_NS:
                del self._totals[frame_id]

    def _drop_unclaimed(self, now_ns: int) -> None:
        for selection, windows in list(self._windows.items()):
            since_ns = windows.unclaimed_since_ns
            if since_ns is not None and now_ns - since_ns > _UNCLAIMED_NS:
                windows.windows.clear()
                if not windows.episodes:
                    del self._windows[selection]

    def _of(self, rule_id: str, selection_revision: int, now_ns: int) -> RuleWindows:
        selection = rule_id, selection_revision
        windows = self._windows.get(selection)
        if windows is None:
            windows = self._windows[selection] = RuleWindows(rule_id=rule_id, selection_revision=selection_revision)
            ready = self._rules.current(*selection) if self._rules else None
            if ready is None:
                windows.detach(now_ns)
            else:
                self._attach(windows, ready)
        return windows


def _judging_order(row: Row) -> tuple[int, bool]:
    # A rule's own rows first: they know which trace brought the event that decides.
    return row.key.pane_ns, row.key.is_totals
