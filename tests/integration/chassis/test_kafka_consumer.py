"""A member of a cooperative group: what it resumes from, what it is told of rebalances, how it leaves."""

import asyncio
import threading
from contextlib import AsyncExitStack
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import KafkaException
from structlog.testing import capture_logs

from services.chassis.health import Dependency, Health
from services.chassis.kafka import CommittedOffset, Consumer, Rebalance, Record, producer
from services.chassis.kafka.config import TRANSPORT
from services.chassis.settings import KafkaSettings

pytestmark = pytest.mark.integration

# More often than a consumer asks at once.
FAILURES = 15
PARTITIONS = range(4)


def consumer(settings: KafkaSettings, instance: str = "i", dependency: Dependency | None = None) -> Consumer:
    return Consumer(
        settings, topic="log-events", group="g", instance=instance, is_cooperative=True, dependency=dependency
    )


class Reader:
    """Fetches as a stage does: it keeps what each partition gave since it was assigned."""

    def __init__(self, member: Consumer) -> None:
        self.member = member
        self.resumed: dict[int, CommittedOffset] = {}
        self.records: dict[int, list[Record]] = {}
        self.revoked: list[int] = []

    async def fetch(self, timeout_s: float = 0.05) -> None:
        rebalance, records = await self.member.fetch(10, timeout_s)
        self._apply(rebalance)
        for record in records:
            self.records[record.partition].append(record)

    def _apply(self, rebalance: Rebalance) -> None:
        self.revoked += rebalance.revoked
        for partition in rebalance.revoked:
            self.resumed.pop(partition, None)
            self.records.pop(partition, None)
        for committed in rebalance.assigned:
            self.resumed[committed.partition] = committed
            self.records[committed.partition] = []

    def values(self) -> dict[int, list[bytes]]:
        return {partition: [record.value for record in records] for partition, records in self.records.items()}


async def send(settings: KafkaSettings, *values: bytes, partition: int = 0) -> None:
    async with producer(settings, "test") as stream:
        for value in values:
            await stream.send("log-events", value, None, partition)


class Forgetful(confluent_kafka.Consumer):
    """A client whose first requests for committed offsets fail."""

    failures = FAILURES

    def committed(self, *arguments: Any, **named: Any) -> Any:
        if self.failures:
            self.failures -= 1
            raise KafkaException(confluent_kafka.KafkaError(TRANSPORT))
        return super().committed(*arguments, **named)


async def test_a_consumer_waits_for_kafka_to_answer_where_a_partition_was_left(
    settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confluent_kafka, "Consumer", Forgetful)
    await send(settings, b"0", b"1", b"2")
    assigned: list[CommittedOffset] = []
    values: list[bytes] = []
    empty = 0
    async with consumer(settings).joined() as member:
        while len(values) < 3:
            rebalance, records = await member.fetch(10, 0.05)
            assigned += rebalance.assigned
            empty += not assigned
            assert assigned or not records
            values += [record.value for record in records]
    expected = [CommittedOffset(partition=partition, offset=0) for partition in PARTITIONS]
    assert sorted(assigned, key=lambda committed: committed.partition) == expected
    assert values == [b"0", b"1", b"2"]
    assert empty >= FAILURES


async def test_the_next_owner_gets_offset_and_metadata_that_were_committed(settings: KafkaSettings) -> None:
    await send(settings, b"0", b"1", b"2")
    committed = CommittedOffset(partition=0, offset=1, metadata="the state of a window")
    async with consumer(settings, "first").joined() as member:
        reader = Reader(member)
        while len(reader.records.get(0, ())) < 3:
            await reader.fetch()
        assert await member.commit([committed])
    async with consumer(settings, "first").joined() as member:
        reader = Reader(member)
        while len(reader.records.get(0, ())) < 2:
            await reader.fetch()
        assert reader.resumed[0] == committed
        assert reader.values()[0] == [b"1", b"2"]
        assert member.partition_count == len(PARTITIONS)


async def test_a_partition_may_be_read_from_where_the_metadata_say(settings: KafkaSettings) -> None:
    await send(settings, b"0", b"1", b"2")
    member = Consumer(
        settings, topic="log-events", group="g", is_cooperative=True, start_of=lambda each: each.offset + 2
    )
    async with member.joined():
        reader = Reader(member)
        while not reader.records.get(0):
            await reader.fetch()
        assert (reader.resumed[0].offset, reader.values()[0]) == (0, [b"2"])


