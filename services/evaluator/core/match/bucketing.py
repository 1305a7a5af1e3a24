"""What rules with the same scope, grouping and window share: the bucket (block, pane, group) of each event."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from services.domain.level import Level
from services.evaluator.core.match.events import EventColumns, Ints, RowMask, codes_and_values
from services.evaluator.core.records import Group

_LEVELS = {level.value: level.name for level in Level}
_ATTRIBUTE_PREFIX = "attributes."
# Above this many possible buckets for each event, the buckets that occur are found by sorting instead of counting.
_SPARSE = 4
# How many numbers have two bytes.
_SHORT = 1 << 16
# Up to how many combinations of values a table of all of them is cheaper than sorting.
_TABLE_CELLS = 65536


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BucketedEvents:
    """The buckets that occur in a fetch, in arrays."""

    # Of each bucket: its block, its pane, its group as an index of `groups`, how many events it has, and the time of
    # the last one.
    block: Ints
    pane_ns: Ints
    group: Ints
    total: Ints
    last_event_ns: Ints
    groups: Sequence[Group]
    first_pane_ns: int
    # For each event the index of its bucket; -1 where the scope does not select it.
    bucket_of_event: Ints
    # For each event, how many before it are in its bucket.
    rank: Ints


def bucket_events(
    columns: EventColumns,
    selected: RowMask | None,
    group_by: Sequence[str],
    window_ns: int,
    *,
    times_ns: Ints,
    blocks: Ints,
) -> BucketedEvents:
    """Put each selected event (all, when None) into its bucket; `blocks` numbers the block of each event from 0."""
    rows = slice(None) if selected is None else np.flatnonzero(selected)
    groups = _groups(columns, group_by)
    panes, pane_of_row = _panes(times_ns[rows], window_ns)
    width = max(len(groups.keys), 1)
    codes = blocks[rows] * (len(panes) * width) + pane_of_row * width + groups.ids[rows]
    present, bucket_of_row, total = compact(codes)
    bucket_of_event = bucket_of_row
    rank = ranks = _ranks(bucket_of_row, total)
    if selected is not None:
        bucket_of_event, rank = np.full(len(columns), -1), np.full(len(columns), -1)
        bucket_of_event[rows], rank[rows] = bucket_of_row, ranks
    block_and_pane, group = np.divmod(present, width)
    block, pane = np.divmod(block_and_pane, len(panes))
    return BucketedEvents(
        block=block,
        pane_ns=panes[pane],
        group=group,
        total=total,
        last_event_ns=latest_of_each(bucket_of_row, times_ns[rows], len(present)),
        groups=groups.keys,
        first_pane_ns=int(panes[0]),
        bucket_of_event=bucket_of_event,
        rank=rank,
    )


def all_groups(bucketings: Sequence[BucketedEvents]) -> tuple[list[Group], Ints]:
    """Return the groups of all bucketings, and the index of each bucket's; bucketings may share a list of groups."""
    starts: dict[int, int] = {}
    groups: list[Group] = []
    for each in bucketings:
        if id(each.groups) not in starts:
            starts[id(each.groups)] = len(groups)
            groups += each.groups
    indexes = [each.group + starts[id(each.groups)] for each in bucketings]
    return groups, np.concatenate([np.empty(0, dtype=np.int64), *indexes])


def latest_of_each(buckets: Ints, times_ns: Ints, size: int) -> Ints:
    """Return the latest time of each of `size` buckets, given the bucket of each time."""
    latest = np.full(size, np.iinfo(np.int64).min)
    np.maximum.at(latest, buckets, times_ns)
    return latest


def first_of_each(buckets: Ints, wanted: Ints) -> Ints:
    """Return the positions of the first `wanted[b]` entries of each bucket b, in order."""
    candidates = np.flatnonzero(wanted[buckets] > 0)
    if not len(candidates):
        return candidates
    order = candidates[np.argsort(buckets[candidates], kind="stable")]
    sorted_buckets = buckets[order]
    starts = np.flatnonzero(np.diff(sorted_buckets, prepend=-1))
    lengths = np.diff(starts, append=len(order))
    rank = np.arange(len(order)) - np.repeat(starts, lengths)
    return np.sort(order[rank < wanted[sorted_buckets]])


