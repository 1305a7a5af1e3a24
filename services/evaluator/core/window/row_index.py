"""Which row each source has of each pane, in one table: rows of many sources are found at once."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from services.evaluator.core.match.events import Ints
from services.evaluator.core.window.code_index import NO_SLOT


class RowIndex:
    """The row of each source and pane; NO_SLOT where there is none. Changed in place.

    Sources have places: 0, 1, and so on.
    """

    def __init__(self) -> None:
        self._places: dict[int, int] = {}
        # By the place of the source and the slot of the pane.
        self._rows: NDArray[np.int32] = np.zeros((0, 1), dtype=np.int32)

    @property
    def places(self) -> Mapping[int, int]:
        """The place of each source that has one."""
        return self._places

    def place(self, source: int) -> int:
        """Return the place of a source, the next one if it has none."""
        if source not in self._places:
            self._places[source] = len(self._places)
            self._rows = np.concatenate([self._rows, np.zeros((1, self._rows.shape[1]), dtype=np.int32)])
        return self._places[source]

    def find(self, places: Ints, slots: Ints, size: int) -> Ints:
        """Return the row of each source and pane; all slots are below `size`."""
        self._grow(size)
        return self._rows[places, slots].astype(np.int64)

    def find_by_source(self, slots: Ints, size: int) -> list[Ints]:
        """Return the rows of panes, source by source, without sources that have no row of any."""
        self._grow(size)
        rows = self._rows[:, slots]
        return [rows[place].astype(np.int64) for place in np.flatnonzero(rows.any(axis=1)).tolist()]

    def enter(self, places: Ints, slots: Ints, rows: Ints) -> None:
        """Enter rows, or that there is none."""
        self._grow(int(slots.max(initial=NO_SLOT)) + 1)
        self._rows[places, slots] = rows

    def clear(self) -> None:
        """Forget all rows; places stay."""
        self._rows = np.zeros((len(self._places), 1), dtype=np.int32)

    def _grow(self, size: int) -> None:
        places, slots = self._rows.shape
        if size > slots:
            larger = np.zeros((places, max(size, slots + slots // 2)), dtype=np.int32)
            larger[:, :slots] = self._rows
            self._rows = larger
