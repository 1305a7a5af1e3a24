"""`window-state`: the last transition of each group, in a compacted topic.

Compaction keeps the newest record of a key, and a former owner that was frozen may write an older state last. So each
owner of a partition writes under keys of its own, and only the owner counts that is named beside the committed offset,
which the group lets nobody else commit. A new owner first writes all that it has read under its own name; what the
others have left is deleted once the new one is committed.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import confluent_kafka
import structlog
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition

from services.chassis.failures import StreamUnavailable
from services.chassis.kafka import Producer, consumer_config, physical
from services.chassis.settings import KafkaSettings
from services.contract.topics import WINDOW_STATE
from services.evaluator.adapters.kafka import Outgoing, deliver
from services.evaluator.adapters.partial_codec import MalformedError
from services.evaluator.adapters.transition_codec import decode_state, encode_state
from services.evaluator.core.records import Group, Transition, group_key

log = structlog.get_logger()

_END_OF_PARTITION: int = KafkaError._PARTITION_EOF  # noqa: SLF001  (the client's public codes begin with an underscore)
_SILENCE_SECONDS = 10.0
_BATCH = 1000
# No key of former versions, which begin with a length and a colon, is like this.
_OWNED = re.compile(rb"([0-9a-f]{32})/")

# Of each partition, by key: the last transition.
_Found = dict[int, dict[bytes, Transition]]


class KafkaStateStore:
    """Read whole when a partition is taken up; written after `alerts` has the same transition."""

    def __init__(self, settings: KafkaSettings, producer: Producer) -> None:
        self._settings = settings
        self._producer = producer
        self._topic = physical(settings, WINDOW_STATE)
        self._owners: dict[int, str] = {}
        # Keys of what others have kept, by partition.
        self._others: dict[int, list[bytes]] = {}

    async def take_up(self, former: Mapping[int, str], owners: Mapping[int, str]) -> Mapping[int, Sequence[Transition]]:
        """Read these partitions to their ends, and write down what counts under the new owners' names."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="kafka-window-state") as thread:
            found = await loop.run_in_executor(thread, self._read, list(former))
        kept = {partition: _counting(states, former[partition]) for partition, states in found.items()}
        self._owners.update(owners)
        self._others.update(
            {
                partition: [key for key in states if _owner_of(key) != owners[partition]]
                for partition, states in found.items()
            }
        )
        await self.save([(partition, state) for partition, states in kept.items() for state in states])
        return kept

    async def clear(self, partitions: Sequence[int]) -> None:
        """Let compaction remove what other owners had kept when these partitions were taken up."""
        keys = [(partition, key) for partition in partitions for key in self._others.get(partition, ())]
        await self._delete(keys)
        for partition in partitions:
            self._others.pop(partition, None)

    async def save(self, states: Sequence[tuple[int, Transition]]) -> None:
        """Keep transitions of different groups."""
        await deliver(
            self._producer,
            (
                Outgoing(
                    WINDOW_STATE,
                    encode_state(transition),
                    key=self._key(partition, transition.rule_id, transition.group),
                    partition=partition,
                    headers=(),
                )
                for partition, transition in states
            ),
        )

    async def forget(self, keys: Sequence[tuple[int, str, Group]]) -> None:
        """Let compaction remove these groups."""
        await self._delete([(partition, self._key(partition, rule_id, group)) for partition, rule_id, group in keys])

    def _key(self, partition: int, rule_id: str, group: Group) -> bytes:
        return self._owners[partition].encode() + b"/" + group_key(rule_id, group)

    async def _delete(self, keys: Sequence[tuple[int, bytes]]) -> None:
        await deliver(
            self._producer,
            (Outgoing(WINDOW_STATE, None, key=key, partition=partition, headers=()) for partition, key in keys),
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


def _counting(states: Mapping[bytes, Transition], former: str) -> list[Transition]:
    """Give what the former owner has kept. One of a former version goes by all that it has read, the newest first."""
    if former:
        return [state for key, state in states.items() if _owner_of(key) == former]
    newest: dict[bytes, Transition] = {}
    for state in sorted(states.values(), key=lambda state: state.rank):
        newest[group_key(state.rule_id, state.group)] = state
    return list(newest.values())


def _owner_of(key: bytes) -> str:
    """Name who wrote under a key; nobody by name in former versions."""
    named = _OWNED.match(key)
    return named[1].decode() if named else ""


def _keep(states: dict[bytes, Transition], key: bytes, value: bytes | None) -> None:
    """Take over a newer state. Former versions let an owner that was slow to notice write an older one last."""
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
    except MalformedError:
        log.exception("state_refused")
