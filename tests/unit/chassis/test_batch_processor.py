"""What becomes of each record of a batch, without a broker."""

from dataclasses import replace
from datetime import timedelta
from typing import cast

import pytest

from services.chassis import telemetry
from services.chassis.backoff import Backoff
from services.chassis.clock import SystemClock
from services.chassis.failures import Failure, RequestTooLarge, StoreRefused, StoreUnavailable, StreamUnavailable
from services.chassis.health import Health
from services.chassis.kafka import DeadLetterPublisher, Headers, Producer, Record
from services.chassis.kafka.batch_processor import BatchProcessor

pytestmark = pytest.mark.usefixtures("plain_logs")

FAST = Backoff(first_delay=timedelta(0), max_delay=timedelta(0))


def record(value: bytes) -> Record:
    return Record("alerts", 0, int(value), None, value, (), 0)


class FakeProducer:
    """Refuses as it is told, and keeps what it takes."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.headers: list[Headers] = []
        self.failures: list[Failure] = []
        self.max_bytes = 1000

    async def send(
        self,
        _topic: str,
        value: bytes,
        _key: bytes | None = None,
        _partition: int | None = None,
        headers: Headers | None = None,
    ) -> None:
        if self.failures:
            raise self.failures.pop()
        if len(value) > self.max_bytes:
            raise RequestTooLarge("the record is larger than Kafka takes")
        self.sent.append(value)
        self.headers.append(telemetry.trace_headers() if headers is None else headers)


class Handler:
    """Fails on the records that it is told."""

    def __init__(self, troubles: dict[bytes, list[Exception]]) -> None:
        self.troubles = troubles
        self.handled: list[bytes] = []

    async def handle(self, records: list[Record]) -> None:
        for each in records:
            if left := self.troubles.get(each.value):
                raise left.pop()
        self.handled += [each.value for each in records]


@pytest.fixture
def stream() -> FakeProducer:
    return FakeProducer()


def encode(*, value: bytes, reason: str, **_place: object) -> bytes:
    return value + b" " + reason.encode()


def processor_of(handler: Handler, stream: FakeProducer, health: Health | None = None) -> BatchProcessor:
    producer = cast("Producer", stream)
    letters = DeadLetterPublisher(producer=producer, encode=encode, clock=SystemClock(), topic="letters")
    return BatchProcessor(handler.handle, letters, FAST, "alerts", health)


async def test_a_trouble_of_the_world_is_waited_out_however_long_it_takes(stream: FakeProducer) -> None:
    health = Health("test")
    downs: list[dict[str, str]] = []
    health.subscribe(lambda: downs.append(health.snapshot().dependencies))
    troubles: list[Exception] = [StoreUnavailable("a full disk"), MemoryError(), OSError("no more files")]
    handler = Handler({b"1": troubles * 20})
    await processor_of(handler, stream, health).process([record(b"1"), record(b"2")])
    assert handler.handled == [b"1", b"2"]
    assert stream.sent == []
    assert downs[0] == {"handle alerts": "DOWN"}
    assert health.snapshot().dependencies == {}


async def test_what_the_database_refuses_is_dead_lettered_and_its_neighbours_are_handled(stream: FakeProducer) -> None:
    handler = Handler({b"2": [StoreRefused("no")] * 9})
    await processor_of(handler, stream).process([record(b"1"), record(b"2"), record(b"3")])
    assert handler.handled == [b"1", b"3"]
    assert stream.sent == [b"2 the handler crashes on it"]


async def test_a_batch_of_which_nothing_can_be_handled_is_tried_again_as_a_whole(stream: FakeProducer) -> None:
    handler = Handler({b"1": [ValueError("a bad release")] * 20, b"2": [ValueError("a bad release")] * 6})
    await processor_of(handler, stream).process([record(b"1"), record(b"2")])
    assert handler.handled == [b"1", b"2"]
    assert stream.sent == []


async def test_a_dead_letter_that_is_too_large_is_kept_without_its_value(stream: FakeProducer) -> None:
    stream.max_bytes = 40
    stream.failures = [StreamUnavailable("away")]
    large = b"1" * 100
    handler = Handler({large: [ValueError("bug")] * 9})
    await processor_of(handler, stream).process([record(large), record(b"2")])
    assert stream.sent == [b" the handler crashes on it"]
    assert handler.handled == [b"2"]


async def test_a_dead_letter_without_its_value_keeps_the_trace_of_its_record(stream: FakeProducer) -> None:
    stream.max_bytes = 40
    trace = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    letters = DeadLetterPublisher(
        producer=cast("Producer", stream), encode=encode, clock=SystemClock(), topic="letters"
    )
    await letters.publish(replace(record(b"1"), value=b"1" * 100, headers=[trace, ("large", b"1" * 100)]), "no")
    assert stream.sent == [b" no"]
    assert [list(headers) for headers in stream.headers] == [[trace]]


def test_that_none_was_dead_lettered_is_shown_from_the_start(stream: FakeProducer) -> None:
    with telemetry.telemetry("test", "i", ""):
        processor_of(Handler({}), stream)
        exposed = telemetry.exposition()[0].decode()
    assert 'tocsin_kafka_consumer_records_total{outcome="dead_lettered",topic="alerts"} 0.0' in exposed
