"""How many groups the rules of each tenant have in this partition, and how many more they may have.

A rule counts with its fullest open window, and so do the totals of a bucketing: a window that begins while the one
before is still open takes nothing away, as it has the same groups. Once a group was refused a pane in a window, no
further one gets a pane there (`WindowNumbers.overflow`), also when the tenant has room again: the counts of a group
would begin in the middle of the window. The windows that follow have room.

Nothing is done for each group: the counts are arrays by the numbers of windows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from services.evaluator.core.match.events import Ints
from services.evaluator.core.rules import SelectionKey
from services.evaluator.core.window.code_index import grown
from services.evaluator.core.window.group_limit import UNLIMITED, GroupLimit
from services.evaluator.core.window.numbering import Window, WindowNumbers

# The counted selection of windows whose tenant is not known.
_NOBODY = 0


@dataclass(slots=True, eq=False)
class TenantRoom:
    """What is left for each tenant while rows are placed. Changed in place."""

    groups: "TenantGroups"
    # Of each counted selection how many groups its fullest window has.
    fullest: Ints
    # Of each tenant.
    left: Ints

    @property
    def least(self) -> int:
        """How many more groups each tenant may have at least."""
        return int(self.left.min(initial=UNLIMITED))

    def rooms_in(self, numbers: Ints) -> Ints:
        """Return how many more groups the tenant of each of these windows may have at least."""
        places = self.groups.places_of(numbers)
        tenants = np.array(self.groups.tenant_places, dtype=np.int64)[places]
        return np.where(places == _NOBODY, UNLIMITED, np.append(self.left, UNLIMITED)[tenants])

    def room_in(self, window: Window, panes: int) -> int:
        """Return how many more panes a window with so many panes may have."""
        place = self.groups.place_of(window.number)
        if place == _NOBODY:
            return UNLIMITED
        tenant = self.groups.tenant_places[place]
        return max(int(self.left[tenant]), 0) + int(self.fullest[place]) - panes

    def added(self, window: Window, panes: int) -> None:
        """Take note that a window has so many panes now."""
        place = self.groups.place_of(window.number)
        more = max(panes - int(self.fullest[place]), 0)
        if place != _NOBODY and more:
            self.fullest[place] += more
            self.left[self.groups.tenant_places[place]] -= more


@dataclass(slots=True)
class TenantGroups:
    """Whose the windows of a partition are. Changed in place."""

    limit: GroupLimit
    _tenants: dict[str, int] = field(default_factory=dict)
    _places: dict[SelectionKey, int] = field(default_factory=dict)
    # Of each counted selection the place of its tenant.
    tenant_places: list[int] = field(default_factory=lambda: [_NOBODY])
    # Of each window by its number the place of its selection.
    _of_window: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    # How many more rows there may be, at least, before a tenant has reached its limit.
    _rows_left: int = 0

    def clear(self) -> None:
        """Forget whose windows are whose: all are assigned again."""
        self._tenants.clear()
        self._places.clear()
        self.tenant_places[1:] = []
        self._of_window[:] = _NOBODY
        self._rows_left = 0

    def has_many_former(self, selections: int) -> bool:
        """Whether more places are taken by selections that are gone than there are selections."""
        return len(self._places) > 2 * selections

    def assign(self, window: Window, tenant: str | None) -> None:
        """Count a window for a tenant; None: whose it is is not known."""
        self._of_window = grown(self._of_window, window.number + 1, _NOBODY)
        self._of_window[window.number] = _NOBODY if tenant is None else self._place(window.selection, tenant)

    def place_of(self, number: int) -> int:
        """Return the place of a window's selection; 0: nobody's."""
        return int(self._of_window[number]) if number < len(self._of_window) else _NOBODY

    def places_of(self, numbers: Ints) -> Ints:
        """Return the place of each window's selection; 0: nobody's."""
        self._of_window = grown(self._of_window, int(numbers.max(initial=0)) + 1, _NOBODY)
        return self._of_window[numbers]

    def has_room(self, windows: WindowNumbers, rows: int) -> bool:
        """Return whether each tenant has room for so many groups; take note of those that have room."""
        if not self.limit.limits_tenants:
            return True
        if rows > self._rows_left:
            self._rows_left = self.room(windows).least
        return rows <= self._rows_left

    def merged(self, rows: int) -> None:
        """Take note that so many rows were merged, each of which may have begun a group."""
        self._rows_left -= rows

    def room(self, windows: WindowNumbers) -> TenantRoom:
        """Return how many more groups each tenant may have."""
        fullest = self._fullest(windows)
        shares = np.array([self.limit.tenant_share(tenant) for tenant in self._tenants], dtype=np.int64)
        return TenantRoom(groups=self, fullest=fullest, left=shares - self._sums(fullest))

    def count(self, windows: WindowNumbers) -> Mapping[str, int]:
        """Count the groups of each tenant that has rules here."""
        return dict(zip(self._tenants, self._sums(self._fullest(windows)).tolist(), strict=True))

    def _fullest(self, windows: WindowNumbers) -> Ints:
        numbers = windows.panes.limited()
        numbers = numbers[numbers < len(self._of_window)]
        fullest = np.zeros(len(self.tenant_places), dtype=np.int64)
        np.maximum.at(fullest, self._of_window[numbers], windows.panes.groups_in(numbers))
        return fullest

    def _sums(self, fullest: Ints) -> Ints:
        sums = np.zeros(len(self._tenants), dtype=np.int64)
        np.add.at(sums, np.array(self.tenant_places[1:], dtype=np.int64), fullest[1:])
        return sums

    def _place(self, selection: SelectionKey, tenant: str) -> int:
        place = self._places.get(selection)
        if place is None:
            place = self._places[selection] = len(self.tenant_places)
            self.tenant_places.append(self._tenants.setdefault(tenant, len(self._tenants)))
            # A new tenant may have less room than all others.
            self._rows_left = 0
        return place
