"""What a topic is like."""

import asyncio
from datetime import timedelta

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from services.chassis.backoff import Backoff, retrying
from services.chassis.kafka import physical
from services.chassis.settings import KafkaSettings

_TIMEOUT_SECONDS = 2.0


async def partitions_of(
    settings: KafkaSettings, topic: str, backoff: Backoff = Backoff(max_delay=timedelta(seconds=1))
) -> int:
    """Return how many partitions a topic has; waits for Kafka, and for the topic."""
    name = physical(settings, topic)
    client = AdminClient({"bootstrap.servers": settings.brokers, "log_level": 2})

    async def count() -> int:
        metadata = await asyncio.to_thread(client.list_topics, name, timeout=_TIMEOUT_SECONDS)
        partitions = metadata.topics[name].partitions
        if not partitions:
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
        return len(partitions)

    return await retrying(count, log_event="topic_unknown", backoff=backoff, retry_reason=_retry_reason, topic=topic)


def _retry_reason(error: Exception) -> str | None:
    return str(error.args[0].name()) if isinstance(error, KafkaException) else None
