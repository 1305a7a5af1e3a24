"""Slots: each key has one for ever, whatever comes with it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.evaluator.core.match.slots import SlotIndex, codes_of

numbers = st.integers(0, 3) | st.integers(0, 2**31 - 1)


@given(st.lists(st.lists(st.tuples(numbers, numbers), max_size=6), max_size=5))
def test_a_pair_keeps_its_slot(given: list[list[tuple[int, int]]]) -> None:
    index = SlotIndex()
    slot_of: dict[tuple[int, int], int] = {}
    for pairs in given:
        firsts, seconds = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        slots = index.slots_of(firsts, seconds)
        for pair, slot in zip(pairs, slots.tolist(), strict=True):
            assert slot_of.setdefault(pair, slot) == slot
        assert list(zip(*(each.tolist() for each in index.pairs(slots)), strict=True)) == pairs
    assert sorted(slot_of.values()) == list(range(len(index)))


def test_only_values_that_are_used_get_a_code() -> None:
    codes = {"a": 0}
    assert codes_of(["b", "c", "a"], np.array([2, 1, 1]), codes).tolist() == [0, 1, 1]
    assert codes == {"a": 0, "c": 1}


def test_all_pairs_that_begin_alike_are_found() -> None:
    index = SlotIndex()
    index.slots_of(np.array([2, 1, 2, 3]), np.array([7, 0, 5, 2**31]))
    assert [sorted(index.pairs(index.slots_with(first))[1].tolist()) for first in range(5)] == [
        [],
        [0],
        [5, 7],
        [2**31],
        [],
    ]
