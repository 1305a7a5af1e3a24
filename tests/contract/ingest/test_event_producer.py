"""The topic in memory behaves as the real one, as far as ingest can see."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest

from services.chassis.kafka import Producer, producer
from services.chassis.kafka.record import record_of
from services.chassis.settings import KafkaSettings
from services.contract.topics import LOG_EVENTS
from services.domain.trace_context import TraceHeaders
from services.ingest.ports import EventProducer
from tests.fakes.event_producer import MemoryProducer
from tests.fakes.kafka_topic import written

Read = Callable[[], list[tuple[bytes, TraceHeaders]]]
HEADERS = [("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]


class EventProducerContract(ABC):
    @pytest.fixture
    @abstractmethod
    def events(self) -> EventProducer: ...

    @pytest.fixture
    @abstractmethod
    def read(self) -> Read: ...

    async def test_what_was_confirmed_can_be_read_with_its_headers(self, events: EventProducer, read: Read) -> None:
        await events.enqueue(LOG_EVENTS, b"one", headers=HEADERS)
        assert await asyncio.to_thread(read) == [(b"one", HEADERS)]

    async def test_many_records_may_be_in_flight_at_once(self, events: EventProducer, read: Read) -> None:
        batches = [str(number).encode() for number in range(50)]
        await asyncio.gather(*(events.enqueue(LOG_EVENTS, batch, headers=[]) for batch in batches))
        assert sorted(batch for batch, _ in await asyncio.to_thread(read)) == sorted(batches)

    async def test_no_headers_are_no_headers(self, events: EventProducer, read: Read) -> None:
        await events.enqueue(LOG_EVENTS, b"one", headers=[])
        assert await asyncio.to_thread(read) == [(b"one", [])]


class TestMemoryProducer(EventProducerContract):
    @pytest.fixture
    def events(self) -> MemoryProducer:
        return MemoryProducer()

    @pytest.fixture
    def read(self, events: MemoryProducer) -> Read:
        return lambda: list(events.records)


@pytest.mark.integration
class TestKafkaProducer(EventProducerContract):
    @pytest.fixture
    async def events(self, kafka: str, topics: str) -> AsyncIterator[Producer]:
        settings = KafkaSettings(brokers=kafka, topic_prefix=topics, delivery_timeout=timedelta(seconds=5))
        async with producer(settings, "test") as opened:
            yield opened

    @pytest.fixture
    def read(self, kafka: str, topics: str) -> Read:
        def records() -> list[tuple[bytes, TraceHeaders]]:
            found = [record_of(message, LOG_EVENTS) for message in written(kafka, topics + LOG_EVENTS)]
            return [(record.value, list(record.headers)) for record in found]

        return records
