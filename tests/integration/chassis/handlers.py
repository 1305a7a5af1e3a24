"""What tests of consumers share."""

from datetime import timedelta

from services.chassis.backoff import Backoff
from services.chassis.clock import SystemClock
from services.chassis.kafka import DeadLetterPublisher, Producer, Record

FAST = Backoff(first_delay=timedelta(milliseconds=10), max_delay=timedelta(milliseconds=50))


def dead_letters(stream: Producer, *, with_reason: bool = False) -> DeadLetterPublisher:
    def encode(*, value: bytes, reason: str, **_place: object) -> bytes:
        return value + b": " + reason.encode() if with_reason else value

    return DeadLetterPublisher(producer=stream, encode=encode, clock=SystemClock(), topic="log-events-dead-letter")


class RecordingHandler:
    """Records what it handles; raises the given errors first."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls: list[list[Record]] = []
        self.records: list[Record] = []

    async def handle(self, records: list[Record]) -> None:
        self.calls.append(list(records))
        if self.errors:
            raise self.errors.pop(0)
        self.records += records

    def values(self) -> list[bytes]:
        return [record.value for record in self.records]
