"""`window-state`: the last transition of each group, in a compacted topic.

Compaction keeps the newest record of a key, and a former owner that was frozen may write an older state last. So each
owner of a partition writes under keys of its own. The metadata of the committed offset names the owner whose states
count, and the group lets no other member commit. A new owner first writes all states that it read under its own name;
those of other owners are deleted once the new owner is committed.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import confluent_kafka
import structlog
from confluent_kafka import OFFSET_BEGINNING, KafkaException, TopicPartition
from google.protobuf.message import DecodeError

from services.chassis.failures import StreamUnavailable
from services.chassis.kafka import OutgoingRecord, Producer, consumer_config, physical, produce_all
from services.chassis.kafka.config import PARTITION_EOF
from services.chassis.settings import KafkaSettings
from services.contract.timestamps import nanoseconds_of
from services.contract.topics import WINDOW_STATE
from services.domain.severity import Severity
from services.domain.tenants import read_tenant
from services.evaluator.adapters.alerts import transition_message
from services.evaluator.adapters.messages import MalformedError, sample_of
from services.evaluator.core.records import (
    Group,
    Transition,
    TransitionReason,
    TransitionState,
    WindowResult,
    group_key,
)
from tocsin.alerts.v1 import alert_pb2
from tocsin.evaluation.v1 import partial_pb2

log = structlog.get_logger()

_READ_TIMEOUT_SECONDS = 10.0
_BATCH_RECORDS = 1000
# Keys of former versions begin with a length and a colon instead.
_OWNED_KEY = re.compile(rb"([0-9a-f]{32})/")

# The last transition by partition and key.
_States = dict[int, dict[bytes, Transition]]


class KafkaStateStore:
    """Reads all states of a partition when it is assigned; saves a state after `alerts` has the transition."""

    def __init__(self, settings: KafkaSettings, producer: Producer) -> None:
        self._settings = settings
        self._producer = producer
        self._topic = physical(settings, WINDOW_STATE)
        self._owners: dict[int, str] = {}
        # Keys of other owners, by partition.
        self._other_keys: dict[int, list[bytes]] = {}

    async def load(self, former: Mapping[int, str], owners: Mapping[int, str]) -> Mapping[int, Sequence[Transition]]:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="kafka-window-state") as thread:
            states = await loop.run_in_executor(thread, self._read, list(former))
        owned = {partition: _owned_states(states[partition], owner) for partition, owner in former.items()}
        self._owners.update(owners)
        for partition, by_key in states.items():
            self._other_keys[partition] = [key for key in by_key if _owner_of(key) != owners[partition]]
        await self.save([(partition, state) for partition, kept in owned.items() for state in kept])
        return owned

    async def delete_former(self, partitions: Sequence[int]) -> None:
        keys = [(partition, key) for partition in partitions for key in self._other_keys.get(partition, ())]
        await self._delete(keys)
        for partition in partitions:
            self._other_keys.pop(partition, None)

    async def save(self, states: Sequence[tuple[int, Transition]]) -> None:
        await produce_all(
            self._producer,
            (
                OutgoingRecord(
                    WINDOW_STATE,
                    encode_state(transition),
                    key=self._key(partition, transition.rule_id, transition.group),
                    partition=partition,
                    headers=(),
                )
                for partition, transition in states
            ),
        )

    async def delete(self, keys: Sequence[tuple[int, str, Group]]) -> None:
        await self._delete([(partition, self._key(partition, rule_id, group)) for partition, rule_id, group in keys])

    def _key(self, partition: int, rule_id: str, group: Group) -> bytes:
        return self._owners[partition].encode() + b"/" + group_key(rule_id, group)

    async def _delete(self, keys: Sequence[tuple[int, bytes]]) -> None:
        await produce_all(
            self._producer,
            (OutgoingRecord(WINDOW_STATE, None, key=key, partition=partition, headers=()) for partition, key in keys),
        )

    def _read(self, partitions: Sequence[int]) -> _States:
        config = consumer_config(self._settings, "alert-rule-engine-state-readers", enable_partition_eof=True)
        client = confluent_kafka.Consumer(config)
        try:
            client.assign([TopicPartition(self._topic, partition, OFFSET_BEGINNING) for partition in partitions])
            return self._read_to_end(client, set(partitions))
        except KafkaException as error:
            raise StreamUnavailable("the state of windows cannot be read") from error
        finally:
            client.close()

    def _read_to_end(self, client: Any, unread: set[int]) -> _States:
        states: _States = {partition: {} for partition in unread}
        while unread:
            messages = client.consume(_BATCH_RECORDS, timeout=0.1) or client.consume(1, timeout=_READ_TIMEOUT_SECONDS)
            if not messages:
                raise StreamUnavailable("the state of windows cannot be read in time")
            for message in messages:
                error = message.error()
                if error is None:
                    _apply(states[message.partition()], message.key(), message.value())
                elif error.code() == PARTITION_EOF:
                    unread.discard(message.partition())
                else:
                    raise KafkaException(error)
        return states


def _owned_states(states: Mapping[bytes, Transition], owner: str) -> list[Transition]:
    """Return the owner's states; for a former version, which named no owner, the newest state of each group."""
    if owner:
        return [state for key, state in states.items() if _owner_of(key) == owner]
    newest: dict[bytes, Transition] = {}
    for state in sorted(states.values(), key=lambda state: state.rank):
        newest[group_key(state.rule_id, state.group)] = state
    return list(newest.values())


