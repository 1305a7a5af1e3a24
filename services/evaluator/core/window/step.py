"""What some records lead to: what they count late or beyond a limit, and the panes that they change, judged at once."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from services.evaluator.core.distinct_integers import distinct_integers
from services.evaluator.core.match.events import Ints, RowMask
from services.evaluator.core.records import BlockProgress, Transition
from services.evaluator.core.window.group_limit import GroupLimitKind
from services.evaluator.core.window.judging import Candidates, every_pane, fire_alerts, joined, judged_here
from services.evaluator.core.window.merging import MergedRows, sum_by_rule
from services.evaluator.core.window.partition_windows import PartitionWindows
from services.evaluator.core.window.watermark import Watermark


class LimitedWindow(NamedTuple):
    """A window of a rule that has reached a limit of groups."""

    rule_id: str
    start_ns: int
    limit: GroupLimitKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What some records led to."""

    transitions: tuple[Transition, ...] = ()
    # The records before which something is missing: their offsets and what they say of their blocks.
    gaps: tuple[tuple[int, BlockProgress], ...] = ()
    # Events that some rule dropped as late, each counted once; and how many each rule dropped, by its id.
    late_events: int = 0
    late_by_rule: Mapping[str, int] = field(default_factory=dict)
    # Events of groups beyond a limit, by rule; and the windows that have reached one.
    beyond_limit: Mapping[str, int] = field(default_factory=dict)
    limited_windows: tuple[LimitedWindow, ...] = ()


@dataclass(frozen=True, slots=True)
class _Changes:
    """Panes that merged rows have changed, and of each the index of the row among those that count."""

    merged: MergedRows
    panes: Candidates
    rows: Ints


@dataclass(slots=True)
class Step:
    """What records have led to so far. Changed in place."""

    now_ns: int
    transitions: list[Transition] = field(default_factory=list)
    gaps: list[tuple[int, BlockProgress]] = field(default_factory=list)
    _late_events: int = 0
    _late_by_rule: Counter[str] = field(default_factory=Counter)
    _beyond_limit: Counter[str] = field(default_factory=Counter)
    _limited_windows: list[LimitedWindow] = field(default_factory=list)
    # Rows in their panes that are not judged yet.
    _merged: list[MergedRows] = field(default_factory=list)

    def outcome(self) -> Outcome:
        """Return it as a value."""
        return Outcome(
            transitions=tuple(self.transitions),
            gaps=tuple(self.gaps),
            late_events=self._late_events,
            late_by_rule=self._late_by_rule,
            beyond_limit=self._beyond_limit,
            limited_windows=tuple(self._limited_windows),
        )

    def add(self, merged: MergedRows, watermark: Watermark, of_new: RowMask) -> None:
        """Add rows that are in their panes now.

        Of rows without a former one late events count only where `of_new` says so, for each source.
        """
        self._count_late(merged, watermark, of_new)
        self._count_beyond(merged)
        self._merged.append(merged)

    def judge(self, windows: PartitionWindows) -> None:
        """Judge the panes that rows have changed: those of rules, and those whose totals they are."""
        changes = [change for merged in self._merged for change in _changes(windows, merged)]
        self._merged = []
        if not changes:
            return
        origins = np.repeat(np.arange(len(changes)), [len(each.rows) for each in changes])
        rows = np.concatenate([each.rows for each in changes])
        self.transitions += fire_alerts(
            windows.table,
            joined([each.panes for each in changes]),
            self.now_ns,
            lambda candidate: changes[origins[candidate]].merged.traceparent(int(rows[candidate])),
        )

    def _count_late(self, merged: MergedRows, watermark: Watermark, of_new: RowMask) -> None:
        """Count the events of rows that came too late and were not counted as late before."""
        if all(window.is_open for window in merged.windows):
            return
        late = merged.of_windows([not window.is_open and not window.is_totals for window in merged.windows])
        closed = merged.of_windows(
            [window.is_closing and watermark.has_reached(window.start_ns) for window in merged.windows]
        )
        self._late_events += int(merged.added(closed, of_new).sum())
        self._late_by_rule.update(sum_by_rule(merged, late, merged.added(late, of_new)))

    def _count_beyond(self, merged: MergedRows) -> None:
        """Count the events of groups beyond the limit, and note which windows have reached it."""
        if not merged.replaced.is_beyond.any():
            return
        rows = merged.of_windows([window.is_open and not window.is_totals for window in merged.windows])
        beyond = rows[merged.replaced.is_beyond[rows]]
        self._beyond_limit.update(sum_by_rule(merged, beyond, merged.added(beyond)))
        for place in distinct_integers(merged.places[beyond]).tolist():
            window = merged.windows[place]
            if not window.is_limit_reported:
                window.is_limit_reported = True
                reached = window.limit_reached or GroupLimitKind.RULE
                self._limited_windows.append(LimitedWindow(window.selection[0], window.start_ns, reached))


def _changes(windows: PartitionWindows, merged: MergedRows) -> list[_Changes]:
    """Return the panes that rows have changed: those of rules, and those whose totals they are."""
    changes: list[_Changes] = []
    own = {place: judged for place, window in enumerate(merged.windows) if (judged := windows.in_force(window))}
    if own:
        chosen = merged.judged([place in own for place in range(len(merged.windows))])
        changes.append(_Changes(merged, merged.candidates(own, chosen), chosen))
    for place, window in enumerate(merged.windows):
        readers = windows.readers(window) if place not in own and window.is_totals else []
        if readers:
            chosen = merged.judged([each is window for each in merged.windows])
            every = every_pane(windows.table, readers, merged.replaced.groups[chosen])
            concerned = judged_here(windows.table, every)
            changes.append(_Changes(merged, every.take(concerned), np.tile(chosen, len(readers))[concerned]))
    return changes
