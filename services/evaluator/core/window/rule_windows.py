"""The windows of one rule that are open, and its groups' alerts."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from services.evaluator.core.records import (
    EARLIEST_NS,
    SECOND_NS,
    Group,
    Reason,
    RowKey,
    Sample,
    Tally,
    Transition,
    start_of,
)
from services.evaluator.core.rules import ReadyRule, RuleSet
from services.evaluator.core.window.condition import Numbers
from services.evaluator.core.window.episode import Episode, firing, may_fire, resolved, reworded, window_of
from services.evaluator.core.window.panes import FrameTotals, Pane, Totals

# What a rule may ask for at most; holds for alerts whose rule is gone.
LONGEST_LATENESS_NS = 3600 * SECOND_NS


@dataclass(slots=True)
class PaneSet:
    """All groups' panes of one window; `first_offset` is the oldest partial record that any of them needs."""

    first_offset: int
    panes: dict[Group, Pane] = field(default_factory=dict)


@dataclass(slots=True)
class RuleWindows:
    """One selection of one rule. Changed in place.

    Rows may come before the rule is known here: they are kept, and judged once it is.
    """

    rule_id: str
    selection_revision: int
    ready: ReadyRule | None = None
    # Since when no rule asks for what is here.
    unclaimed_since_ns: int | None = None
    # Windows that start before this are closed: what still comes for them is late.
    open_from_ns: int = EARLIEST_NS
    windows: dict[int, PaneSet] = field(default_factory=dict)
    episodes: dict[Group, Episode] = field(default_factory=dict)
    # What its scope selected in all, if the rule needs to know.
    scope: FrameTotals | None = None

    def enter(self, scope: FrameTotals | None) -> None:
        """Share the totals of a frame from now on; None when the rule needs none."""
        self.scope = scope
        for start_ns, window in self.windows.items():
            for group in window.panes:
                self._join_scope(group, start_ns, window.first_offset)

    def attach(self, ready: ReadyRule, watermark_ns: int | None) -> None:
        """Take the rule as it is now. Only what restored alerts have left behind is closed by the watermark yet."""
        is_first = self.ready is None
        self.ready, self.unclaimed_since_ns = ready, None
        if is_first and not self.windows:
            self.open_from_ns = max(self.open_from_ns, self._open_from(ready, watermark_ns))
        self.episodes = {
            group: episode.held_through(self.open_from_ns) if episode.is_open else episode
            for group, episode in self.episodes.items()
        }

    def detach(self, now_ns: int) -> None:
        """Go on without a rule: it is unknown yet, or no longer in force."""
        self.ready = None
        self.unclaimed_since_ns = self.unclaimed_since_ns or now_ns

    def pane(self, key: RowKey, offset: int) -> Pane | None:
        """Give the pane of a row, a new one if need be; None when its window is closed."""
        if key.pane_ns < self.open_from_ns:
            return None
        found = self.windows.get(key.pane_ns)
        if found is None:
            found = self.windows[key.pane_ns] = PaneSet(first_offset=offset)
        pane = found.panes.get(key.group)
        if pane is None:
            pane = found.panes[key.group] = Pane()
            self._join_scope(key.group, key.pane_ns, offset)
        return pane

    def existing_pane(self, key: RowKey) -> Pane | None:
        """Give the pane of a row, if its window is open."""
        return self._pane(key.group, key.pane_ns)

    def judge(self, group: Group, start_ns: int, now_ns: int, traceparent: str = "") -> Iterator[Transition]:
        """Begin the group's alert if this window meets the condition and none covers it."""
        if self.ready is None or start_ns < self.open_from_ns or not may_fire(self.episodes.get(group), start_ns):
            return
        totals = self._totals(group, start_ns)
        if totals is None or not self._holds(self.ready, totals):
            return
        window = window_of(self.ready, start_ns, totals)
        transition = firing(self.ready, group, window, self._samples(group, start_ns), now_ns)
        yield self._taken(replace(transition, traceparent=traceparent))

    def judge_all(self, now_ns: int) -> Iterator[Transition]:
        """Judge every open window, the earliest first: the rule or what is known of it has changed.

        Open alerts go on, in the rule's new words.
        """
        yield from self._reword(now_ns)
        for start_ns in self._starts():
            for group in self._groups(start_ns):
                yield from self.judge(group, start_ns, now_ns)

    def close(self, watermark_ns: int | None, now_ns: int) -> Iterator[Transition]:
        """End the windows that the watermark has passed, and the alerts that did not hold until such an end."""
        if self.ready is None:
            return
        open_from_ns = self._open_from(self.ready, watermark_ns)
        if open_from_ns <= self.open_from_ns:
            return
        for group in [group for group, episode in self.episodes.items() if episode.is_open]:
            yield from self._decide(self.ready, group, open_from_ns, now_ns)
        self.open_from_ns = open_from_ns
        for start_ns in [start_ns for start_ns in self.windows if start_ns < open_from_ns]:
            del self.windows[start_ns]

    def end(self, rules: RuleSet, now_ns: int) -> Iterator[Transition]:
        """End the open alerts of a rule that is known to be no longer in force."""
        for episode in list(self.episodes.values()):
            fired = episode.last
            if episode.is_open and rules.has_ended(self.rule_id, self.selection_revision, fired.rule_revision):
                yield self._taken(resolved(fired, fired.window, fired.samples, Reason.RULE_ENDED, now_ns))

    def due_ns(self) -> int | None:
        """Give the watermark that closes the next window; None when nothing is open."""
        if self.ready is None:
            return None
        starts = [episode.undecided_ns for episode in self.episodes.values() if episode.is_open]
        first = min((*self._starts(), *starts), default=None)
        return None if first is None else first + self.ready.window_ns + self.ready.lateness_ns

    def low_water(self) -> int | None:
        """Give the oldest partial record that an open window needs."""
        return min((window.first_offset for window in self.windows.values()), default=None)

    def forget(self, watermark_ns: int) -> list[Group]:
        """Let go of ended alerts that the watermark has passed: nothing can repeat them."""
        gone = [group for group, episode in self.episodes.items() if self._is_over(episode, watermark_ns)]
        for group in gone:
            del self.episodes[group]
        return gone

    def _reword(self, now_ns: int) -> Iterator[Transition]:
        if self.ready is None:
            return
        for group, episode in list(self.episodes.items()):
            said = reworded(episode.last, self.ready.rule, now_ns) if episode.is_open else None
            if said is not None:
                self.episodes[group] = replace(episode, last=said)
                yield said

    def _is_over(self, episode: Episode, watermark_ns: int) -> bool:
        lateness_ns = self.ready.lateness_ns if self.ready else LONGEST_LATENESS_NS
        return not episode.is_open and episode.last.window.end_ns + lateness_ns <= watermark_ns

    def _decide(self, ready: ReadyRule, group: Group, open_from_ns: int, now_ns: int) -> Iterator[Transition]:
        """Go through a group's windows that end now."""
        episode = self.episodes[group]
        while episode.is_open and episode.undecided_ns < open_from_ns:
            start_ns = episode.undecided_ns
            totals = self._totals(group, start_ns)
            if totals is not None and self._holds(ready, totals):
                episode = self.episodes[group] = episode.held_through(start_ns + ready.window_ns)
                continue
            yield self._resolve(ready, episode.last, start_ns, totals, now_ns)
            for later_ns in self._starts():
                if later_ns > start_ns:
                    yield from self.judge(group, later_ns, now_ns)
            episode = self.episodes[group]

    def _resolve(
        self, ready: ReadyRule, fired: Transition, start_ns: int, totals: Totals | None, now_ns: int
    ) -> Transition:
        reason = Reason.SILENT if totals is None else Reason.CONDITION_ENDED
        window = window_of(ready, start_ns, totals or Totals())
        return self._taken(resolved(fired, window, self._samples(fired.group, start_ns), reason, now_ns))

    def _taken(self, transition: Transition) -> Transition:
        self.episodes[transition.group] = Episode.after(transition)
        return transition

    def _totals(self, group: Group, start_ns: int) -> Totals | None:
        pane = self._pane(group, start_ns)
        scope = self._in_scope(group, start_ns)
        if scope is None:
            return pane.totals() if pane else None
        return (pane.totals() if pane else Totals()).within(scope)

    def _in_scope(self, group: Group, start_ns: int) -> Tally | None:
        pane = self.scope.existing_pane(group, start_ns) if self.scope else None
        return pane.since(self.selection_revision) if pane else None

    def _join_scope(self, group: Group, start_ns: int, offset: int) -> None:
        if self.scope is not None:
            self.scope.pane(group, start_ns, offset).selecting[self.rule_id, self.selection_revision] = None

    def _starts(self) -> list[int]:
        """Give the starts of the open windows, the earliest first."""
        in_scope = self.scope.windows if self.scope else ()
        return sorted({*self.windows, *(start_ns for start_ns in in_scope if start_ns >= self.open_from_ns)})

    def _groups(self, start_ns: int) -> list[Group]:
        """Give the groups whose window may be an alert."""
        window, in_scope = self.windows.get(start_ns), None
        if self.scope and self.ready and self.ready.holds_unselected:
            in_scope = self.scope.windows.get(start_ns)
        return list({**(window.panes if window else {}), **(in_scope.panes if in_scope else {})})

    def _samples(self, group: Group, start_ns: int) -> tuple[Sample, ...]:
        pane = self._pane(group, start_ns)
        return pane.samples() if pane else ()

    def _pane(self, group: Group, start_ns: int) -> Pane | None:
        window = self.windows.get(start_ns)
        return window.panes.get(group) if window else None

    def _holds(self, ready: ReadyRule, totals: Totals) -> bool:
        return ready.condition(
            Numbers(
                count=totals.counted,
                total=totals.total,
                threshold=ready.rule.threshold,
                value_count=totals.value_count,
                sum=totals.sum,
                min=totals.min,
                max=totals.max,
            )
        )

    def _open_from(self, ready: ReadyRule, watermark_ns: int | None) -> int:
        """Give the start of the first window that is not closed by this watermark."""
        return EARLIEST_NS if watermark_ns is None else start_of(watermark_ns - ready.lateness_ns, ready.window_ns)
