"""The open windows of one selection of a rule, and the episodes of its groups."""

from dataclasses import dataclass, field, replace

from services.evaluator.core.records import (
    EARLIEST_NS,
    SECOND_NS,
    Aggregate,
    Group,
    RowKey,
    Sample,
    Transition,
    TransitionReason,
    window_start,
)
from services.evaluator.core.rules import CompiledRule, RuleSet, SelectionKey
from services.evaluator.core.window.condition import WindowValues
from services.evaluator.core.window.episode import Episode, apply_edit, fire, may_fire, resolve, window_result
from services.evaluator.core.window.panes import MergedAggregate, Pane, ScopeTotals

# The longest lateness that a rule may have; it holds for alerts whose rule is gone.
MAX_LATENESS_NS = 3600 * SECOND_NS


@dataclass(slots=True)
class OpenWindow:
    """All groups' panes of one window; `first_offset` is the oldest partial record that any of them needs."""

    first_offset: int
    panes: dict[Group, Pane] = field(default_factory=dict)


@dataclass(slots=True)
class RuleWindows:
    """The windows and episodes of one selection of a rule. Changed in place.

    Rows may come before the rule is known here: they are kept, and judged once it is.
    """

    selection: SelectionKey
    # Since when no current rule uses them; None while one does.
    unused_since_ns: int | None = None
    compiled: CompiledRule | None = None
    # Windows that start before this are closed: what still comes for them is late.
    open_from_ns: int = EARLIEST_NS
    windows: dict[int, OpenWindow] = field(default_factory=dict)
    episodes: dict[Group, Episode] = field(default_factory=dict)
    # How many events its scope selected, if the rule needs to know.
    scope: ScopeTotals | None = None

    def attach(self, compiled: CompiledRule, scope: ScopeTotals | None, watermark_ns: int | None) -> None:
        """Use this form of the rule from now on, and the totals of its bucketing if it needs them.

        The watermark closes windows only where none is open: those that restored alerts have left behind.
        """
        self._share_totals(scope)
        is_first = self.compiled is None
        self.compiled, self.unused_since_ns = compiled, None
        if is_first and not self.windows:
            self.open_from_ns = max(self.open_from_ns, self._open_from(compiled, watermark_ns))
        self.episodes = {
            group: episode.held_until(self.open_from_ns) if episode.is_open else episode
            for group, episode in self.episodes.items()
        }

    def detach(self, rules: RuleSet, now_ns: int) -> list[Transition]:
        """Go on without a rule. Resolve open alerts if the rule is surely no longer current, not only unknown yet."""
        self.compiled = None
        self.unused_since_ns = self.unused_since_ns or now_ns
        ended = [
            episode.last
            for episode in self.episodes.values()
            if episode.is_open and rules.has_ended(self.selection, episode.last.rule_revision)
        ]
        return [
            self._apply(resolve(fired, fired.window, fired.samples, TransitionReason.RULE_ENDED, now_ns))
            for fired in ended
        ]

    def pane(self, key: RowKey, offset: int) -> Pane | None:
        """Return the pane of a row, a new one if there is none; None when its window is closed."""
        if key.pane_ns < self.open_from_ns:
            return None
        window = self.windows.get(key.pane_ns)
        if window is None:
            window = self.windows[key.pane_ns] = OpenWindow(first_offset=offset)
        pane = window.panes.get(key.group)
        if pane is None:
            pane = window.panes[key.group] = Pane()
            self._select_in_scope(key.group, key.pane_ns, offset)
        return pane

    def existing_pane(self, group: Group, start_ns: int) -> Pane | None:
        """Return the pane of a group, if its window is open."""
        window = self.windows.get(start_ns)
        return window.panes.get(group) if window else None

    def judge(self, group: Group, start_ns: int, now_ns: int, traceparent: str = "") -> list[Transition]:
        """Fire the group's alert if this window meets the condition and no episode covers it."""
        if self.compiled is None or start_ns < self.open_from_ns or not may_fire(self.episodes.get(group), start_ns):
            return []
        merged = self._merged(group, start_ns)
        if merged is None or not self._holds(self.compiled, merged):
            return []
        window = window_result(self.compiled, start_ns, merged)
        fired = fire(self.compiled, group, window, self._samples(group, start_ns), now_ns)
        return [self._apply(replace(fired, traceparent=traceparent))]

    def judge_all(self, now_ns: int) -> list[Transition]:
        """Judge every open window, the earliest first, because the rule or its totals changed.

        Open alerts go on, with the name, labels and severity of the changed rule.
        """
        transitions = self._apply_edit(now_ns)
        for start_ns in self._starts():
            for group in self._groups(start_ns):
                transitions += self.judge(group, start_ns, now_ns)
        return transitions

    def close(self, watermark_ns: int | None, now_ns: int) -> list[Transition]:
        """Close the windows that the watermark has passed; resolve alerts whose condition did not hold until then."""
        if self.compiled is None:
            return []
        open_from_ns = self._open_from(self.compiled, watermark_ns)
        if open_from_ns <= self.open_from_ns:
            return []
        transitions: list[Transition] = []
        for group in [group for group, episode in self.episodes.items() if episode.is_open]:
            transitions += self._judge_ends(self.compiled, group, open_from_ns, now_ns)
        self.open_from_ns = open_from_ns
        for start_ns in [start_ns for start_ns in self.windows if start_ns < open_from_ns]:
            del self.windows[start_ns]
        return transitions

    def expire(self, watermark_ns: int) -> list[Group]:
        """Drop resolved episodes that the watermark has passed, as nothing can repeat them; return their groups."""
        expired = [group for group, episode in self.episodes.items() if self._is_over(episode, watermark_ns)]
        for group in expired:
            del self.episodes[group]
        return expired

    @property
    def due_ns(self) -> int | None:
        """The watermark that closes the next window; None when nothing is open."""
        if self.compiled is None:
            return None
        starts = [episode.unjudged_ns for episode in self.episodes.values() if episode.is_open]
        first = min((*self._starts(), *starts), default=None)
        return None if first is None else first + self.compiled.window_ns + self.compiled.lateness_ns

    @property
    def oldest_needed_offset(self) -> int | None:
        """The offset of the oldest partial record that an open window needs."""
        return min((window.first_offset for window in self.windows.values()), default=None)

    def _share_totals(self, scope: ScopeTotals | None) -> None:
        self.scope = scope
        for start_ns, window in self.windows.items():
            for group in window.panes:
                self._select_in_scope(group, start_ns, window.first_offset)

    def _select_in_scope(self, group: Group, start_ns: int, offset: int) -> None:
        if self.scope is not None:
            self.scope.pane(group, start_ns, offset).selecting[self.selection] = None

    def _apply_edit(self, now_ns: int) -> list[Transition]:
        transitions: list[Transition] = []
        if self.compiled is None:
            return transitions
        for group, episode in self.episodes.items():
            edited = apply_edit(episode.last, self.compiled.rule, now_ns) if episode.is_open else None
            if edited is not None:
                self.episodes[group] = replace(episode, last=edited)
                transitions.append(edited)
        return transitions

    def _is_over(self, episode: Episode, watermark_ns: int) -> bool:
        lateness_ns = self.compiled.lateness_ns if self.compiled else MAX_LATENESS_NS
        return not episode.is_open and episode.last.window.end_ns + lateness_ns <= watermark_ns

    def _judge_ends(self, compiled: CompiledRule, group: Group, open_from_ns: int, now_ns: int) -> list[Transition]:
        """Go through a group's windows that close now; the alert may resolve, and fire again in a later window."""
        transitions: list[Transition] = []
        episode = self.episodes[group]
        while episode.is_open and episode.unjudged_ns < open_from_ns:
            start_ns = episode.unjudged_ns
            merged = self._merged(group, start_ns)
            if merged is not None and self._holds(compiled, merged):
                episode = self.episodes[group] = episode.held_until(start_ns + compiled.window_ns)
                continue
            transitions.append(self._resolve(compiled, episode.last, start_ns, merged, now_ns))
            for later_ns in self._starts():
                if later_ns > start_ns:
                    transitions += self.judge(group, later_ns, now_ns)
            episode = self.episodes[group]
        return transitions

    def _resolve(
        self, compiled: CompiledRule, fired: Transition, start_ns: int, merged: MergedAggregate | None, now_ns: int
    ) -> Transition:
        reason = TransitionReason.SILENT if merged is None else TransitionReason.CONDITION_ENDED
        window = window_result(compiled, start_ns, merged or MergedAggregate())
        return self._apply(resolve(fired, window, self._samples(fired.group, start_ns), reason, now_ns))

    def _apply(self, transition: Transition) -> Transition:
        self.episodes[transition.group] = Episode.after(transition)
        return transition

    def _merged(self, group: Group, start_ns: int) -> MergedAggregate | None:
        pane = self.existing_pane(group, start_ns)
        totals = self._scope_totals(group, start_ns)
        if totals is None:
            return pane.merged() if pane else None
        return (pane.merged() if pane else MergedAggregate()).with_scope(totals)

    def _scope_totals(self, group: Group, start_ns: int) -> Aggregate | None:
        pane = self.scope.existing_pane(group, start_ns) if self.scope else None
        _, selection_revision = self.selection
        return pane.since(selection_revision) if pane else None

    def _starts(self) -> list[int]:
        """Return the starts of the open windows, the earliest first."""
        in_scope = self.scope.windows if self.scope else ()
        return sorted({*self.windows, *(start_ns for start_ns in in_scope if start_ns >= self.open_from_ns)})

    def _groups(self, start_ns: int) -> list[Group]:
        """Return the groups whose window may be an alert."""
        window, in_scope = self.windows.get(start_ns), None
        if self.scope and self.compiled and self.compiled.holds_when_empty:
            in_scope = self.scope.windows.get(start_ns)
        return list({**(window.panes if window else {}), **(in_scope.panes if in_scope else {})})

    def _samples(self, group: Group, start_ns: int) -> tuple[Sample, ...]:
        pane = self.existing_pane(group, start_ns)
        return pane.samples() if pane else ()

    def _holds(self, compiled: CompiledRule, merged: MergedAggregate) -> bool:
        return compiled.condition(
            WindowValues(
                count=merged.counted,
                total=merged.total,
                threshold=compiled.rule.threshold,
                value_count=merged.value_count,
                sum=merged.sum,
                min=merged.min,
                max=merged.max,
            )
        )

    def _open_from(self, compiled: CompiledRule, watermark_ns: int | None) -> int:
        """Return the start of the first window that this watermark does not close."""
        if watermark_ns is None:
            return EARLIEST_NS
        return window_start(watermark_ns - compiled.lateness_ns, compiled.window_ns)
