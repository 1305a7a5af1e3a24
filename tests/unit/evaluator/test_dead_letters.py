"""Records of `log-events` that cannot be read, on their way to the dead-letter topic."""

import asyncio
from datetime import UTC, datetime
from typing import cast

from services.chassis.failures import RequestTooLarge
from services.chassis.kafka import Headers, Producer
from services.evaluator.adapters.kafka import KafkaDeadLetters
from services.evaluator.core.match.events import LogRecord
from services.evaluator.ports import UnreadableRecord
from tocsin.logs.v1.log_event_pb2 import DeadLetter

MAX_BYTES = 200


class FakeProducer:
    """Takes records up to a size."""

    def __init__(self) -> None:
        self.sent: list[DeadLetter] = []

    def enqueue(
        self, _topic: str, value: bytes, _key: bytes | None, _partition: int | None, headers: Headers
    ) -> asyncio.Future[None]:
        assert headers
        if len(value) > MAX_BYTES:
            raise RequestTooLarge("the record is larger than Kafka takes")
        self.sent.append(DeadLetter.FromString(value))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


async def test_a_record_that_is_too_large_for_a_dead_letter_is_kept_without_its_value() -> None:
    stream = FakeProducer()
    letters = KafkaDeadLetters(cast("Producer", stream), lambda: datetime(2026, 1, 1, tzinfo=UTC))
    values = (b"\xff", b"\xff" * MAX_BYTES)
    records = [LogRecord(partition=1, offset=n, arrival_ns=0, traceparent="00-a-b-01") for n in range(len(values))]
    await letters.publish(
        [
            UnreadableRecord(record=at, reason="UNREADABLE", value=value)
            for at, value in zip(records, values, strict=True)
        ]
    )
    # The first one twice: as with any repetition, who reads dead letters knows them by their place.
    assert [(letter.offset, letter.reason, letter.value) for letter in stream.sent] == [
        (0, "UNREADABLE", b"\xff"),
        (0, "UNREADABLE", b"\xff"),
        (1, "UNREADABLE", b""),
    ]
