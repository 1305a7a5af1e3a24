"""What a topic is like."""

import asyncio
from datetime import timedelta

import structlog
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from services.chassis.backoff import Backoff
from services.chassis.kafka import physical
from services.chassis.settings import KafkaSettings

log = structlog.get_logger()

_ASK_SECONDS = 2.0


async def partitions_of(
    settings: KafkaSettings, topic: str, retry: Backoff = Backoff(most=timedelta(seconds=1))
) -> int:
    """Say how many partitions a topic has; waits for Kafka, and for the topic."""
    name = physical(settings, topic)
    client = AdminClient({"bootstrap.servers": settings.brokers, "log_level": 2})
    attempt = 0
    while True:
        try:
            answer = await asyncio.to_thread(client.list_topics, name, timeout=_ASK_SECONDS)
            if found := len(answer.topics[name].partitions):
                return found
        except KafkaException as error:
            log.warning("topic_unknown", topic=topic, error=error.args[0].name())
        await asyncio.sleep(retry.delay(attempt).total_seconds())
        attempt += 1
