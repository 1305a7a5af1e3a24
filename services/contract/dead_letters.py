"""Records that cannot be processed, as they are kept on the topic `log-events-dead-letter`."""

from datetime import datetime

from services.contract.timestamps import timestamp_of
from tocsin.logs.v1.log_event_pb2 import DeadLetter


def encode_dead_letter(
    *, topic: str, partition: int, offset: int, reason: str, value: bytes, create_time: datetime
) -> bytes:
    """Return the dead letter of the record at this place."""
    return DeadLetter(
        topic=topic,
        partition=partition,
        offset=offset,
        reason=reason,
        value=value,
        create_time=timestamp_of(create_time),
    ).SerializeToString()
