"""The topics of the system: how many partitions, how long kept."""

from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without saying so
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from services.contract.topics import (
    ALERTS,
    LOG_EVENTS,
    LOG_EVENTS_DEAD_LETTER,
    NOTIFICATION_RESULTS,
    NOTIFICATIONS,
    WINDOW_PARTIALS,
    WINDOW_STATE,
)

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS


class TopicsError(Exception):
    """The broker does not let the topics be as they must be; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic's name without prefix, and what the broker must know of it."""

    name: str
    partitions: int
    config: dict[str, str]


# Of every topic: by the clock of the host that wrote it, one that is ahead would make everybody else's events late, and
# one that is behind would have its records expire at once.
_TIME_OF, _BROKER = "message.timestamp.type", "LogAppendTime"


def _kept(milliseconds: int) -> dict[str, str]:
    return {"cleanup.policy": "delete", "retention.ms": str(milliseconds)}


TOPICS = (
    Topic(name=LOG_EVENTS, partitions=4, config=_kept(_DAY_MS)),
    Topic(name=LOG_EVENTS_DEAD_LETTER, partitions=1, config=_kept(7 * _DAY_MS)),
    # As long as the longest window, its lateness and some time to come back: what is open is rebuilt from it.
    Topic(name=WINDOW_PARTIALS, partitions=4, config=_kept(26 * _HOUR_MS)),
    Topic(name=WINDOW_STATE, partitions=4, config={"cleanup.policy": "compact"}),
    Topic(name=ALERTS, partitions=4, config=_kept(7 * _DAY_MS)),
    Topic(name=NOTIFICATIONS, partitions=4, config=_kept(7 * _DAY_MS)),
    Topic(name=NOTIFICATION_RESULTS, partitions=4, config=_kept(7 * _DAY_MS)),
)


def create_topics(brokers: str, prefix: str = "", topics: Iterable[Topic] = TOPICS, seconds: float = 30.0) -> None:
    """Create what is missing, and return when the broker has; of one that is there only set whose time its records get.

    Raises TopicsError.
    """
    wanted = [NewTopic(prefix + one.name, one.partitions, config=one.config | {_TIME_OF: _BROKER}) for one in topics]
    client = admin(brokers)
    try:
        created = client.create_topics(wanted, operation_timeout=seconds, request_timeout=seconds)
        present = [name for name, answer in created.items() if not _settle(answer, KafkaError.TOPIC_ALREADY_EXISTS)]
        _let_broker_say_time(client, present, seconds)
    except KafkaException as failure:
        raise TopicsError(f"the topics cannot be set up: {failure.args[0].str()}") from failure


def _let_broker_say_time(client: AdminClient, names: Iterable[str], seconds: float) -> None:
    # Without asking first: a broker may not know yet what its controller has just created.
    entry = ConfigEntry(_TIME_OF, _BROKER, incremental_operation=AlterConfigOpType.SET)
    topics = [ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry]) for name in names]
    altered = client.incremental_alter_configs(topics, request_timeout=seconds) if topics else {}
    for answer in altered.values():
        answer.result()


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


def _settle(answer: Future[None], harmless: int) -> bool:
    """Say whether it was done; False for the one failure that is harmless."""
    try:
        answer.result()
    except KafkaException as failure:
        if failure.args[0].code() != harmless:
            raise
        return False
    return True
