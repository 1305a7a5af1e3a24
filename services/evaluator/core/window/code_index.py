"""A hash table from 64-bit codes to slots, in arrays: thousands of look-ups are a few operations on columns."""

from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from services.evaluator.core.distinct_integers import distinct_integers
from services.evaluator.core.match.events import Ints

# In place of a slot where a code has none. What is kept by slot has an empty entry there.
NO_SLOT: Final = 0
# No code is negative.
_NO_CODE = -1
# The golden ratio as a fraction of 2**64: neighbouring codes are spread over the whole table.
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_MIN_BITS = 8

_Entry = TypeVar("_Entry", bound=np.generic)


def grown(array: NDArray[_Entry], size: int, empty: float) -> NDArray[_Entry]:
    """Return an array of at least this size, with what is in `array` and `empty` behind it."""
    if size <= len(array):
        return array
    larger = np.full(max(size, len(array) + len(array) // 2), empty, dtype=array.dtype)
    larger[: len(array)] = array
    return larger


class CodeIndex:
    """Gives each code a slot: 1, 2, and so on. Changed in place."""

    def __init__(self, codes: Ints | None = None) -> None:
        """Begin with distinct codes, in the order of their slots."""
        self._codes = np.full(64, _NO_CODE, dtype=np.int64)
        self._size = 1
        self._table = np.zeros(0, dtype=np.int32)
        self._resize(_MIN_BITS)
        if codes is not None:
            self._append(codes)

    def __len__(self) -> int:
        """Return the number of slots, NO_SLOT included."""
        return self._size

    @property
    def codes(self) -> Ints:
        """The code of each slot."""
        return self._codes[: self._size]

    def find(self, codes: Ints) -> Ints:
        """Return the slot of each code; NO_SLOT where it has none."""
        places = self._first_places(codes)
        slots = self._table[places].astype(np.int64)
        wrong = np.flatnonzero((slots != NO_SLOT) & (self._codes[slots] != codes))
        while len(wrong):
            places[wrong] = (places[wrong] + 1) & self._mask
            further = self._table[places[wrong]]
            slots[wrong] = further
            wrong = wrong[(further != NO_SLOT) & (self._codes[further] != codes[wrong])]
        return slots

    def find_or_add(self, codes: Ints) -> Ints:
        """Return the slot of each code, a new one where it has none."""
        slots = self.find(codes)
        missing = np.flatnonzero(slots == NO_SLOT)
        if len(missing):
            self._append(distinct_integers(codes[missing]))
            slots[missing] = self.find(codes[missing])
        return slots

    def _append(self, codes: Ints) -> None:
        first, self._size = self._size, self._size + len(codes)
        self._codes = grown(self._codes, self._size, _NO_CODE)
        self._codes[first : self._size] = codes
        # At most half full: then a search ends after a place or two.
        if 2 * self._size > len(self._table):
            self._resize((2 * self._size).bit_length())
            first = 1
        self._enter(np.arange(first, self._size))

    def _resize(self, bits: int) -> None:
        self._table = np.zeros(1 << bits, dtype=np.int32)
        self._mask = (1 << bits) - 1
        self._shift = np.uint64(64 - bits)

    def _first_places(self, codes: Ints) -> Ints:
        return ((codes.view(np.uint64) * _SPREAD) >> self._shift).view(np.int64)

    def _enter(self, slots: Ints) -> None:
        """Enter slots into the table, each at the first free place from its own on."""
        places = self._first_places(self._codes[slots])
        while len(slots):
            free = self._table[places] == NO_SLOT
            # Where several meet, the last one stays; the others go on.
            self._table[places[free]] = slots[free]
            left = self._table[places] != slots
            slots, places = slots[left], (places[left] + 1) & self._mask
