"""The form of a record that can never be handled."""

from services.chassis.clock import Clock
from services.chassis.kafka import Record
from services.manager.wire.times import stamp
from tocsin.logs.v1.log_event_pb2 import DeadLetter


class DeadLetterForm:
    """Encodes dead letters."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def encode(self, record: Record, reason: str) -> bytes:
        """The dead letter's value."""
        letter = DeadLetter(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            reason=reason,
            value=record.value,
            create_time=stamp(self._clock.now()),
        )
        return letter.SerializeToString()
