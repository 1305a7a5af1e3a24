"""Partitions that move while a batch is in flight or records are read, without a broker."""

from datetime import timedelta
from typing import Any, NamedTuple, cast

import confluent_kafka
from confluent_kafka import KafkaError, TopicPartition

from services.chassis.kafka import Consumer
from services.chassis.kafka.config import FATAL
from services.chassis.settings import KafkaSettings

NOWHERE = KafkaSettings(brokers="127.0.0.1:1", topic_prefix="", delivery_timeout=timedelta(seconds=1))
OFFSETS = {0: 8}
PLACE = [TopicPartition("alerts", 0)]


class FakeClient:
    """Keeps what is committed."""

    def __init__(self) -> None:
        self.committed: list[tuple[int, int]] = []

    def commit(self, *, offsets: list[TopicPartition], **_: Any) -> list[TopicPartition]:
        self.committed += [(place.partition, place.offset) for place in offsets]
        return offsets


def a_consumer(client: FakeClient) -> Consumer:
    consumer = Consumer(NOWHERE, topic="alerts", group="g")
    consumer._client = cast("confluent_kafka.Consumer", client)
    return consumer


async def test_a_handled_batch_is_committed() -> None:
    client = FakeClient()
    async with a_consumer(client).in_flight(OFFSETS):
        pass
    assert client.committed == [(0, 8)]


async def test_a_batch_that_is_handled_just_after_its_partitions_are_lost_is_not_committed() -> None:
    client = FakeClient()
    consumer = a_consumer(client)
    async with consumer.in_flight(OFFSETS):
        # The event loop hears of it only after the block.
        consumer._on_lost(None, PLACE)
    assert client.committed == []


async def test_a_batch_that_is_handled_in_time_is_committed_before_its_partitions_are_revoked() -> None:
    client = FakeClient()
    consumer = a_consumer(client)
    async with consumer.in_flight(OFFSETS) as batch:
        pass
    consumer._on_revoke(None, PLACE)
    assert client.committed == [(0, 8), (0, 8)]
    assert batch.is_revoked


async def test_a_batch_of_other_partitions_stays_in_flight() -> None:
    client = FakeClient()
    consumer = a_consumer(client)
    async with consumer.in_flight(OFFSETS):
        consumer._on_revoke(None, [TopicPartition("alerts", 1)])
    assert client.committed == [(0, 8)]


class Message(NamedTuple):
    """A message of the client."""

    fault: KafkaError | None

    def error(self) -> KafkaError | None:
        return self.fault

    def partition(self) -> int:
        return 0


async def test_a_lost_partition_gives_no_records_but_the_error_that_the_member_was_fenced() -> None:
    consumer = a_consumer(FakeClient())
    fenced = Message(KafkaError(FATAL))

    def read() -> list[Any]:
        consumer._on_lost(None, PLACE)
        return [Message(None), fenced]

    consumer._poll(read)
    assert consumer._messages == [fenced]