def _owner_of(key: bytes) -> str:
    """Return the owner that wrote under a key; former versions wrote none."""
    match = _OWNED_KEY.match(key)
    return match[1].decode() if match else ""


def _apply(states: dict[bytes, Transition], key: bytes, value: bytes | None) -> None:
    """Apply a record. In former versions an owner that noticed a rebalance late could write an older state last."""
    # Former versions deleted by an empty value, which compaction keeps.
    if not value:
        states.pop(key, None)
        return
    for transition in _decode(value):
        last = states.get(key)
        if last is None or transition.rank >= last.rank:
            states[key] = transition


def _decode(value: bytes) -> Iterator[Transition]:
    try:
        yield decode_state(value)
    except MalformedError:
        log.exception("state_unreadable")


def encode_state(transition: Transition) -> bytes:
    """Encode a group's last transition as the value of a record on `window-state`."""
    return partial_pb2.WindowState(
        rule_id=transition.rule_id,
        selection_revision=transition.selection_revision,
        group=transition.group,
        transition=transition_message(transition),
    ).SerializeToString()


def decode_state(value: bytes) -> Transition:
    """Decode a group's last transition; raises MalformedError."""
    try:
        state = partial_pb2.WindowState.FromString(value)
        message = state.transition
        return Transition(
            id=message.id,
            state=TransitionState(message.state),
            reason=TransitionReason.RESTORED,
            rule_id=state.rule_id,
            selection_revision=state.selection_revision,
            rule_revision=message.rule_revision,
            rule_name=message.rule_name,
            description=message.description,
            severity=Severity(message.severity),
            resource=message.resource,
            group=tuple(state.group),
            group_fields=dict(message.group),
            labels=dict(message.labels),
            fingerprint=message.fingerprint,
            window=_window(message.window),
            first_window_ns=nanoseconds_of(message.first_window_time),
            samples=tuple(sample_of(sample) for sample in message.samples),
            created_ns=nanoseconds_of(message.create_time),
            tenant=read_tenant(message.tenant),
        )
    except (DecodeError, ValueError) as error:
        raise MalformedError(str(error)) from None


def _window(message: alert_pb2.WindowResult) -> WindowResult:
    return WindowResult(
        start_ns=nanoseconds_of(message.start_time),
        end_ns=nanoseconds_of(message.end_time),
        count=message.count,
        total=message.total,
        sum=message.sum,
        avg=message.avg if message.HasField("avg") else None,
        min=message.min if message.HasField("min") else None,
        max=message.max if message.HasField("max") else None,
        condition=message.condition,
        threshold=message.threshold,
        last_event_ns=nanoseconds_of(message.last_event_time) if message.HasField("last_event_time") else None,
    )
