"""Which groups have a pane of their own in a window that is near its limit; `group_limit` says why."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from services.evaluator.core.distinct_integers import distinct_integers
from services.evaluator.core.match.events import Ints, RowMask
from services.evaluator.core.records import Group
from services.evaluator.core.window.code_index import NO_SLOT
from services.evaluator.core.window.group_limit import GroupLimitKind
from services.evaluator.core.window.numbering import NO_WINDOW, Window
from services.evaluator.core.window.pane_table import PaneTable
from services.evaluator.core.window.tenant_groups import TenantRoom


class Admission(NamedTuple):
    """What decides which groups have panes in a window."""

    window: Window
    # Groups with an alert always have panes.
    alerts: Sequence[Collection[Group]] = ()
    # Of a rule that reads totals, their window: what has a pane there has one here.
    totals: Window | None = None
    # Of totals, the windows of the rules that read them: what has a pane in one of them has one here.
    readers: Sequence[Window] = ()

    @property
    def takes_none(self) -> bool:
        """Whether no further group gets a pane, whichever it is: one was refused, and nothing else decides."""
        is_full = self.window.overflow is not None and self.window.limit_reached is not None
        return is_full and not (any(self.alerts) or self.totals is not None or self.readers)


def place_rows(
    table: PaneTable, windows: Sequence[Window], admissions: Sequence[Admission], places: Ints, groups: Ints
) -> Ints:
    """Return the number of the window of each row's pane: its own, or the one of what is beyond the limit.

    Rows are given in the order of their records, each by the place of its window in `windows` and by its group. Of
    windows without an admission each group has a pane. What takes no decision is found for all windows at once: a
    tenant beyond its limit may have a row in each of hundreds.
    """
    own = np.array([window.number for window in windows], dtype=np.int64)
    numbers = own[places]
    near = np.zeros(len(table.windows), dtype=bool)
    near[[admission.window.number for admission in admissions]] = True
    rows = np.flatnonzero(near[numbers])
    overflows = _overflows(table, own)
    beyond = table.find(overflows[places[rows]], groups[rows]) != NO_SLOT
    is_open = np.array([window.is_open for window in windows], dtype=bool)
    new = rows[~beyond & is_open[places[rows]]]
    new = new[table.find(numbers[new], groups[new]) == NO_SLOT]
    refused = _refused(table, admissions, numbers[new], groups[new])
    for number in distinct_integers(numbers[new[refused]]).tolist():
        table.windows.overflow(table.windows[number])
    rows = np.concatenate([rows[beyond], new[refused]])
    numbers[rows] = _overflows(table, own)[places[rows]]
    return numbers


def _overflows(table: PaneTable, numbers: Ints) -> Ints:
    """Return the number of the overflow of each window; NO_WINDOW where there is none."""
    found = (table.windows[number].overflow for number in numbers.tolist())
    return np.array([NO_WINDOW if each is None else each.number for each in found], dtype=np.int64)


def _refused(table: PaneTable, admissions: Sequence[Admission], numbers: Ints, groups: Ints) -> RowMask:
    """Return which of these rows, none of which has a pane, get none; give panes to the groups of the others."""
    takes_none = np.zeros(len(table.windows), dtype=bool)
    takes_none[[each.window.number for each in admissions if each.takes_none]] = True
    refused: RowMask = takes_none[numbers]
    undecided = np.flatnonzero(~refused)
    if not len(undecided):
        return refused
    tenants = table.tenants.room(table.windows) if table.tenants.limit.limits_tenants else None
    # Totals first, because they decide for rules.
    for admission in sorted(admissions, key=lambda each: not each.window.is_totals):
        rows = undecided[numbers[undecided] == admission.window.number]
        if len(rows):
            admitted = _admit(table, admission, groups[rows], tenants)
            refused[rows] = ~np.isin(groups[rows], admitted)
    return refused


def _admit(table: PaneTable, admission: Admission, groups: Ints, tenants: TenantRoom | None) -> Ints:
    """Give panes to those of the groups that get one, the first ones first; return these."""
    new, firsts = np.unique(groups, return_index=True)
    new = new[np.argsort(firsts)]
    admitted = new[_are_admitted(table, admission, new, tenants)]
    table.find(np.full(len(admitted), admission.window.number), admitted, is_adding=True)
    if tenants is not None:
        tenants.added(admission.window, _panes(table, admission.window))
    return admitted


def _are_admitted(table: PaneTable, admission: Admission, groups: Ints, tenants: TenantRoom | None) -> RowMask:
    """Return which of these groups, none of which has a pane, have one from now on: the first ones, and some others."""
    has_pane = np.zeros(len(groups), dtype=bool)
    for window in (admission.totals, *admission.readers):
        has_pane |= _have_panes(table, window, groups)
    is_admitted = has_pane.copy()
    room, reached = _room(table, admission), admission.totals and admission.totals.limit_reached
    if tenants is not None and (left := _tenant_room(table, admission, tenants)) < room:
        room, reached = left, GroupLimitKind.TENANT
    is_admitted[np.flatnonzero(~has_pane)[:room]] = True
    if not is_admitted.all():
        admission.window.limit_reached = admission.window.limit_reached or reached or GroupLimitKind.RULE
    for place in np.flatnonzero(~is_admitted).tolist():
        group = table.groups[int(groups[place])]
        is_admitted[place] = any(group in alerts for alerts in admission.alerts)
    return is_admitted


def _room(table: PaneTable, admission: Admission) -> int:
    """Return how many more groups may have panes in the window, and in that of its totals."""
    windows = [window for window in (admission.window, admission.totals) if window is not None]
    return max(int(table.windows.panes.rooms_in(np.array([window.number for window in windows])).min()), 0)


def _tenant_room(table: PaneTable, admission: Admission, tenants: TenantRoom) -> int:
    """Return how many more groups the tenant may have by a window, as far as it decides by itself."""
    return max(tenants.room_in(admission.window, _panes(table, admission.window)), 0)


def _panes(table: PaneTable, window: Window) -> int:
    return int(table.windows.panes.groups_in(np.array([window.number]))[0])


def _have_panes(table: PaneTable, window: Window | None, groups: Ints) -> RowMask:
    if window is None:
        return np.zeros(len(groups), dtype=bool)
    has_pane: RowMask = table.find(np.full(len(groups), window.number), groups) != NO_SLOT
    return has_pane
