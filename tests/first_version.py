"""What the first version left on Kafka and in PostgreSQL: read as test data, or put on fresh servers."""

import asyncio
import json
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import asyncpg
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]  # re-exported without saying so

from services.chassis.kafka import Record
from stack.topics import TOPICS, admin_client, create_topics

FOLDER: Final = Path(__file__).parent / "data" / "first_version"
# 2026-11-28 03:00:00 UTC, from which the times of all events count.
START: Final = 1_795_834_800
# What nobody can read, on four of the topics.
UNREADABLE: Final = b"\xff\xffnot a message of ours"


def records_of(topic: str) -> list[Record]:
    """Return all records of a topic, by partition and offset."""
    return [_record(topic, line) for line in _lines(topic)]


def committed_metadata(group: str) -> list[tuple[int, str]]:
    """Return the offsets that a group had committed, with their metadata, by partition."""
    return [(line["offset"], line["metadata"]) for line in _lines("committed_offsets") if line["group"] == group]


def restore_topics(brokers: str, prefix: str) -> None:
    """Put all records on topics of this prefix, with the offsets and the times that they had, then upgrade the topics.

    The topics keep the records however old they are. Those that later versions added come with the upgrade.
    """
    client = admin_client(brokers)
    topics = [topic for topic in TOPICS if (FOLDER / f"{topic.name}.jsonl").exists()]
    new = [
        NewTopic(prefix + topic.name, topic.partitions, config=topic.config | {"retention.ms": "-1"})
        for topic in topics
    ]
    for result in client.create_topics(new, operation_timeout=30).values():
        result.result()
    producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True})
    for topic in topics:
        for record in records_of(topic.name):
            producer.produce(
                prefix + topic.name,
                record.value,
                record.key,
                record.partition,
                headers=list(record.headers),
                timestamp=record.timestamp_ms,
            )
    assert producer.flush(30) == 0
    _restore_offsets(client, prefix)
    create_topics(brokers, prefix)


def restore_database(url: str) -> None:
    """Fill an empty database."""
    asyncio.run(_execute(url, (FOLDER / "database.sql").read_text()))


def _restore_offsets(client: Any, prefix: str) -> None:
    groups: dict[str, list[TopicPartition]] = {}
    for line in _lines("committed_offsets"):
        offset = TopicPartition(prefix + line["topic"], line["partition"], line["offset"], line["metadata"])
        groups.setdefault(prefix + line["group"], []).append(offset)
    for group, offsets in groups.items():
        altered = client.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, offsets)])
        for result in altered.values():
            result.result()


async def _execute(url: str, statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()


def _lines(name: str) -> Iterator[dict[str, Any]]:
    return map(json.loads, (FOLDER / f"{name}.jsonl").read_text().splitlines())


def _record(topic: str, line: dict[str, Any]) -> Record:
    return Record(
        topic,
        line["partition"],
        line["offset"],
        b64decode(line["key"]) if "key" in line else None,
        b64decode(line["value"]),
        [(name, value.encode()) for name, value in line.get("headers", {}).items()],
        line["timestamp"],
    )