def _ranks(buckets: Ints, counts: Ints) -> Ints:
    ranks = np.empty(len(buckets), dtype=np.int64)
    # Short numbers are sorted by counting.
    short = buckets.astype(np.uint16) if len(counts) <= _SHORT else buckets
    ranks[np.argsort(short, kind="stable")] = np.arange(len(buckets)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ranks


def _panes(times_ns: Ints, window_ns: int) -> tuple[Ints, Ints | int]:
    """Return the panes' starts, and for each time the index of its pane."""
    if not len(times_ns):
        return np.zeros(1, dtype=np.int64), 0
    first, last = int(times_ns.min()) // window_ns, int(times_ns.max()) // window_ns
    if first == last:
        return np.array([first * window_ns]), 0
    numbers, index = np.unique(times_ns // window_ns, return_inverse=True)
    return numbers * window_ns, index


def compact(codes: Ints) -> tuple[Ints, Ints, Ints]:
    """Return the codes that occur, for each entry the index of its code, and how often each code occurs."""
    size = int(codes.max()) + 1 if len(codes) else 0
    if size > _SPARSE * len(codes) + 1024:
        present, index, counts = np.unique(codes, return_inverse=True, return_counts=True)
        return present, index, counts
    counts = np.bincount(codes, minlength=size)
    present = np.flatnonzero(counts)
    dense = np.empty(size, dtype=np.int64)
    dense[present] = np.arange(len(present))
    return present, dense[codes], counts[present]


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """The groups that some rows fall into."""

    # The values of each group, in the order of the rule's group_by; "" where a value is absent.
    keys: list[Group]
    # For each of the rows, the index of its key.
    ids: Ints


def _groups(columns: EventColumns, group_by: Sequence[str]) -> Groups:
    """Return the groups of the events, found once for all rules that group by these fields."""
    groups: Groups = columns.cached(("groups", *group_by), lambda: group_events(columns, group_by))
    return groups


def group_events(columns: EventColumns, group_by: Sequence[str]) -> Groups:
    """Group events by these fields; one group of all when there are no fields, none when there are no events."""
    encoded = [_encoded(columns, name) for name in group_by]
    if len(encoded) == 1:
        ((codes, labels),) = encoded
        return Groups([(label,) for label in labels], codes)
    ids, firsts = np.zeros(len(columns), dtype=np.int64), np.zeros(min(len(columns), 1), dtype=np.int64)
    for codes, labels in encoded:
        ids, firsts = _renumber(ids * len(labels) + codes, len(firsts) * len(labels))
    values = [[labels[code] for code in codes[firsts].tolist()] for codes, labels in encoded]
    return Groups(list(zip(*values, strict=True)) if values else [()] * len(firsts), ids)


def _encoded(columns: EventColumns, name: str) -> tuple[Ints, list[str]]:
    """Return a field as codes of its distinct values, and these values as people read them."""
    encoded: tuple[Ints, list[str]] = columns.cached(("encoded", name), lambda: _encode(columns, name))
    return encoded


def _encode(columns: EventColumns, name: str) -> tuple[Ints, list[str]]:
    if name.startswith(_ATTRIBUTE_PREFIX):
        field, attribute = "attributes", name.removeprefix(_ATTRIBUTE_PREFIX)
        column = columns.attribute(attribute)
    else:
        field, attribute, column = name, None, columns.column(name)
    if pa.types.is_string(column.type) and column.null_count:
        # An absent string and an empty one are the same group, so they must have the same code.
        codes, values = codes_and_values(column.fill_null(""))
    else:
        codes, values = columns.distinct(field, attribute)
    return codes, [_label(name, value) for value in values.to_pylist()]


def _label(name: str, value: str | int | None) -> str:
    if value is None:
        return ""
    return _LEVELS.get(value, str(value)) if name == "level" and isinstance(value, int) else str(value)


def _renumber(codes: Ints, size: int) -> tuple[Ints, Ints]:
    """Return the codes, all below `size`, as numbers without gaps, and for each number where it occurs first."""
    if size > max(_TABLE_CELLS, len(codes)):
        _, firsts, ids = np.unique(codes, return_index=True, return_inverse=True)
        return ids.astype(np.int64), firsts.astype(np.int64)
    table = np.full(size, -1, dtype=np.int64)
    # Backwards, so that the first place remains.
    table[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    used = np.flatnonzero(table >= 0)
    firsts = table[used]
    table[used] = np.arange(len(used))
    return table[codes], firsts
