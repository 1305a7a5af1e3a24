"""What health says of errors of Kafka's client."""

import pytest
from confluent_kafka import KafkaError

from services.chassis.kafka.config import absence_of


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (KafkaError._ALL_BROKERS_DOWN, "no broker answers"),
        (KafkaError._MSG_TIMED_OUT, "no broker answers"),
        (KafkaError._AUTHENTICATION, "Local: Authentication failure"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "Broker: Topic authorization failed"),
    ],
)
def test_health_says_in_words_why_kafka_is_down(code: int, words: str) -> None:
    assert absence_of(KafkaError(code, "secret")) == words
