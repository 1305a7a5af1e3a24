"""Reading a topic as a test wants it: all that is there, now."""

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition


def written(brokers: str, topic: str) -> list[Message]:
    """Read all that stands on a topic, by partition."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "test", "enable.auto.commit": False})
    try:
        messages = []
        for partition in consumer.list_topics(topic, 10).topics[topic].partitions:
            first, end = _watermarks(consumer, TopicPartition(topic, partition))
            consumer.assign([TopicPartition(topic, partition, first)])
            found: list[Message] = []
            while len(found) < end - first:
                found += consumer.consume(end - first - len(found), timeout=10)
            # A failure of the client comes as a message, and would stand for a record here.
            read = [(message.partition(), message.offset()) for message in found if message.error() is None]
            assert read == [(partition, offset) for offset in range(first, end)], [str(each.error()) for each in found]
            messages += found
        return messages
    finally:
        consumer.close()


def _watermarks(consumer: Consumer, partition: TopicPartition, attempts: int = 20) -> tuple[int, int]:
    """Ask again while the partition of a young topic has no leader yet."""
    try:
        return consumer.get_watermark_offsets(partition, timeout=10)
    except KafkaException as error:
        if not attempts or error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION:
            raise
    consumer.poll(0.1)
    return _watermarks(consumer, partition, attempts - 1)
