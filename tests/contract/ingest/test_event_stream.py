"""The topic in memory behaves as the real one, as far as ingest can see."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest

from services.chassis.kafka import producer
from services.chassis.settings import KafkaSettings
from services.ingest.adapters.kafka import KafkaStream
from services.ingest.ports import Headers, Stream
from tests.fakes.event_stream import MemoryStream
from tests.fakes.kafka_topic import written

Read = Callable[[], list[tuple[bytes, Headers]]]
HEADERS = [("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]


class EventStreamContract(ABC):
    @pytest.fixture
    @abstractmethod
    def stream(self) -> Stream: ...

    @pytest.fixture
    @abstractmethod
    def read(self) -> Read: ...

    async def test_what_was_confirmed_can_be_read_with_its_headers(self, stream: Stream, read: Read) -> None:
        await stream.append(b"one", HEADERS)
        assert await asyncio.to_thread(read) == [(b"one", HEADERS)]

    async def test_many_may_be_under_way_and_each_stands_there_once(self, stream: Stream, read: Read) -> None:
        batches = [str(number).encode() for number in range(50)]
        await asyncio.gather(*(stream.append(batch, []) for batch in batches))
        assert sorted(batch for batch, _ in await asyncio.to_thread(read)) == sorted(batches)

    async def test_no_headers_are_no_headers(self, stream: Stream, read: Read) -> None:
        await stream.append(b"one", [])
        assert await asyncio.to_thread(read) == [(b"one", [])]


class TestMemoryStream(EventStreamContract):
    @pytest.fixture
    def stream(self) -> MemoryStream:
        return MemoryStream()

    @pytest.fixture
    def read(self, stream: MemoryStream) -> Read:
        return lambda: list(stream.records)


@pytest.mark.integration
class TestKafkaStream(EventStreamContract):
    @pytest.fixture
    async def stream(self, kafka: str, topics: str) -> AsyncIterator[KafkaStream]:
        settings = KafkaSettings(brokers=kafka, topic_prefix=topics, delivery_timeout=timedelta(seconds=5))
        async with producer(settings, "test") as opened:
            yield KafkaStream(opened)

    @pytest.fixture
    def read(self, kafka: str, topics: str) -> Read:
        return lambda: [
            (record.value() or b"", list(record.headers() or ())) for record in written(kafka, f"{topics}log-events")
        ]
