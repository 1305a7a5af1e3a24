"""Rows that rules share, on the way to the window stage: one row for all rules that have counted the same events.

The match stage counts once what rules of one bucketing and value field select together, and writes one row for each
group and pane, with the list of its rules. The window stage reads it as a row of each of them, as it always had them.
So nothing in keys changes: what is judged where still depends on the rule and the group alone (`records.partition_of`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from services.evaluator.core.distinct_integers import distinct_integers
from services.evaluator.core.match.events import Ints
from services.evaluator.core.match.outputs import are_judged_in, group_checksums, moved_prefixes
from services.evaluator.core.partial_rows import PartialBatch, Sharers
from services.evaluator.core.rules import SelectionKey

# How many numbers have two bytes.
_SHORT = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Lists:
    """The lists of selections that share rows, in arrays; do not write into them."""

    # Each selection once, and the rule of each.
    keys: Sequence[SelectionKey]
    rule_ids: tuple[str, ...]
    # Of each list how many selections it has, and its place among those with as many.
    sizes: Ints
    places: Ints
    # By the size of lists, the lists with so many selections: a row each, of indexes of `keys`.
    members: Mapping[int, Ints]


# What shares rows stays the same for many flushes.
@lru_cache(maxsize=64)
def _lists(selections: tuple[Sharers, ...]) -> _Lists:
    numbers: dict[SelectionKey, int] = {}
    members: dict[int, list[list[int]]] = {}
    places: list[int] = []
    for sharers in selections:
        of_size = members.setdefault(len(sharers), [])
        places.append(len(of_size))
        of_size.append([numbers.setdefault(key, len(numbers)) for key in sharers])
    return _Lists(
        keys=list(numbers),
        rule_ids=tuple(rule_id for rule_id, _ in numbers),
        sizes=np.array([*map(len, selections)], dtype=np.int64),
        places=np.array(places, dtype=np.int64),
        members={size: np.array(listed, dtype=np.int64) for size, listed in members.items()},
    )


def expand(batch: PartialBatch) -> PartialBatch:
    """Return a batch with a row for each of the rules that share one, of which this output partition judges the group.

    A row that is shared with nobody stays as it is: the writer has sent it where it is needed.
    """
    if not len(batch.rows) or all(len(sharers) == 1 for sharers in batch.rows.selections):
        return batch
    lists = _lists(tuple(batch.rows.selections))
    row, key = _pairs(batch, lists)
    sizes = np.bincount(batch.block_of_row[row], minlength=len(batch.blocks)).tolist()
    return replace(
        batch,
        blocks=[replace(part, rows=size) for part, size in zip(batch.blocks, sizes, strict=True)],
        rows=replace(batch.rows.take(row), selection=key, selections=[(key,) for key in lists.keys]),
    )


def _pairs(batch: PartialBatch, lists: _Lists) -> tuple[Ints, Ints]:
    """Return the pairs of a row and of one of its selections that count here, in the order of the rows."""
    selection, group = batch.rows.selection, batch.rows.group
    sums, lengths = group_checksums(batch.rows.groups)
    lengths, length = np.unique(lengths, return_inverse=True)
    prefixes = moved_prefixes(lists.rule_ids, tuple(lengths.tolist()))
    sizes = lists.sizes[selection]
    pairs: list[tuple[Ints, Ints]] = []
    for size in distinct_integers(sizes).tolist():
        rows = np.flatnonzero(sizes == size)
        members, place = lists.members[size], lists.places[selection[rows]]
        if size == 1:
            pairs.append((rows, members[place, 0]))
            continue
        of_rows = prefixes[:, members][length[group[rows]], place]
        are_judged = are_judged_in(batch.output, batch.outputs, of_rows, sums[group[rows]])
        # Faster than nonzero of two dimensions.
        row, member = np.divmod(np.flatnonzero(are_judged), size)
        pairs.append((rows[row], members[place[row], member]))
    row, key = (np.concatenate(each) for each in zip(*pairs, strict=True))
    # Short numbers are sorted by counting.
    order = np.argsort(row.astype(np.uint16) if len(batch.rows) <= _SHORT else row, kind="stable")
    return row[order], key[order]
