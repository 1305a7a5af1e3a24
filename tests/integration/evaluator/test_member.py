"""A member of a consumer group, while Kafka does not answer."""

from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import KafkaException

from services.chassis.kafka import producer
from services.chassis.kafka.config import TRANSPORT
from services.chassis.settings import KafkaSettings
from services.evaluator.adapters.member import Member
from services.evaluator.ports import CommittedOffset

pytestmark = pytest.mark.integration

# More often than a member asked in all before it gave up.
FAILURES = 15


class Forgetful(confluent_kafka.Consumer):
    """A consumer whose questions about committed offsets fail at first."""

    failures = FAILURES

    def committed(self, *arguments: Any, **named: Any) -> Any:
        if self.failures:
            self.failures -= 1
            raise KafkaException(confluent_kafka.KafkaError(TRANSPORT))
        return super().committed(*arguments, **named)


async def test_a_member_waits_for_kafka_to_say_where_a_partition_was_left(
    kafka: str, topics: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confluent_kafka, "Consumer", Forgetful)
    settings = KafkaSettings(brokers=kafka, topic_prefix=topics)
    async with producer(settings, "test") as stream:
        for number in range(3):
            await stream.send("log-events", b"%d" % number, None, 0)
    taken: list[CommittedOffset] = []
    values: list[bytes] = []
    empty = 0
    async with Member(settings, topic="log-events", group="g", instance="i").joined() as member:
        while len(values) < 3:
            rebalance, records = await member.next(10, 0.05)
            taken += rebalance.taken
            empty += not taken
            assert taken or not records
            values += [record.value for record in records]
    assert sorted(taken, key=lambda mark: mark.partition) == [
        CommittedOffset(partition=each, offset=0) for each in range(4)
    ]
    assert values == [b"0", b"1", b"2"]
    assert empty >= FAILURES
