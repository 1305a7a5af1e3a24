"""Judging many panes at once: which meet their rule's condition, and the transitions that follow.

Whatever is judged is a column operation; Python objects are made of panes that fire, resolve or keep an alert open.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from services.evaluator.core.match.events import Floats, Ints, RowMask
from services.evaluator.core.records import Group, Transition, TransitionReason
from services.evaluator.core.rules import CompiledRule
from services.evaluator.core.window.code_index import NO_SLOT
from services.evaluator.core.window.column_condition import ColumnCondition, NumberColumns
from services.evaluator.core.window.episode import MergedAggregate, fire, may_fire, resolve, window_result
from services.evaluator.core.window.numbering import NO_WINDOW, Window
from services.evaluator.core.window.pane_table import PaneTable, Totals
from services.evaluator.core.window.rule_windows import RuleWindows


class JudgedWindow(NamedTuple):
    """One window of a rule that is in force."""

    rules: RuleWindows
    compiled: CompiledRule
    start_ns: int

    @property
    def number(self) -> int:
        """The number of the window; NO_WINDOW when the rule has selected nothing in it."""
        window = self.rules.windows.get(self.start_ns)
        return window.number if window else NO_WINDOW

    @property
    def is_incomplete(self) -> bool:
        """Whether the rule was not evaluated for some events of the window."""
        window = self.rules.windows.get(self.start_ns)
        return window is not None and window.is_incomplete

    @property
    def totals(self) -> Window | None:
        """The window of the totals that the rule reads, if there are any."""
        return self.rules.scope.windows.get(self.start_ns) if self.rules.scope else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidates:
    """Panes to judge: of each the place of its window in `windows`, the number of its group, and its slot."""

    windows: Sequence[JudgedWindow]
    places: Ints
    groups: Ints
    slots: Ints

    def take(self, rows: Ints) -> "Candidates":
        """Return these candidates."""
        return replace(self, places=self.places[rows], groups=self.groups[rows], slots=self.slots[rows])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Judged:
    """Which candidates meet their condition, and of which anything is known."""

    holds: RowMask
    is_known: RowMask
    totals: Totals | None


def joined(parts: Sequence[Candidates]) -> Candidates:
    """Return the candidates of all parts, one part after the other."""
    offsets = np.cumsum([0, *(len(part.windows) for part in parts)])
    return Candidates(
        windows=[window for part in parts for window in part.windows],
        places=np.concatenate([part.places + offset for part, offset in zip(parts, offsets.tolist(), strict=False)]),
        groups=np.concatenate([part.groups for part in parts]),
        slots=np.concatenate([part.slots for part in parts]),
    )


def all_panes(table: PaneTable, windows: Sequence[JudgedWindow]) -> Candidates:
    """Return every group of these windows, and of the totals that they read where a rule may fire without more."""
    place_of = np.zeros(len(table.windows), dtype=np.int64)
    place_of[[window.number for window in windows]] = np.arange(len(windows))
    slots, numbers, groups = table.panes_of([number for window in windows if (number := window.number)])
    parts = [Candidates(windows=windows, places=place_of[numbers], groups=groups, slots=slots)]
    for window in windows:
        totals = window.totals if window.compiled.holds_when_empty else None
        if totals is not None:
            every = every_pane(table, [window], table.panes_of([totals.number])[2])
            parts.append(every.take(judged_here(table, every)))
    return joined(parts)


def judged_here(table: PaneTable, candidates: Candidates) -> Ints:
    """Return the candidates of which a rule has selected something, or may fire without and judges the group here.

    Totals are where any of their readers judges a group: a rule that has no pane of it here may have one elsewhere.
    """
    is_kept = candidates.slots != NO_SLOT
    for place, window in enumerate(candidates.windows):
        if window.compiled.holds_when_empty:
            rows = np.flatnonzero((candidates.places == place) & ~is_kept)
            is_kept[rows] = table.others.are_judged_here(window.compiled.rule.id, candidates.groups[rows])
    return np.flatnonzero(is_kept)


def every_pane(table: PaneTable, windows: Sequence[JudgedWindow], groups: Ints) -> Candidates:
    """Return each of these groups in each of these windows, whether it has a pane there or not."""
    numbers = np.array([window.number for window in windows], dtype=np.int64)
    places, all_groups = np.repeat(np.arange(len(windows)), len(groups)), np.tile(groups, len(windows))
    return Candidates(windows=windows, places=places, groups=all_groups, slots=table.find(numbers[places], all_groups))


def fire_alerts(
    table: PaneTable, candidates: Candidates, now_ns: int, trace_of: Callable[[int], str] = lambda _: ""
) -> list[Transition]:
    """Fire the alert of each group whose window meets the condition and is covered by no episode.

    The earliest window goes first: an episode begins with it when several meet the condition at once.
    """
    if not len(candidates.places):
        return []
    judged = _judge(table, candidates)
    chosen = _that_may_fire(table, candidates, np.flatnonzero(judged.holds & ~_is_undecided(candidates)))
    if not len(chosen):
        return []
    merged = _merged(table, candidates, judged.totals, chosen)
    samples = table.samples(candidates.slots[chosen])
    transitions: list[Transition] = []
    for candidate, aggregate in zip(chosen.tolist(), merged, strict=True):
        window = candidates.windows[candidates.places[candidate]]
        result = window_result(window.compiled, window.start_ns, aggregate)
        group = table.groups[candidates.groups[candidate]]
        fired = fire(window.compiled, group, result, samples[int(candidates.slots[candidate])], now_ns)
        transitions.append(window.rules.apply(replace(fired, traceparent=trace_of(candidate))))
    return transitions


def close_windows(
    table: PaneTable, rules: RuleWindows, compiled: CompiledRule, open_from_ns: int, now_ns: int
) -> list[Transition]:
    """Judge the ends of a rule's windows that close now, under open alerts.

    An alert resolves with the first window that does not meet the condition; it may fire again in a later one.
    """
    transitions: list[Transition] = []
    while waiting := _unjudged(rules, open_from_ns):
        starts = {start_ns: place for place, start_ns in enumerate(dict.fromkeys(waiting.values()))}
        windows = [JudgedWindow(rules=rules, compiled=compiled, start_ns=start_ns) for start_ns in starts]
        numbers = np.array([window.number for window in windows], dtype=np.int64)
        places = np.array([starts[start_ns] for start_ns in waiting.values()], dtype=np.int64)
        groups = table.groups.numbers(list(waiting))
        slots = table.find(numbers[places], groups)
        candidates = Candidates(windows=windows, places=places, groups=groups, slots=slots)
        judged = _judge(table, candidates)
        # Of a window in which the rule was not evaluated for some events it is not known that the condition ended.
        stays = judged.holds | np.array([window.is_incomplete for window in windows])[places]
        for group, start_ns, is_held in zip(waiting, waiting.values(), stays.tolist(), strict=True):
            if is_held:
                rules.episodes[group] = rules.episodes[group].held_until(start_ns + compiled.window_ns)
        ended = np.flatnonzero(~stays)
        if len(ended):
            transitions += _resolve(table, candidates, judged, ended, now_ns)
            transitions += fire_alerts(table, _later_windows(table, candidates.take(ended)), now_ns)
    return transitions


def _unjudged(rules: RuleWindows, open_from_ns: int) -> dict[Group, int]:
    """Return the groups with an open alert and a window that closes now; the first such window of each."""
    return {
        group: episode.unjudged_ns
        for group, episode in rules.episodes.items()
        if episode.is_open and episode.unjudged_ns < open_from_ns
    }


def _resolve(table: PaneTable, candidates: Candidates, judged: _Judged, ended: Ints, now_ns: int) -> list[Transition]:
    merged = _merged(table, candidates, judged.totals, ended)
    samples = table.samples(candidates.slots[ended])
    transitions = []
    for candidate, aggregate in zip(ended.tolist(), merged, strict=True):
        window = candidates.windows[candidates.places[candidate]]
        reason = TransitionReason.CONDITION_ENDED if judged.is_known[candidate] else TransitionReason.SILENT
        result = window_result(window.compiled, window.start_ns, aggregate)
        fired = window.rules.episodes[table.groups[candidates.groups[candidate]]].last
        revision = window.compiled.rule.revision
        step = resolve(fired, result, samples[int(candidates.slots[candidate])], reason, now_ns, revision)
        transitions.append(window.rules.apply(step))
    return transitions


def _later_windows(table: PaneTable, ended: Candidates) -> Candidates:
    """Return the same groups in all later windows of the rule."""
    first = ended.windows[0]
    windows = [first._replace(start_ns=start_ns) for start_ns in first.rules.starts()]
    every = every_pane(table, windows, ended.groups)
    starts = np.array([window.start_ns for window in windows], dtype=np.int64)
    ended_ns = np.array([window.start_ns for window in ended.windows], dtype=np.int64)[ended.places]
    return every.take(np.flatnonzero(starts[every.places] > np.tile(ended_ns, len(windows))))


def _that_may_fire(table: PaneTable, candidates: Candidates, rows: Ints) -> Ints:
    """Return which of these candidates begin an episode, the earliest of each group."""
    starts = np.array([window.start_ns for window in candidates.windows], dtype=np.int64)[candidates.places[rows]]
    rows = rows[np.argsort(starts, kind="stable")]
    chosen, seen = [], set()
    for row, place, number in zip(
        rows.tolist(), candidates.places[rows].tolist(), candidates.groups[rows].tolist(), strict=True
    ):
        window, key = candidates.windows[place], (candidates.windows[place].rules.selection, number)
        if key not in seen and may_fire(window.rules.episodes.get(table.groups[number]), window.start_ns):
            seen.add(key)
            chosen.append(row)
    return np.array(chosen, dtype=np.int64)


def _is_undecided(candidates: Candidates) -> RowMask:
    """Return which candidates could be false alerts, because events are missing in their windows."""
    is_undecided = [not window.compiled.only_grows and window.is_incomplete for window in candidates.windows]
    return np.array(is_undecided, dtype=bool)[candidates.places]


def _judge(table: PaneTable, candidates: Candidates) -> _Judged:
    is_known = candidates.slots != NO_SLOT
    totals = _totals(table, candidates)
    if totals is not None:
        is_known |= totals.is_known
    thresholds = np.array([float(window.compiled.rule.threshold) for window in candidates.windows])
    holds = np.zeros(len(is_known), dtype=bool)
    for condition, rows in _by_condition(candidates):
        numbers = _with_totals(table.numbers(candidates.slots[rows], condition.names), totals, rows)
        holds[rows] = condition(numbers, _of_each(thresholds, candidates.places[rows]))
    return _Judged(holds=holds & is_known, is_known=is_known, totals=totals)


def _of_each(thresholds: Floats, places: Ints) -> Floats:
    each: Floats = thresholds[places]
    return each


def _by_condition(candidates: Candidates) -> list[tuple[ColumnCondition, Ints]]:
    """Return the conditions, and which candidates each of them judges."""
    places: dict[ColumnCondition, list[int]] = {}
    for place, window in enumerate(candidates.windows):
        places.setdefault(window.compiled.column_condition, []).append(place)
    if len(places) == 1:
        return [(condition, np.arange(len(candidates.places))) for condition in places]
    numbers = np.zeros(len(candidates.windows), dtype=np.int64)
    for number, judged in enumerate(places.values()):
        numbers[judged] = number
    number_of_each = numbers[candidates.places]
    return [(condition, np.flatnonzero(number_of_each == number)) for number, condition in enumerate(places)]


def _totals(table: PaneTable, candidates: Candidates) -> Totals | None:
    """Return the totals of the candidates' scopes; None when no rule needs any."""
    scopes = [window.totals for window in candidates.windows]
    if not any(scopes):
        return None
    revisions = np.array([window.rules.selection[1] for window in candidates.windows], dtype=np.int64)
    groups = _totals_groups(table, candidates)
    return table.totals(scopes, candidates.places, groups, revisions[candidates.places])


