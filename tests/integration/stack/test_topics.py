"""The design's topics on a real broker."""

import contextlib
import time

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without saying so
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from stack.testing import fresh_name
from stack.topics import TOPICS, Topic, TopicsError, admin_client, create_topics

pytestmark = pytest.mark.integration

TIME_OF = "message.timestamp.type"


def test_every_topic_has_its_partitions(kafka: str, topics: str) -> None:
    client, deadline = admin_client(kafka), time.monotonic() + 10
    found: dict[str, int] = {}
    expected = {topics + one.name: one.partitions for one in TOPICS}
    # A broker knows a new topic a moment after the controller has it.
    while found != expected and time.monotonic() < deadline:
        known = client.list_topics(timeout=10).topics
        found = {name: len(known[name].partitions) for name in expected if name in known}
    assert found == expected


def test_creating_what_is_there_changes_nothing(kafka: str, topics: str) -> None:
    create_topics(kafka, topics)
    create_topics(kafka, topics)


def test_a_records_time_is_the_brokers_also_in_a_topic_that_was_there(kafka: str, topics: str) -> None:
    client = admin_client(kafka)
    before = ConfigEntry(TIME_OF, "CreateTime", incremental_operation=AlterConfigOpType.SET)
    changed = ConfigResource(ResourceType.TOPIC, topics + "log-events", incremental_configs=[before])
    client.incremental_alter_configs([changed])[changed].result()
    await_time(client, topics + "log-events", "CreateTime")
    create_topics(kafka, topics)
    for topic in TOPICS:
        await_time(client, topics + topic.name, "LogAppendTime")


def await_time(client: AdminClient, topic: str, expected: str) -> None:
    """Wait until the broker knows what its controller decided."""
    resource, found = ConfigResource(ResourceType.TOPIC, topic), ""
    deadline = time.monotonic() + 60
    while found != expected:
        assert time.monotonic() < deadline, found
        with contextlib.suppress(KafkaException):
            found = client.describe_configs([resource])[resource].result()[TIME_OF].value


def test_a_topic_that_cannot_be_set_up_is_an_error_with_a_text(kafka: str) -> None:
    with pytest.raises(TopicsError, match=r"the topics cannot be set up: .*[Pp]artitions"):
        create_topics(kafka, fresh_name(), [Topic(name=".none", partitions=0, config={})])


def test_nobody_creates_a_topic_by_asking_for_it(kafka: str, topics: str) -> None:
    client = admin_client(kafka)
    client.list_topics(topics + "misspelt", timeout=10)
    assert topics + "misspelt" not in client.list_topics(timeout=10).topics
