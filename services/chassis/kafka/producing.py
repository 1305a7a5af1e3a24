"""Produce many records: of much data a bounded part is in flight."""

import asyncio
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from services.chassis.backoff import Backoff, retrying
from services.chassis.kafka.config import admin_config, physical
from services.chassis.kafka.producer import Producer
from services.chassis.kafka.record import Headers
from services.chassis.settings import KafkaSettings

# A broker that is slow, but not away, confirms this much in time.
MAX_IN_FLIGHT_BYTES = 4 * 1024 * 1024
# What a record costs beside its value.
_RECORD_OVERHEAD_BYTES = 256
_TOPIC_TIMEOUT_SECONDS = 2.0


class OutgoingRecord(NamedTuple):
    """A record to write; without headers the current trace goes along."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    headers: Headers | None = None


async def produce_all(producer: Producer, records: Iterable[OutgoingRecord]) -> None:
    """Return when Kafka has all records; else raise the first failure.

    A bounded part of them is in flight at any time: it is confirmed before the next part is enqueued.
    """
    for part in _parts(records):
        await _produce(producer, part)


async def encode_and_produce_all(producer: Producer, records: Iterable[OutgoingRecord]) -> None:
    """Do as `produce_all` does, where making the records takes long enough to do it beside the event loop."""
    parts = _parts(records)
    while part := await asyncio.to_thread(next, parts, None):
        await _produce(producer, part)


async def partition_count(
    settings: KafkaSettings, topic: str, backoff: Backoff = Backoff(max_delay=timedelta(seconds=1))
) -> int:
    """Return how many partitions a topic has; wait for Kafka, and for the topic."""
    name = physical(settings, topic)
    client = AdminClient(admin_config(settings))

    async def count() -> int:
        metadata = await asyncio.to_thread(client.list_topics, name, timeout=_TOPIC_TIMEOUT_SECONDS)
        partitions = metadata.topics[name].partitions
        if not partitions:
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
        return len(partitions)

    return await retrying(count, log_event="topic_unknown", backoff=backoff, retry_reason=_retry_reason, topic=topic)


def _parts(records: Iterable[OutgoingRecord]) -> Iterator[list[OutgoingRecord]]:
    part: list[OutgoingRecord] = []
    size = 0
    for record in records:
        part.append(record)
        size += len(record.value or b"") + _RECORD_OVERHEAD_BYTES
        if size >= MAX_IN_FLIGHT_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


async def _produce(producer: Producer, part: Iterable[OutgoingRecord]) -> None:
    futures: list[asyncio.Future[None]] = []
    try:
        futures.extend(producer.enqueue(*record) for record in part)
    finally:
        # Also those before a refused one: nothing may be in flight any more when the caller tries again.
        results = await asyncio.gather(*futures, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


def _retry_reason(error: Exception) -> str | None:
    return str(error.args[0].name()) if isinstance(error, KafkaException) else None
