"""The hash table of codes: it finds what was added, and nothing else."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.evaluator.core.window.code_index import NO_SLOT, CodeIndex

codes = st.integers(0, 2**62) | st.integers(0, 40)


@given(st.lists(st.lists(codes, max_size=30), max_size=5), st.lists(codes, max_size=5))
def test_each_code_has_one_slot_for_ever(added: list[list[int]], others: list[int]) -> None:
    index, slots = CodeIndex(), dict[int, int]()
    for part in added:
        found = index.find_or_add(np.array(part, dtype=np.int64)).tolist()
        for code, slot in zip(part, found, strict=True):
            assert slots.setdefault(code, slot) == slot
    assert sorted(slots.values()) == list(range(1, len(index)))
    assert index.find(np.array(others, dtype=np.int64)).tolist() == [slots.get(code, NO_SLOT) for code in others]
    assert [slots[code] for code in index.codes[1:].tolist()] == list(range(1, len(index)))


def test_many_codes_are_found_after_the_table_has_grown() -> None:
    many = np.arange(0, 50_000, 7) << 32
    index = CodeIndex(many[:10])
    assert index.find(many[:10]).tolist() == list(range(1, 11))
    index.find_or_add(many)
    assert len(set(index.find(many).tolist())) == len(many)
    assert not index.find(many + 1).any()