def _totals_groups(table: PaneTable, candidates: Candidates) -> Ints:
    """Return under which groups the totals of candidates are: of what is beyond the limit each rule has its own."""
    if not table.windows.owners.any():
        return candidates.groups
    groups = candidates.groups.copy()
    for place, window in enumerate(candidates.windows):
        if window.totals is not None:
            rows = np.flatnonzero(candidates.places == place)
            groups[rows] = table.others.of_totals(window.compiled.rule.id, groups[rows])
    return groups


def _with_totals(numbers: NumberColumns, totals: Totals | None, rows: Ints) -> NumberColumns:
    """Take over how many events the scope selected, where that is more than the rule's own rows know."""
    if totals is None:
        return numbers
    changed = dict(numbers)
    for name, known in (("total", totals.total), ("last_event_ns", totals.last_event_ns)):
        if name in changed:
            changed[name] = np.maximum(changed[name], known[rows])
    return changed


def _merged(table: PaneTable, candidates: Candidates, totals: Totals | None, rows: Ints) -> list[MergedAggregate]:
    numbers = _with_totals(table.numbers(candidates.slots[rows]), totals, rows)
    columns = {name: values.tolist() for name, values in numbers.items()}
    return [MergedAggregate.of({name: values[row] for name, values in columns.items()}) for row in range(len(rows))]
