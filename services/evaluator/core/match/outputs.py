"""To which output partitions rows go, for many rows at once: what `records.partition_of` says of each.

The checksum of two texts, one after the other, is that of the second, exclusive-or that of the first moved on by the
length of the second. Moving on is linear: it takes four look-ups for each bit of the length.
"""

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import TypeAlias
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from services.evaluator.core.distinct_integers import distinct_integers
from services.evaluator.core.match.events import Ints, RowMask
from services.evaluator.core.records import Group, group_key

Checksums: TypeAlias = NDArray[np.uint32]

_SHIFTS = (0, 8, 16, 24)
# In place of the length of a group whose checksum was not needed so far.
_UNKNOWN = -1


class RowOutputs:
    """The output partitions of the rows of a block, by slot; each is found once, before it is sent. Changed in place.

    After a restart most rows of a block may never be sent.
    """

    def __init__(self) -> None:
        self._is_routed = np.zeros(0, dtype=np.bool_)
        self._slots = self._outputs = self._sums = self._sizes = np.zeros(0, dtype=np.int64)

    def unknown(self, slots: Ints) -> Ints:
        """Return those of these slots whose output partitions are not known."""
        lacking = int(slots.max(initial=-1)) + 1 - len(self._is_routed)
        if lacking > 0:
            self._is_routed = np.append(self._is_routed, np.zeros(lacking, dtype=np.bool_))
        return slots[~self._is_routed[slots]]

    def add(
        self,
        slots: Ints,
        readers: Sequence[Sequence[str]],
        selection: Ints,
        groups: Sequence[Group],
        group: Ints,
        outputs: int,
    ) -> None:
        """Add unknown rows: of each an index of `readers`, the rules that judge its group, and one of `groups`."""
        self._add_checksums(groups, group)
        rows, found = np.nonzero(_outputs(readers, selection, self._sums[group], self._sizes[group], outputs))
        self._slots = np.append(self._slots, slots[rows])
        self._outputs = np.append(self._outputs, found)
        self._is_routed[slots] = True

    def forget(self, slots: Ints) -> None:
        """Forget where rows go, because other rules read them from now on; they are unknown again."""
        self._is_routed[slots[slots < len(self._is_routed)]] = False
        kept = self._is_routed[self._slots]
        self._slots, self._outputs = self._slots[kept], self._outputs[kept]

    def to_send(self, has_changed: RowMask) -> tuple[Ints, Ints]:
        """Return the slots of the rows that have changed, a slot for each output partition that its row goes to."""
        routes = np.flatnonzero(has_changed[self._slots])
        return self._slots[routes], self._outputs[routes]

    def _add_checksums(self, groups: Sequence[Group], group: Ints) -> None:
        more = len(groups) - len(self._sums)
        self._sums = np.append(self._sums, np.zeros(more, dtype=np.int64))
        self._sizes = np.append(self._sizes, np.full(more, _UNKNOWN))
        unknown = distinct_integers(group[self._sizes[group] == _UNKNOWN])
        self._sums[unknown], self._sizes[unknown] = group_checksums([groups[each] for each in unknown.tolist()])


def group_checksums(groups: Sequence[Group]) -> tuple[Ints, Ints]:
    """Return of each group the checksum and the length of its part of a key."""
    sums_and_sizes = np.array([*map(_group_checksum, groups)], dtype=np.int64).reshape(-1, 2)
    return sums_and_sizes[:, 0], sums_and_sizes[:, 1]


# The same groups come with each flush.
@lru_cache(maxsize=1 << 14)
def _group_checksum(group: Group) -> tuple[int, int]:
    key = group_key(group[0], group[1:]) if group else b""
    return crc32(key), len(key)


def outputs_of(rule_id: str, sums: Ints, sizes: Ints, outputs: int) -> Ints:
    """Return the output partition of each group of a rule, given by its checksum and length."""
    prefixes = np.full(len(sums), crc32(group_key(rule_id, ())), dtype=np.int64)
    return (_move_on(prefixes, sizes) ^ sums) % outputs


def are_judged_in(output: int, outputs: int, prefixes: Checksums, sums: Ints) -> RowMask:
    """Return whether an output partition judges groups of rules: a row for each group, with as many rules.

    Given are the checksums of the groups, and for each those of its rules, moved on by its length.
    """
    # Checksums have 32 bits; half as wide they are twice as fast.
    keys = prefixes ^ sums.astype(np.uint32)[:, None]
    keys %= np.uint32(outputs)
    are_judged: RowMask = keys == np.uint32(output)
    return are_judged


@lru_cache(maxsize=256)
def moved_prefixes(rule_ids: tuple[str, ...], sizes: tuple[int, ...]) -> Checksums:
    """Return for each of these sizes the checksum of each rule's prefix, moved on by it. Do not write into it."""
    prefixes = np.array([crc32(group_key(rule_id, ())) for rule_id in rule_ids], dtype=np.int64)
    moved = _move_on(np.tile(prefixes, len(sizes)), np.repeat(np.array(sizes, dtype=np.int64), len(rule_ids)))
    return moved.astype(np.uint32).reshape(len(sizes), len(rule_ids))


def _outputs(readers: Sequence[Sequence[str]], selection: Ints, sums: Ints, sizes: Ints, outputs: int) -> RowMask:
    """Mark for each row the output partitions in which one of its readers judges its group."""
    goes_to = np.zeros((len(selection), outputs), dtype=np.bool_)
    counts = np.array([len(names) for names in readers], dtype=np.int64)
    asked = 0
    # One reader of each selection after the other, until a row goes everywhere.
    while len(rows := np.flatnonzero((counts[selection] > asked) & ~goes_to.all(axis=1))):
        prefixes = np.zeros(len(readers), dtype=np.int64)
        for index in distinct_integers(selection[rows]).tolist():
            prefixes[index] = crc32(group_key(readers[index][asked], ()))
        moved = _move_on(prefixes[selection[rows]], sizes[rows])
        goes_to[rows, (moved ^ sums[rows]) % outputs] = True
        asked += 1
    return goes_to


def _move_on(sums: Ints, sizes: Ints) -> Ints:
    """Return checksums moved on by so many bytes."""
    moved = sums.copy()
    for bit in range(int(sizes.max(initial=0)).bit_length()):
        chosen = np.flatnonzero(sizes >> bit & 1)
        rest = moved[chosen]
        parts = [table[rest >> shift & 0xFF] for table, shift in zip(_tables(bit), _SHIFTS, strict=True)]
        moved[chosen] = np.bitwise_xor.reduce(parts)
    return moved


@cache
def _tables(bit: int) -> tuple[Ints, ...]:
    """Return what moving on by 2^bit bytes makes of each value of each byte of a checksum."""
    zeros = bytes(1 << bit)
    none = crc32(zeros)
    return tuple(np.array([crc32(zeros, value << shift) ^ none for value in range(256)]) for shift in _SHIFTS)
