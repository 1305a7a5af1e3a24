"""What the two stages say to each other.

Named tuples, not frozen dataclasses: thousands a second are made and used as keys of dictionaries, where a tuple is
several times faster.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple
from zlib import crc32

from services.domain.level import Level

Group = tuple[str, ...]

MAX_SAMPLES = 3
SAMPLE_CHARACTERS = 1024


class RowKey(NamedTuple):
    """What is counted apart from everything else."""

    rule_id: str
    selection_revision: int
    group: Group
    pane_ns: int

    @property
    def is_totals(self) -> bool:
        """Whether this counts for all rules of a frame what their scope selects, not what one rule selects."""
        return self.selection_revision == _TOTALS


# Rules' own revisions begin at 1.
_TOTALS = 0


def totals_key(frame_id: str, group: Group, pane_ns: int) -> RowKey:
    """Name the totals of a frame's group."""
    return RowKey(frame_id, _TOTALS, group, pane_ns)


class Sample(NamedTuple):
    """An event that counted, as evidence. The order of the fields is the order in which samples are chosen."""

    event_ns: int
    service: str
    level: Level | None
    message: str
    status_code: int | None
    response_time: float | None
    host: str
    trace_id: str


class Tally(NamedTuple):
    """Numbers of one key over the beginning of one block."""

    counted: int = 0
    total: int = 0
    value_count: int = 0
    sum: float = 0.0
    min: float | None = None
    max: float | None = None
    last_event_ns: int | None = None
    samples: tuple[Sample, ...] = ()
    traceparent: str = ""


NOTHING = Tally()


class Row(NamedTuple):
    """A key with its numbers. Samples are left out when the writer has sent the same before."""

    key: RowKey
    tally: Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the match stage is in one block of one source partition."""

    source_partition: int
    source_partitions: int
    block: int
    up_to: int
    previous_up_to: int
    max_event_ns: int | None = None
    max_arrival_ns: int | None = None
    idle_ns: int | None = None
    # The rules that the block was matched by, from its start: totals count for those that these rules know.
    rules_revision: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialBatch:
    """What one flush says of one block to one output partition."""

    progress: Progress
    rows: tuple[Row, ...] = ()

    @property
    def is_one_cell(self) -> bool:
        """Whether all its rows are of one group and pane."""
        return len({_cell_of(row) for row in self.rows}) == 1


def halves(batch: PartialBatch) -> tuple[PartialBatch, PartialBatch]:
    """Cut a batch that is too large for one record. Only the second half tells the time: then no row comes after it.

    A group's rows stay together as far as can be: each record alone is judged, so a count must come with its total.
    """
    rows = sorted(batch.rows, key=_cell_of)
    middle = _border(rows)
    timeless = replace(batch.progress, max_event_ns=None, max_arrival_ns=None, idle_ns=None)
    first = PartialBatch(progress=timeless, rows=tuple(rows[:middle]))
    return first, PartialBatch(progress=batch.progress, rows=tuple(rows[middle:]))


def _border(rows: Sequence[Row]) -> int:
    """Give a place near the middle where another group begins; the middle when there is only one group."""
    middle = len(rows) // 2
    places = (*range(middle, len(rows)), *range(middle - 1, 0, -1))
    return next((each for each in places if _cell_of(rows[each - 1]) != _cell_of(rows[each])), middle)


def _cell_of(row: Row) -> tuple[Group, int]:
    return row.key.group, row.key.pane_ns


def group_key(rule_id: str, group: Group) -> bytes:
    """Name a rule's group; different groups never share a name."""
    return "".join(f"{len(part)}:{part}" for part in (rule_id, *group)).encode()


def partition_of(rule_id: str, group: Group, partitions: int) -> int:
    """Say which output partition a rule's group belongs to, for ever."""
    return crc32(group_key(rule_id, group)) % partitions
