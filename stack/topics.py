"""The topics of the system: how many partitions each has, and how long it keeps records."""

import os
from collections.abc import Iterable, Mapping
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

from services.chassis.kafka import admin_config
from services.chassis.settings import KafkaSettings, SettingsError, load_settings
from services.contract.topics import (
    ALERTS,
    AUDIT_LOG,
    LOG_EVENTS,
    LOG_EVENTS_DEAD_LETTER,
    NOTIFICATION_RESULTS,
    NOTIFICATIONS,
    WINDOW_PARTIALS,
    WINDOW_SNAPSHOTS,
    WINDOW_STATE,
)
from stack.program import StartError

_TOOLS = "TOCSIN_"
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS


class TopicsError(Exception):
    """The broker refuses to create or configure the topics; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic's name without prefix, and its configuration."""

    name: str
    partitions: int
    config: dict[str, str]


# Of every topic: records get the broker's time. With the time of the host that writes, a clock that is ahead would make
# the events of all others late, and records of a clock that is behind would expire at once.
_TIME_OF, _BROKER = "message.timestamp.type", "LogAppendTime"
# As many replicas as the brokers' own settings say.
BROKER_DEFAULT = -1
_MIN_IN_SYNC = "min.insync.replicas"
# With two of two, the loss of one would stop all writing.
_MIN_REDUNDANT = 3


def _retention(milliseconds: int) -> dict[str, str]:
    return {"cleanup.policy": "delete", "retention.ms": str(milliseconds)}


TOPICS = (
    Topic(name=LOG_EVENTS, partitions=4, config=_retention(_DAY_MS)),
    Topic(name=LOG_EVENTS_DEAD_LETTER, partitions=1, config=_retention(7 * _DAY_MS)),
    # As long as the longest window, its lateness and a reserve: open windows are rebuilt from it.
    Topic(name=WINDOW_PARTIALS, partitions=4, config=_retention(26 * _HOUR_MS)),
    # Snapshots of open windows: with the same partitions, as each belongs to one of them. A new one is written every
    # minute, so what is older than that is used only by an evaluator that was away. Segments are as short as a part of
    # the retention, because a record is gone only with its segment.
    Topic(name=WINDOW_SNAPSHOTS, partitions=4, config={**_retention(_HOUR_MS), "segment.ms": str(_HOUR_MS // 6)}),
    Topic(name=WINDOW_STATE, partitions=4, config={"cleanup.policy": "compact"}),
    Topic(name=ALERTS, partitions=4, config=_retention(7 * _DAY_MS)),
    Topic(name=NOTIFICATIONS, partitions=4, config=_retention(7 * _DAY_MS)),
    Topic(name=NOTIFICATION_RESULTS, partitions=4, config=_retention(7 * _DAY_MS)),
    Topic(name=AUDIT_LOG, partitions=1, config=_retention(7 * _DAY_MS)),
)


def create_topics(
    brokers: str | KafkaSettings,
    prefix: str = "",
    topics: Iterable[Topic] = TOPICS,
    seconds: float = 30.0,
    *,
    replicas: int = BROKER_DEFAULT,
) -> None:
    """Return when the broker has created what is missing; existing topics only get the broker's time for records.

    Each partition is on `replicas` brokers. From three on, all but one of them must confirm a record, so that any one
    may be lost. Raise TopicsError.
    """
    shared = {_TIME_OF: _BROKER} | ({_MIN_IN_SYNC: str(replicas - 1)} if replicas >= _MIN_REDUNDANT else {})
    wanted = [
        NewTopic(prefix + one.name, one.partitions, replication_factor=replicas, config=one.config | shared)
        for one in topics
    ]
    client = admin_client(brokers)
    try:
        created = client.create_topics(wanted, operation_timeout=seconds, request_timeout=seconds)
        present = [name for name, result in created.items() if not _is_done(result, KafkaError.TOPIC_ALREADY_EXISTS)]
        _set_broker_time(client, present, seconds)
    except KafkaException as failure:
        raise TopicsError(f"the topics cannot be set up: {failure.args[0].str()}") from failure


def _set_broker_time(client: AdminClient, names: Iterable[str], seconds: float) -> None:
    # Set without a look at the present value: a broker may not know yet what its controller has just created.
    entry = ConfigEntry(_TIME_OF, _BROKER, incremental_operation=AlterConfigOpType.SET)
    topics = [ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry]) for name in names]
    altered = client.incremental_alter_configs(topics, request_timeout=seconds) if topics else {}
    for result in altered.values():
        result.result()


def delete_topics(
    brokers: str | KafkaSettings, prefix: str = "", topics: Iterable[Topic] = TOPICS, seconds: float = 30.0
) -> None:
    """Delete the topics that exist under this prefix."""
    names = [prefix + topic.name for topic in topics]
    client = admin_client(brokers)
    deleted = client.delete_topics(names, operation_timeout=seconds, request_timeout=seconds)
    for result in deleted.values():
        _is_done(result, KafkaError.UNKNOWN_TOPIC_OR_PART)


def admin_client(brokers: str | KafkaSettings) -> AdminClient:
    """Return an admin client that does not log absent brokers; without settings it logs in as tools do."""
    return AdminClient(admin_config(tool_settings(brokers) if isinstance(brokers, str) else brokers))


def tool_settings(brokers: str, prefix: str = "", environ: Mapping[str, str] = os.environ) -> KafkaSettings:
    """Return how the tools of the command line reach Kafka: TOCSIN_KAFKA_CA and others, as services have them.

    Raise StartError when these are wrong.
    """
    login = {name: value for name, value in environ.items() if name.startswith(f"{_TOOLS}KAFKA_")}
    own = {f"{_TOOLS}BROKERS": brokers, f"{_TOOLS}TOPIC_PREFIX": prefix}
    try:
        return load_settings(KafkaSettings, _TOOLS, login | own)
    except SettingsError as error:
        raise StartError("\n".join(error.problems)) from None


def _is_done(result: Future[None], harmless: int) -> bool:
    """Return whether it was done; False for the one failure that is harmless."""
    try:
        result.result()
    except KafkaException as failure:
        if failure.args[0].code() != harmless:
            raise
        return False
    return True
