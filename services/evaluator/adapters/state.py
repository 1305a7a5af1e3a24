"""`window-state`: the last transition of each group, in a compacted topic."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import confluent_kafka
import structlog
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition

from services.chassis.failures import StreamUnavailable
from services.chassis.kafka import Producer, consumer_config, physical
from services.chassis.settings import KafkaSettings
from services.evaluator.adapters.kafka import Outgoing, deliver
from services.evaluator.adapters.partial_wire import Malformed
from services.evaluator.adapters.transition_wire import decode_state, encode_state
from services.evaluator.core.partial import Group, group_key
from services.evaluator.core.transition import Transition

log = structlog.get_logger()

WINDOW_STATE = "window-state"

_END_OF_PARTITION: int = KafkaError._PARTITION_EOF  # noqa: SLF001  (the client's public codes begin with an underscore)
_SILENCE_SECONDS = 10.0
_BATCH = 1000

# Of each partition, by key: the last transition.
_Found = dict[int, dict[bytes, Transition]]


class KafkaStateStore:
    """Read whole when a partition is taken up; written after `alerts` has the same transition."""

    def __init__(self, settings: KafkaSettings, producer: Producer) -> None:
        self._settings = settings
        self._producer = producer
        self._topic = physical(settings, WINDOW_STATE)

    async def load(self, partitions: Sequence[int]) -> Mapping[int, Sequence[Transition]]:
        """Read these partitions to their ends."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="kafka-window-state") as thread:
            found = await loop.run_in_executor(thread, self._read, partitions)
        return {partition: list(states.values()) for partition, states in found.items()}

    async def save(self, states: Sequence[tuple[int, Transition]]) -> None:
        """Keep transitions of different groups."""
        await deliver(
            self._producer,
            (
                Outgoing(
                    WINDOW_STATE,
                    encode_state(transition),
                    key=group_key(transition.rule_id, transition.group),
                    partition=partition,
                    headers=(),
                )
                for partition, transition in states
            ),
        )

    async def forget(self, keys: Sequence[tuple[int, str, Group]]) -> None:
        """Let compaction remove these groups."""
        await deliver(
            self._producer,
            (
                Outgoing(WINDOW_STATE, None, key=group_key(rule_id, group), partition=partition, headers=())
                for partition, rule_id, group in keys
            ),
        )

    def _read(self, partitions: Sequence[int]) -> _Found:
        config = consumer_config(self._settings, "alert-rule-engine-state-readers", enable_partition_eof=True)
        client = confluent_kafka.Consumer(config)
        try:
            client.assign([TopicPartition(self._topic, each, OFFSET_BEGINNING) for each in partitions])
            return self._until_the_end(client, set(partitions))
        except KafkaException as error:
            raise StreamUnavailable("the state of windows cannot be read") from error
        finally:
            client.close()

    def _until_the_end(self, client: Any, unread: set[int]) -> _Found:
        found: _Found = {partition: {} for partition in unread}
        while unread:
            messages = client.consume(_BATCH, timeout=0.1) or client.consume(1, timeout=_SILENCE_SECONDS)
            if not messages:
                raise StreamUnavailable("the state of windows does not come")
            for message in messages:
                error = message.error()
                if error is None:
                    _keep(found[message.partition()], message.key(), message.value())
                elif error.code() == _END_OF_PARTITION:
                    unread.discard(message.partition())
                else:
                    raise KafkaException(error)
        return found


def _keep(states: dict[bytes, Transition], key: bytes, value: bytes | None) -> None:
    """Take over a newer state. A former owner that was slow to notice may have written an older one last."""
    # Former versions deleted by an empty value, which compaction keeps.
    if not value:
        states.pop(key, None)
        return
    for transition in _decoded(value):
        known = states.get(key)
        if known is None or transition.rank >= known.rank:
            states[key] = transition


def _decoded(value: bytes) -> Iterator[Transition]:
    try:
        yield decode_state(value)
    except Malformed:
        log.exception("state_refused")
