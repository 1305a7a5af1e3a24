"""While there is no Kafka nothing is acknowledged, and what was acknowledged is there afterwards."""

import asyncio
from collections import Counter

import grpc
import pytest
from confluent_kafka import Message
from google.rpc import error_details_pb2, status_pb2

from stack.testing import Servers, fresh_name
from tests.fakes.kafka_topic import written
from tests.fakes.log_events import an_event, events_in
from tests.integration.ingest.conftest import Running, Start
from tocsin.logs.v1.log_ingest_service_pb2 import IngestBatchRequest, IngestRequest

pytestmark = pytest.mark.integration


def retry_after(error: grpc.aio.AioRpcError) -> float:
    status = status_pb2.Status.FromString(dict(error.trailing_metadata() or ())["grpc-status-details-bin"])
    info = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)


class Sender:
    """Sends events one after the other by both rpcs, and keeps the ids of those that were acknowledged."""

    def __init__(self, ingest: Running) -> None:
        self.ingest = ingest
        self.acknowledged: set[str] = set()
        self.failures: list[grpc.aio.AioRpcError] = []
        self.number = 0
        self.rounds = 0

    async def send(self) -> None:
        self.number += 1
        event = an_event(record_id=str(self.number))
        try:
            if self.number % 2:
                await self.ingest.stub.Ingest(IngestRequest(event=event))
            else:
                await self.ingest.stub.IngestBatch(IngestBatchRequest(events=[event]))
        except grpc.aio.AioRpcError as error:
            self.failures.append(error)
        else:
            self.acknowledged.add(event.record_id)

    async def until(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await asyncio.gather(*(self.send() for _ in range(10)))
            self.rounds += 1
            await asyncio.sleep(0.01)

    async def a_round(self) -> None:
        """Return when calls that begin now are answered, and with them all that began before."""
        rounds = self.rounds
        while self.rounds < rounds + 2:  # noqa: ASYNC110  (what is waited for happens in another task)
            await asyncio.sleep(0.01)


Place = tuple[int, int]


def ids_by_place(records: list[Message]) -> dict[Place, list[str]]:
    """Return the ids of the events of each record, by partition and offset."""
    return {
        (record.partition() or 0, record.offset() or 0): [event.record_id for event in events_in(record.value() or b"")]
        for record in records
    }


def losses(missing: set[str], read: dict[Place, list[str]], read_again: dict[Place, list[str]]) -> str:
    """Say what a loss looks like: which events, what was read where, and what another reading finds."""
    counts = Counter(each for ids in read.values() for each in ids)
    lines = [
        f"acknowledged, but not found: {sorted(missing, key=int)}",
        f"found more than once: {sorted(int(each) for each, count in counts.items() if count > 1 and each)}",
        f"found by another reading: {sorted(missing & {each for ids in read_again.values() for each in ids}, key=int)}",
    ]
    for partition in sorted({partition for partition, _ in read}):
        of_it = {offset: ids for (each, offset), ids in read.items() if each == partition}
        numbers = sorted(int(each) for ids in of_it.values() for each in ids if each)
        lines.append(
            f"partition {partition}: offsets {min(of_it)} to {max(of_it)}, events {numbers[0]} to {numbers[-1]}"
        )
    return "\n".join(lines)


async def test_kafka_goes_away_and_comes_back(start: Start, own_servers: Servers) -> None:
    brokers, prefix, stop = own_servers.address("kafka"), fresh_name() + ".", asyncio.Event()
    own_servers.create_topics(prefix)
    async with start(brokers, prefix, delivery_timeout="2s") as ingest:
        sender = Sender(ingest)
        sending = asyncio.create_task(sender.until(stop))
        async with asyncio.timeout(10):
            while not sender.acknowledged:  # noqa: ASYNC110  (what is waited for happens in another process)
                await asyncio.sleep(0.01)
        await asyncio.to_thread(own_servers.kill, "kafka")
        await ingest.until_health_is(503)
        async with asyncio.timeout(15):
            await sender.a_round()
        before = len(sender.acknowledged)
        began = asyncio.get_running_loop().time()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ingest.stub.IngestBatch(IngestBatchRequest(events=[an_event()]))
        assert asyncio.get_running_loop().time() - began < 5
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert retry_after(refused.value) > 0
        assert len(sender.acknowledged) == before
        await asyncio.to_thread(own_servers.start, "kafka")
        await ingest.until_health_is(200)
        async with asyncio.timeout(15):
            while len(sender.acknowledged) == before:  # noqa: ASYNC110  (likewise)
                await asyncio.sleep(0.01)
        stop.set()
        await sending
    assert {failure.code() for failure in sender.failures} <= {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
    topic = f"{prefix}log-events"
    read = ids_by_place(written(brokers, topic))
    missing = sender.acknowledged - {each for ids in read.values() for each in ids}
    assert not missing, losses(missing, read, ids_by_place(written(brokers, topic)))
