"""How events share the records of a topic: when single events are flushed, and where a batch is cut into records."""

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any

import numpy as np
import pyarrow as pa

from services.ingest.core.columns import Columns, Numbers, offsets_of, sizes_of

_STRINGS = ("record_id", "service", "message", "host", "trace_id")
# What an event takes besides the bytes of its strings: numbers, offsets and bits of validity.
_EVENT_BYTES = 50
# The offsets of an attribute's key and value.
_ENTRY_BYTES = 8
# A flush costs about as much for five events as for thirty. So while flushes are frequent, the next one waits for so
# many times the CPU that the last one took: then they take no more than a quarter of a core.
_PAUSE_PER_CPU = 3
_MAX_PAUSE_S = 0.015


class BatchStep(Enum):
    """What to do with one more event."""

    WAIT = "wait"
    """Add it; it is flushed when the first event that waits has lingered long enough."""
    FLUSH = "flush"
    """Add it, and flush: the batch is full."""
    FLUSH_BEFORE = "flush before"
    """Flush, then ask again: with this event the record would be too large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPolicy:
    """How long the first event waits for others, and how many events and bytes share a record."""

    linger: timedelta
    max_events: int
    max_bytes: int

    def __post_init__(self) -> None:
        """Refuse a policy that can never flush."""
        if self.max_events < 1 or self.max_bytes < 1:
            raise ValueError(f"at least one event and byte, got {self.max_events} and {self.max_bytes}")

    def step(self, *, events: int, size: int, added_size: int) -> BatchStep:
        """Decide on one more event of `added_size` bytes while `events` of `size` bytes together wait."""
        if events and size + added_size > self.max_bytes:
            return BatchStep.FLUSH_BEFORE
        if events + 1 >= self.max_events or not self.linger:
            return BatchStep.FLUSH
        return BatchStep.WAIT

    def linger_seconds(self, *, flush_cpu_s: float, since_flush_s: float) -> float:
        """Return how long the first event waits for others: the linger, or longer soon after a costly flush.

        `flush_cpu_s` is the CPU that the last flush took, `since_flush_s` the time since its end, both in seconds.
        """
        return max(self.linger.total_seconds(), min(_PAUSE_PER_CPU * flush_cpu_s, _MAX_PAUSE_S) - since_flush_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinPolicy:
    """How long calls with many events wait for others while a record is on its way, and how large they get."""

    linger: timedelta
    max_bytes: int

    def __post_init__(self) -> None:
        """Refuse a policy that can never flush."""
        if self.max_bytes < 1:
            raise ValueError(f"at least one byte, got {self.max_bytes}")

    def step(self, *, size: int, added_size: int, in_flight: int) -> BatchStep:
        """Decide on one more call of `added_size` bytes while others of `size` bytes together wait.

        A call waits only while one of `in_flight` records is on its way: who calls alone is never delayed.
        """
        if size and size + added_size > self.max_bytes:
            return BatchStep.FLUSH_BEFORE
        if not in_flight or not self.linger or size + added_size >= self.max_bytes:
            return BatchStep.FLUSH
        return BatchStep.WAIT

    def linger_seconds(self, **_since: float) -> float:
        """Return how long the first call waits at most: the linger, however costly the last flush was."""
        return self.linger.total_seconds()


def event_sizes(events: Columns) -> Numbers:
    """Return the bytes of each event in a stream of columns, before compression."""
    attributes: Any = events.column("attributes")
    entries = sizes_of(attributes.keys) + sizes_of(attributes.items) + _ENTRY_BYTES
    ends = np.concatenate([[0], np.cumsum(entries, dtype=np.int64)])
    offsets = offsets_of(attributes)
    sizes: Numbers = ends[offsets[1:]] - ends[offsets[:-1]] + _EVENT_BYTES
    for name in _STRINGS:
        sizes += sizes_of(events.column(name))
    return sizes


def is_within(events: Columns, max_bytes: int) -> bool:
    """Return whether all events together are no more bytes than that."""
    # Looking at each column's memory takes ten times as long as asking for the stream's size, which is a little larger.
    return pa.ipc.get_record_batch_size(events) <= max_bytes or events.nbytes <= max_bytes


def record_cuts(events: Columns, max_bytes: int) -> list[int]:
    """Return where each record begins and where the last one ends; an event that is larger than a record stands alone.

    What describes the columns, some three kilobytes a record, is not counted.
    """
    if events.num_rows and is_within(events, max_bytes):
        return [0, events.num_rows]
    ends = np.cumsum(event_sizes(events))
    cuts = [0]
    while cuts[-1] < len(ends):
        begin = cuts[-1]
        before = int(ends[begin - 1]) if begin else 0
        fitting = int(np.searchsorted(ends, before + max_bytes, side="right"))
        cuts.append(max(fitting, begin + 1))
    return cuts
