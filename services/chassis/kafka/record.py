"""One record as it was read from a topic."""

from collections.abc import Sequence
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


def record_of(message: Any, topic: str) -> Record:
    """Take what is needed out of a client's message; a record without a value has an empty one."""
    return Record(
        topic,
        message.partition(),
        message.offset(),
        message.key(),
        message.value() or b"",
        message.headers() or (),
        message.timestamp()[1],
    )