async def test_a_commit_that_kafka_refuses_for_one_partition_has_failed(settings: KafkaSettings) -> None:
    async with consumer(settings).joined() as member:
        reader = Reader(member)
        while len(reader.resumed) < 4:
            await reader.fetch()
        # Kafka accepts 4096 bytes of metadata.
        too_large = CommittedOffset(partition=0, offset=0, metadata="x" * 5000)
        assert not await member.commit([too_large, CommittedOffset(partition=1, offset=0)])
        assert await member.commit([CommittedOffset(partition=1, offset=0)])


async def test_a_rewound_partition_gives_its_records_again(settings: KafkaSettings) -> None:
    await send(settings, b"0", b"1", b"2")
    async with consumer(settings).joined() as member:
        reader = Reader(member)
        while len(reader.records.get(0, ())) < 3:
            await reader.fetch()
        await member.rewind(0, 1)
        while len(reader.records[0]) < 5:
            await reader.fetch()
        assert reader.values()[0] == [b"0", b"1", b"2", b"1", b"2"]
        assert await member.end_offsets([0, 1]) == {0: 3, 1: 0}


async def test_partitions_move_one_by_one_and_each_is_resumed_where_it_was_committed(settings: KafkaSettings) -> None:
    for partition in PARTITIONS:
        await send(settings, b"0", b"1", b"2", partition=partition)
    async with AsyncExitStack() as stack:
        first = Reader(await stack.enter_async_context(consumer(settings, "first").joined()))
        while sum(map(len, first.records.values())) < 12:
            await first.fetch()
        assert await first.member.commit([CommittedOffset(partition=each, offset=2) for each in PARTITIONS])
        second = Reader(await stack.enter_async_context(consumer(settings, "second").joined()))
        async with asyncio.timeout(30):
            while len(second.resumed) < 2 or sum(map(len, second.records.values())) < 2:
                await asyncio.gather(first.fetch(), second.fetch())
        assert sorted(first.revoked) == sorted(second.resumed)
        assert sorted([*first.resumed, *second.resumed]) == list(PARTITIONS)
        assert {committed.offset for committed in second.resumed.values()} == {2}
        assert set(map(tuple, second.values().values())) == {(b"2",)}
        # Those that stayed are read on without a repetition.
        await send(settings, b"3", partition=min(first.resumed))
        while len(first.records[min(first.resumed)]) < 4:
            await first.fetch()
        assert first.values()[min(first.resumed)] == [b"0", b"1", b"2", b"3"]


async def test_a_cooperative_consumer_without_partitions_is_well(settings: KafkaSettings) -> None:
    health = Health("test")
    dependencies = [health.dependency("kafka") for _ in range(5)]
    async with AsyncExitStack() as stack:
        readers = [
            Reader(await stack.enter_async_context(consumer(settings, str(number), dependency).joined()))
            for number, dependency in enumerate(dependencies)
        ]
        async with asyncio.timeout(30):
            while not all(dependency.is_up for dependency in dependencies):
                await asyncio.gather(*(reader.fetch() for reader in readers))


async def test_a_client_that_hangs_is_left_behind_within_a_bound(
    settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_close, is_closed = threading.Event(), threading.Event()

    class Hanging(confluent_kafka.Consumer):
        def close(self) -> None:
            may_close.wait(60)
            super().close()
            is_closed.set()

    monkeypatch.setattr(confluent_kafka, "Consumer", Hanging)
    try:
        async with asyncio.timeout(15):
            async with consumer(settings).joined() as member:
                # A client that closes while it joins can hang for ever, and holds Python's global lock then.
                while not member.is_reading:
                    await member.fetch(1, 0.05)
    finally:
        may_close.set()
        await asyncio.to_thread(is_closed.wait, 30)


async def test_of_two_members_with_one_name_the_one_that_is_fenced_again_fails_and_the_other_reads(
    settings: KafkaSettings, caplog: pytest.LogCaptureFixture
) -> None:
    with capture_logs() as logs:
        await fence_in_turns(settings)
    rejoined = [line["reason"] for line in logs if line["event"] == "consumer_rejoined"]
    assert set(rejoined) == {"FENCED_INSTANCE_ID"}
    # The client itself would call it an emergency.
    assert [record for record in caplog.records if record.name == "kafka"] == []


async def fence_in_turns(settings: KafkaSettings) -> None:
    async with consumer(settings).joined() as first, consumer(settings).joined() as second:
        readers = [Reader(first), Reader(second)]
        failed: list[Reader] = []
        while not failed:
            for reader in readers:
                try:
                    await reader.fetch()
                except KafkaException:
                    failed.append(reader)
        (other,) = [reader for reader in readers if reader not in failed]
        while len(other.resumed) < len(PARTITIONS):
            await other.fetch()
        await send(settings, b"0")
        while not other.records[0]:
            await other.fetch()
    assert other.values()[0] == [b"0"]
