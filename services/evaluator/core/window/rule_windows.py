"""The open windows of one selection of a rule, and the episodes of its groups; and the windows of shared totals."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from services.evaluator.core.records import (
    EARLIEST_NS,
    SECOND_NS,
    Group,
    Transition,
    TransitionReason,
    window_start,
)
from services.evaluator.core.rules import CompiledRule, RuleSet, SelectionKey
from services.evaluator.core.window.episode import Episode, apply_edit, resolve
from services.evaluator.core.window.numbering import Window

# The longest lateness that a rule may have; it holds for alerts whose rule is gone.
MAX_LATENESS_NS = 3600 * SECOND_NS


@dataclass(slots=True)
class ScopeTotals:
    """The windows of one bucketing's totals, by their starts. Changed in place."""

    windows: dict[int, Window] = field(default_factory=dict)
    # Since when no rule reads them.
    unused_since_ns: int | None = None

    def pop_before(self, open_from_ns: int) -> list[Window]:
        """Remove the windows that start before this: all rules have closed them."""
        return _pop(self.windows, [start_ns for start_ns in self.windows if start_ns < open_from_ns])


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
    windows: dict[int, Window] = field(default_factory=dict)
    # The watermark up to which a former owner judged these windows; None when there was none, or this one did.
    judged_watermark_ns: int | None = None
    episodes: dict[Group, Episode] = field(default_factory=dict)
    # How many events its scope selected, if the rule needs to know.
    scope: ScopeTotals | None = None

    def attach(self, compiled: CompiledRule, scope: ScopeTotals | None, watermark_ns: int | None) -> list[Window]:
        """Use this form of the rule from now on, and the totals of its bucketing if it needs them.

        The watermark closes windows only where none is open: those that restored alerts have left behind. Return those
        of a snapshot that the former owner had judged and closed: nothing of them is decided here.
        """
        closed: list[Window] = []
        if self.compiled is None:
            passed_ns = self.judged_watermark_ns if self.windows else watermark_ns
            closed = self.close_before(max(self.open_from_ns, open_from(compiled, passed_ns)))
        self.compiled, self.scope, self.unused_since_ns = compiled, scope, None
        self.episodes = {
            group: episode.held_until(self.open_from_ns) if episode.is_open else episode
            for group, episode in self.episodes.items()
        }
        return closed

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
            self.apply(resolve(fired, fired.window, fired.samples, TransitionReason.RULE_ENDED, now_ns))
            for fired in ended
        ]

    def apply(self, transition: Transition) -> Transition:
        """Take the next step of a group."""
        self.episodes[transition.group] = Episode.after(transition)
        return transition

    def apply_edit(self, compiled: CompiledRule, now_ns: int) -> list[Transition]:
        """Give open alerts the name, labels and severity of the changed rule."""
        transitions: list[Transition] = []
        for group, episode in self.episodes.items():
            edited = apply_edit(episode.last, compiled.rule, now_ns) if episode.is_open else None
            if edited is not None:
                self.episodes[group] = replace(episode, last=edited)
                transitions.append(edited)
        return transitions

    def close_before(self, open_from_ns: int) -> list[Window]:
        """Remove the windows that start before this, for good."""
        self.open_from_ns = open_from_ns
        return _pop(self.windows, [start_ns for start_ns in self.windows if start_ns < open_from_ns])

    def expire(self, watermark_ns: int) -> list[Group]:
        """Drop resolved episodes that the watermark has passed, as nothing can repeat them; return their groups."""
        expired = [group for group, episode in self.episodes.items() if self._is_over(episode, watermark_ns)]
        for group in expired:
            del self.episodes[group]
        return expired

    def starts(self) -> list[int]:
        """Return the starts of the open windows, the earliest first."""
        in_scope = self.scope.windows if self.scope else ()
        return sorted({*self.windows, *(start_ns for start_ns in in_scope if start_ns >= self.open_from_ns)})

    @property
    def due_ns(self) -> int | None:
        """The watermark that closes the next window; None when nothing is open."""
        if self.compiled is None:
            return None
        unjudged = [episode.unjudged_ns for episode in self.episodes.values() if episode.is_open]
        first = min((*self.starts(), *unjudged), default=None)
        return None if first is None else first + self.compiled.window_ns + self.compiled.lateness_ns

    def _is_over(self, episode: Episode, watermark_ns: int) -> bool:
        lateness_ns = self.compiled.lateness_ns if self.compiled else MAX_LATENESS_NS
        return not episode.is_open and episode.last.window.end_ns + lateness_ns <= watermark_ns


def open_from(compiled: CompiledRule, watermark_ns: int | None) -> int:
    """Return the start of the first window that this watermark does not close."""
    if watermark_ns is None:
        return EARLIEST_NS
    return window_start(watermark_ns - compiled.lateness_ns, compiled.window_ns)


def _pop(windows: dict[int, Window], starts: Iterable[int]) -> list[Window]:
    return [windows.pop(start_ns) for start_ns in starts]
