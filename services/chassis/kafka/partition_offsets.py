"""What a consumer asks the broker of the partitions of a topic. The client blocks, so each call is for its thread."""

from collections.abc import Sequence

from confluent_kafka import Consumer, KafkaException, TopicPartition

from services.chassis.kafka.record import CommittedOffset

_REQUEST_SECONDS = 5.0
_END_OFFSET_SECONDS = 1.0


def committed_offsets(client: Consumer, topic: str, partitions: Sequence[int]) -> list[CommittedOffset]:
    """Return from where each partition is read: the oldest record, where Kafka no longer has the committed offset.

    Raise KafkaException where the broker does not answer.
    """
    places = [TopicPartition(topic, partition) for partition in partitions]
    return [_committed_offset(client, topic, place) for place in client.committed(places, timeout=_REQUEST_SECONDS)]


def _committed_offset(client: Consumer, topic: str, committed: TopicPartition) -> CommittedOffset:
    if committed.error is not None:
        raise KafkaException(committed.error)
    place = TopicPartition(topic, committed.partition)
    oldest, end = client.get_watermark_offsets(place, timeout=_REQUEST_SECONDS)
    return CommittedOffset(
        partition=committed.partition,
        offset=committed.offset if oldest <= committed.offset <= end else oldest,
        metadata=(committed.metadata or "") if committed.offset >= 0 else "",
    )


def end_offsets(client: Consumer, topic: str, partitions: Sequence[int]) -> dict[int, int]:
    """Return the end of each partition; leave out those that the broker does not answer for."""
    ends = {}
    for partition in partitions:
        try:
            _, ends[partition] = client.get_watermark_offsets(
                TopicPartition(topic, partition), timeout=_END_OFFSET_SECONDS
            )
        except KafkaException:
            continue
    return ends


def topic_partitions(client: Consumer, topic: str, *, timeout_s: float = _REQUEST_SECONDS) -> int:
    """Return how many partitions the topic has; raise KafkaException where the broker does not answer."""
    return len(client.list_topics(topic, timeout=timeout_s).topics[topic].partitions)
