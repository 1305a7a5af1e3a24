"""What the two stages exchange: partial aggregates on the way in, transitions on the way out.

Moments are integer nanoseconds since the Unix epoch, named `…_ns`: columns carry them as 64-bit integers, and panes are
found by integer division. A datetime for each would cost more than all other work and lose the nanoseconds.

What is made thousands of times a second, or is a key of dictionaries, is a named tuple: it is several times faster than
a frozen dataclass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import NamedTuple
from zlib import crc32

from services.domain.level import Level
from services.domain.severity import Severity

SECOND_NS = 1_000_000_000
# Far enough from the borders of 64 bits that adding any window or lateness stays within them.
EARLIEST_NS = -(2**62)
LATEST_NS = 2**62

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def span_ns(span: timedelta) -> int:
    """Give a span in nanoseconds, exactly."""
    return span // timedelta(microseconds=1) * 1000


def moment_ns(moment: datetime) -> int:
    """Give a moment in nanoseconds, exactly."""
    return span_ns(moment - _EPOCH)


def start_of(moment_ns: int, length_ns: int) -> int:
    """Give the start of the window that contains a moment; windows are aligned to the epoch."""
    return moment_ns // length_ns * length_ns


BLOCK_RECORDS = 256


def block_of(offset: int) -> int:
    """Give the number of the block that an offset belongs to."""
    return offset // BLOCK_RECORDS


def first_offset(block: int) -> int:
    """Give its first offset."""
    return block * BLOCK_RECORDS


def end_offset(block: int) -> int:
    """Give the first offset after it."""
    return (block + 1) * BLOCK_RECORDS


def later(one: int | None, other: int | None) -> int | None:
    """Give the later of two moments, either of which may be unknown."""
    return max((moment for moment in (one, other) if moment is not None), default=None)


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


class State(Enum):
    """Where a group went; the values are those of the contract."""

    FIRING = 1
    RESOLVED = 2


class Reason(Enum):
    """Why it went there."""

    CONDITION_MET = "condition_met"
    CONDITION_ENDED = "condition_ended"
    # Nothing of the group was selected any more.
    SILENT = "silent"
    RULE_ENDED = "rule_ended"
    # The rule was edited while the alert is open: it says so in the rule's new words.
    RULE_EDITED = "rule_edited"
    # Known from the state topic only.
    RESTORED = "restored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What a rule saw in one window of one group."""

    start_ns: int
    end_ns: int
    count: int
    total: int
    sum: float
    avg: float | None
    min: float | None
    max: float | None
    condition: str
    threshold: float
    last_event_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A step of a group. Its id is a function of what was decided, so deciding again gives the same step."""

    id: str
    state: State
    reason: Reason
    rule_id: str
    selection_revision: int
    rule_revision: int
    rule_name: str
    description: str
    severity: Severity
    resource: str
    group: Group
    group_fields: Mapping[str, str]
    labels: Mapping[str, str]
    fingerprint: str
    window: Window
    first_window_ns: int
    samples: tuple[Sample, ...]
    created_ns: int
    # The trace that it belongs to; not part of what was decided.
    traceparent: str = ""

    @property
    def rank(self) -> tuple[int, int, int, int]:
        """Orders the transitions of a rule's group by how far they are."""
        return self.selection_revision, self.window.start_ns, self.state.value, self.rule_revision
