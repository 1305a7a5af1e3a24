"""The topic `log-events`."""

import asyncio

from services.chassis.kafka import Producer
from services.ingest.ports import Headers

_TOPIC = "log-events"


class KafkaStream:
    """Appends without a key, so that records spread evenly."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    def append(self, batch: bytes, headers: Headers) -> asyncio.Future[None]:
        """Hand one batch over to the producer."""
        return self._producer.enqueue(_TOPIC, batch, headers=headers)
