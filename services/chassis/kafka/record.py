"""What producer and consumer exchange with a service: records, offsets, rebalances, batches in flight."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Headers = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Record:
    """A record; `topic` is the logical name, `timestamp_ms` Kafka's own."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: Headers
    timestamp_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedOffset:
    """The offset from which a partition is read after a restart, and the metadata that was committed with it."""

    partition: int
    offset: int
    metadata: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebalance:
    """Which partitions were revoked since the last fetch, and which were assigned after that."""

    revoked: tuple[int, ...] = ()
    assigned: tuple[CommittedOffset, ...] = ()


def record_of(message: Any, topic: str) -> Record:
    """Return a client's message as a record; without a value it has an empty one."""
    return Record(
        topic,
        message.partition(),
        message.offset(),
        message.key(),
        message.value() or b"",
        message.headers() or (),
        message.timestamp()[1],
    )


class InFlightBatch:
    """A batch between being fetched and being committed."""

    def __init__(self, offsets: Mapping[int, int]) -> None:
        """Be committed with these offsets, one for each of its partitions."""
        self.offsets = offsets
        self.over = threading.Event()
        self.is_handled = False
        # On the client's thread, and on the event loop.
        self.is_revoked = self.is_abandoned = False
        self._cancel: Callable[[], object] | None = None

    def on_abandoned(self, cancel: Callable[[], object]) -> None:
        """Call `cancel` on the event loop if the partitions are revoked before the batch is handled."""
        self._cancel = cancel

    def abandon(self) -> None:
        """Stop handling the batch."""
        if not self.over.is_set():
            self.is_abandoned = True
            if self._cancel is not None:
                self._cancel()
