"""How events share the records of a topic: when single events are flushed, and where a batch is cut into records."""

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

import numpy as np

from services.ingest.core.columns import Numbers, Offsets

# A varint carries seven bits a byte.
_VARINT_STEPS = np.array([1 << 7, 1 << 14, 1 << 21, 1 << 28], dtype=np.int64)


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


def framed_sizes(sizes: Numbers) -> Numbers:
    """Return each event's bytes on the wire: the tag of field 1, then the length as a varint, then the event."""
    return 2 + np.searchsorted(_VARINT_STEPS, sizes, side="right") + sizes


def record_cuts(framed: Numbers, max_bytes: int) -> Offsets:
    """Return where each record begins and where the last one ends; an event that is larger than a record stands alone.

    `framed` are the sizes of the events on the wire.
    """
    ends = np.cumsum(framed)
    cuts = [0]
    while cuts[-1] < len(ends):
        begin = cuts[-1]
        before = int(ends[begin - 1]) if begin else 0
        fitting = int(np.searchsorted(ends, before + max_bytes, side="right"))
        cuts.append(max(fitting, begin + 1))
    return np.array(cuts, dtype=np.int32)
