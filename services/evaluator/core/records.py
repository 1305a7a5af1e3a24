"""What the two stages exchange: partial aggregates on the way in, transitions on the way out.

Moments are integer nanoseconds since the Unix epoch, named `…_ns`: columns carry them as 64-bit integers, and panes are
found by integer division. A datetime for each would cost more than all other work and lose the nanoseconds.

What is made thousands of times a second, or is a key of dictionaries, is a named tuple: it is several times faster than
a frozen dataclass.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import NamedTuple
from zlib import crc32

from services.domain.level import Level
from services.domain.severity import Severity
from services.domain.tenants import SOLE_TENANT

Group = tuple[str, ...]

MILLISECOND_NS = 1_000_000
SECOND_NS = 1_000_000_000
# Far enough from the borders of 64 bits that adding any window or lateness stays within them.
EARLIEST_NS = -(2**62)
LATEST_NS = 2**62

# Offsets of a source partition in one block.
BLOCK_RECORDS = 256
MAX_SAMPLES = 3
MAX_SAMPLE_CHARACTERS = 1024
# How many attributes a sample keeps, how much of each value, and how much of all keys and values.
MAX_SAMPLE_ATTRIBUTES = 16
MAX_SAMPLE_VALUE_CHARACTERS = 256
MAX_SAMPLE_ATTRIBUTE_CHARACTERS = 2048

# In place of a rule's selection revision, in keys of totals; revisions of rules begin at 1.
_TOTALS = 0
# In place of a bucketing's id, in keys of events that may come too late. It is part of keys in `window-partials`.
_CLOSING = "closing"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def duration_ns(span: timedelta) -> int:
    """Return a duration in nanoseconds, exactly."""
    return span // timedelta(microseconds=1) * 1000


def moment_ns(moment: datetime) -> int:
    """Return a moment in nanoseconds, exactly."""
    return duration_ns(moment - _EPOCH)


def window_start(moment_ns: int, length_ns: int) -> int:
    """Return the start of the window that contains a moment; windows are aligned to the epoch."""
    return moment_ns // length_ns * length_ns


def later(one: int | None, other: int | None) -> int | None:
    """Return the later of two moments, either of which may be unknown."""
    return max((moment for moment in (one, other) if moment is not None), default=None)


def block_of(offset: int) -> int:
    """Return the number of the block that an offset belongs to."""
    return offset // BLOCK_RECORDS


def first_offset(block: int) -> int:
    """Return the first offset of a block."""
    return block * BLOCK_RECORDS


def end_offset(block: int) -> int:
    """Return the first offset after a block."""
    return (block + 1) * BLOCK_RECORDS


class RowKey(NamedTuple):
    """What one row counts: a selection of a rule (or the scope of a bucketing), in one group and pane."""

    rule_id: str
    selection_revision: int
    group: Group
    pane_ns: int

    @property
    def selection(self) -> tuple[str, int]:
        """What is counted, wherever it is."""
        return self.rule_id, self.selection_revision

    @property
    def is_closing(self) -> bool:
        """Whether the row counts the events of which some rule's window closes at its time, each event once."""
        return self.rule_id == _CLOSING and self.is_totals

    @property
    def is_totals(self) -> bool:
        """Whether the row counts what the scope of a bucketing selects, for all its rules, not what a rule selects."""
        return self.selection_revision == _TOTALS


def totals_key(bucketing_id: str, group: Group, pane_ns: int) -> RowKey:
    """Return the key of the totals of a bucketing's group."""
    return RowKey(bucketing_id, _TOTALS, group, pane_ns)


def closing_key(closes_ns: int, tenant: str = SOLE_TENANT) -> RowKey:
    """Return the key of a tenant's events that are late for some rule once the watermark has reached this moment."""
    return totals_key(_CLOSING, () if tenant == SOLE_TENANT else (tenant,), closes_ns)


class Sample(NamedTuple):
    """An event that a rule selected, as evidence. Samples are chosen in the order of these fields."""

    event_ns: int
    service: str
    level: Level | None
    message: str
    status_code: int | None
    response_time: float | None
    host: str
    # The event's own; empty when it has none.
    trace_id: str
    # Keys and values in the order of the keys.
    attributes: tuple[tuple[str, str], ...] = ()


class Aggregate(NamedTuple):
    """Partial aggregate of one key, cumulative from the start of one block."""

    # Events that the rule's filter selected, and events that its scope selected.
    counted: int = 0
    total: int = 0
    value_count: int = 0
    sum: float = 0.0
    min: float | None = None
    max: float | None = None
    last_event_ns: int | None = None
    samples: tuple[Sample, ...] = ()
    traceparent: str = ""


EMPTY_AGGREGATE = Aggregate()


class Row(NamedTuple):
    """A key with its aggregate. Samples are left out when the writer has sent the same ones before."""

    key: RowKey
    aggregate: Aggregate


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockProgress:
    """How far the match stage is in one block of one source partition."""

    source_partition: int
    source_partitions: int
    block: int
    up_to: int
    previous_up_to: int
    max_event_ns: int | None = None
    max_arrival_ns: int | None = None
    idle_ns: int | None = None
    # The revision of the rules that matched the block from its start: totals count for the rules that it contains.
    rules_revision: int = 0


def group_key(rule_id: str, group: Group) -> bytes:
    """Return a key of a rule's group; different groups never share one. It is persisted: keep its form."""
    return "".join(f"{len(part)}:{part}" for part in (rule_id, *group)).encode()


def partition_of(rule_id: str, group: Group, partitions: int) -> int:
    """Return the output partition of a rule's group. It is persisted: the same for ever."""
    return crc32(group_key(rule_id, group)) % partitions


class TransitionState(Enum):
    """The state that a group enters; the values are those of the contract."""

    FIRING = 1
    RESOLVED = 2


class TransitionReason(Enum):
    """Why a group enters a state; log field and metric label."""

    CONDITION_MET = "condition_met"
    CONDITION_ENDED = "condition_ended"
    # The rule selected nothing of the group in the window.
    SILENT = "silent"
    RULE_ENDED = "rule_ended"
    # The rule was edited while the alert is open: the transition carries the rule's new name, labels and severity.
    RULE_EDITED = "rule_edited"
    # Read from `window-state`.
    RESTORED = "restored"


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowResult:
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
    state: TransitionState
    reason: TransitionReason
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
    window: WindowResult
    first_window_ns: int
    samples: tuple[Sample, ...]
    created_ns: int
    # Whose rule it is.
    tenant: str = SOLE_TENANT
    # The trace of the event that decided; not part of the decision.
    traceparent: str = ""

    @property
    def rank(self) -> tuple[int, int, int, int]:
        """Orders the transitions of a rule's group by how far they are."""
        return self.selection_revision, self.window.start_ns, self.state.value, self.rule_revision
