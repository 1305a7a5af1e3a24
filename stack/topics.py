"""The topics of the system: how many partitions, how long kept."""

from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # re-exported without saying so

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic's name without prefix, and what the broker must know of it."""

    name: str
    partitions: int
    config: dict[str, str]


def _kept(milliseconds: int) -> dict[str, str]:
    return {"cleanup.policy": "delete", "retention.ms": str(milliseconds)}


TOPICS = (
    Topic(name="log-events", partitions=4, config=_kept(_DAY_MS)),
    Topic(name="log-events-dead-letter", partitions=1, config=_kept(7 * _DAY_MS)),
    # As long as the longest window, its lateness and some time to come back: what is open is rebuilt from it.
    Topic(name="window-partials", partitions=4, config=_kept(26 * _HOUR_MS)),
    Topic(name="window-state", partitions=4, config={"cleanup.policy": "compact"}),
    Topic(name="alerts", partitions=4, config=_kept(7 * _DAY_MS)),
    Topic(name="notifications", partitions=4, config=_kept(7 * _DAY_MS)),
    Topic(name="notification-results", partitions=4, config=_kept(7 * _DAY_MS)),
)


def create_topics(brokers: str, prefix: str = "", topics: Iterable[Topic] = TOPICS, seconds: float = 30.0) -> None:
    """Create what is missing, and return when the broker has; one that is there already is left as it is."""
    wanted = [NewTopic(prefix + topic.name, topic.partitions, config=topic.config) for topic in topics]
    client = admin(brokers)
    created = client.create_topics(wanted, operation_timeout=seconds, request_timeout=seconds)
    for answer in created.values():
        _settle(answer, KafkaError.TOPIC_ALREADY_EXISTS)


def delete_topics(brokers: str, prefix: str = "", topics: Iterable[Topic] = TOPICS, seconds: float = 30.0) -> None:
    """Delete what is there under this prefix."""
    names = [prefix + topic.name for topic in topics]
    client = admin(brokers)
    deleted = client.delete_topics(names, operation_timeout=seconds, request_timeout=seconds)
    for answer in deleted.values():
        _settle(answer, KafkaError.UNKNOWN_TOPIC_OR_PART)


def admin(brokers: str) -> AdminClient:
    """Give a client for questions to the broker, which keeps its complaints about absent brokers to itself."""
    return AdminClient(
        {
            "bootstrap.servers": brokers,
            "log_level": 0,
            "socket.connection.setup.timeout.ms": 2000,
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 200,
        }
    )


def _settle(answer: Future[None], harmless: int) -> None:
    try:
        answer.result()
    except KafkaException as failure:
        if failure.args[0].code() != harmless:
            raise
