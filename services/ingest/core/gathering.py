"""When single events that wait together go to Kafka as one record."""

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum


class Step(Enum):
    """What to do with one more event."""

    WAIT = "wait"
    """Add it; it goes when the first that waits has waited long enough."""
    SEND = "send"
    """Add it, and send all at once: the record is full."""
    MAKE_ROOM = "make room"
    """Send those that wait, then ask again: with this one the record would be too large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathering:
    """How long the first event waits for others, and how many events and bytes go together."""

    wait: timedelta
    max_events: int
    max_bytes: int

    def __post_init__(self) -> None:
        """Refuse a policy that can never send."""
        if self.max_events < 1 or self.max_bytes < 1:
            raise ValueError(f"at least one event and byte, got {self.max_events} and {self.max_bytes}")

    def step(self, *, events: int, size: int, incoming: int) -> Step:
        """Decide on an event of `incoming` bytes while `events` of `size` bytes together wait."""
        if events and size + incoming > self.max_bytes:
            return Step.MAKE_ROOM
        if events + 1 >= self.max_events or not self.wait:
            return Step.SEND
        return Step.WAIT
