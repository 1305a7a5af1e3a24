"""A batch in hand, between being fetched and being committed."""

import threading
from collections.abc import Callable, Sequence

from services.chassis.kafka.record import Record


class Hold:
    """A batch in hand, and the offsets to commit once it is done."""

    def __init__(self, batch: Sequence[Record], generation: int) -> None:
        self.offsets: dict[int, int] = {}
        for record in batch:
            self.offsets[record.partition] = record.offset + 1
        self.generation = generation
        self.is_done = False
        self.is_abandoned = False
        self.over = threading.Event()
        self._abandon: Callable[[], object] | None = None

    def on_abandoned(self, act: Callable[[], object]) -> None:
        """Call `act` on the event loop when the partitions go to someone else before the batch is done."""
        self._abandon = act

    def abandon(self) -> None:
        """Give the batch up."""
        if not self.over.is_set():
            self.is_abandoned = True
            if self._abandon is not None:
                self._abandon()

    def mark_done(self) -> None:
        """Say that every record was handled."""
        self.is_done = not self.is_abandoned
