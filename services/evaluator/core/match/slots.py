"""Slots: numbers from 0 for keys, in the order in which keys came, found for whole arrays at once."""

from collections.abc import Hashable, Sequence
from typing import TypeVar

import numpy as np

from services.evaluator.core.distinct_integers import distinct_integers
from services.evaluator.core.match.events import Ints

_Value = TypeVar("_Value", bound=Hashable)

_LOW = (1 << 32) - 1


class SlotIndex:
    """The slots of pairs of numbers below 2^31. Changed in place.

    Known pairs cost a binary search each, without a Python object.
    """

    def __init__(self) -> None:
        # In the order of slots.
        self._keys: Ints = np.zeros(0, dtype=np.int64)
        # In the order of keys, with a last entry that no key reaches, so that each search ends at an entry.
        self._sorted_keys: Ints = np.array([np.iinfo(np.int64).max])
        self._sorted_slots: Ints = np.array([-1])

    def __len__(self) -> int:
        return len(self._keys)

    def slots_of(self, firsts: Ints, seconds: Ints) -> Ints:
        """Return the slot of each pair; new pairs get the next slots."""
        keys = (firsts << 32) | seconds
        places = np.searchsorted(self._sorted_keys, keys)
        is_new = self._sorted_keys[places] != keys
        if is_new.any():
            self._add(distinct_integers(keys[is_new]))
            places = np.searchsorted(self._sorted_keys, keys)
        return self._sorted_slots[places]

    def slots_with(self, first: int) -> Ints:
        """Return the slots of all pairs that begin with this number."""
        begin, end = np.searchsorted(self._sorted_keys, [first << 32, (first + 1) << 32]).tolist()
        return self._sorted_slots[begin:end]

    def pairs(self, slots: Ints) -> tuple[Ints, Ints]:
        """Return the pair of each slot."""
        keys = self._keys[slots]
        return keys >> 32, keys & _LOW

    def _add(self, keys: Ints) -> None:
        places = np.searchsorted(self._sorted_keys, keys)
        self._sorted_keys = np.insert(self._sorted_keys, places, keys)
        self._sorted_slots = np.insert(self._sorted_slots, places, np.arange(len(self), len(self) + len(keys)))
        self._keys = np.concatenate([self._keys, keys])


def codes_of(values: Sequence[_Value], indexes: Ints, codes: dict[_Value, int]) -> Ints:
    """Return the code of each value that these indexes point to; values that have none get the next ones."""
    used = np.zeros(len(values), dtype=np.bool_)
    used[indexes] = True
    of_value = np.zeros(len(values), dtype=np.int64)
    present = np.flatnonzero(used)
    chosen = values if len(present) == len(values) else [values[index] for index in present.tolist()]
    # Nearly all are known, and this way they cost half.
    known = [*map(codes.get, chosen)]
    if None in known:
        known = [codes.setdefault(value, len(codes)) for value in chosen]
    of_value[present] = np.array(known, dtype=np.int64)
    return of_value[indexes]
