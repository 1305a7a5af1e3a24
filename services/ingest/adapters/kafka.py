"""The topic `log-events`."""

import asyncio

from services.chassis.kafka import Producer
from services.contract.topics import LOG_EVENTS
from services.ingest.ports import Headers


class KafkaStream:
    """Appends without a key, so that records spread evenly."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    def append(self, batch: bytes, headers: Headers) -> asyncio.Future[None]:
        """Hand one batch over to the producer."""
        return self._producer.enqueue(LOG_EVENTS, batch, headers=headers)
