"""The design's topics on a real broker."""

import pytest

from stack.topics import TOPICS, admin, create_topics

pytestmark = pytest.mark.integration


def test_every_topic_has_its_partitions(kafka: str, topics: str) -> None:
    found = admin(kafka).list_topics(timeout=10).topics
    assert {one.name: one.partitions for one in TOPICS} == {
        one.name: len(found[topics + one.name].partitions) for one in TOPICS
    }


def test_creating_what_is_there_changes_nothing(kafka: str, topics: str) -> None:
    create_topics(kafka, topics)
    create_topics(kafka, topics)


def test_nobody_creates_a_topic_by_asking_for_it(kafka: str, topics: str) -> None:
    client = admin(kafka)
    client.list_topics(topics + "misspelt", timeout=10)
    assert topics + "misspelt" not in client.list_topics(timeout=10).topics
