"""A member of a consumer group, for asyncio.

The client blocks, so each of its calls runs on one thread, and its callbacks do too. What holds:

- A partition is read from its committed offset, or from the oldest record if Kafka no longer has that offset. The
  broker is asked for it after the rebalance callback: in the callback the whole group would wait for the answer.
- A record that was fetched before its partition moved, or before it was resumed from its committed offset, is not
  given out: the partition's owner reads it again from there.
- A batch is in flight from being fetched until it is committed. If its partitions are revoked meanwhile, the callback
  waits for it for a bounded time and commits it if it is handled by then; otherwise the batch is abandoned, because
  another member handles it again. Nothing is committed for partitions that have moved.
- A member that is fenced joins again under its name. Kafka fences a second process with that name, and also a member
  whose session ended unnoticed while Kafka was away, if it commits before it hears of that. Two processes fence each
  other in turns, so the one that is fenced twice within a minute fails.
- A client that hangs when it leaves is left behind: what it had not committed is read again by the next owner.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from operator import attrgetter
from typing import Any, TypeVar

import confluent_kafka
import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from services.chassis.health import Dependency
from services.chassis.kafka.config import (
    ALL_BROKERS_DOWN,
    BROKER_ABSENT,
    FATAL,
    absence_of,
    consumer_config,
    kafka_error_name,
    login_config,
    physical,
)
from services.chassis.kafka.lag import Lag
from services.chassis.kafka.login import LoginWatch
from services.chassis.kafka.partition_offsets import committed_offsets, end_offsets, topic_partitions
from services.chassis.kafka.record import CommittedOffset, InFlightBatch, Rebalance, Record, record_of
from services.chassis.kafka.silence import silence_config
from services.chassis.settings import KafkaSettings

log = structlog.get_logger()
_T = TypeVar("_T")

# How long a rebalance waits for the batch in flight.
_REVOKE_SECONDS = 3.0
_LEAVE_SECONDS = 3.0
_PROBE_SECONDS = 1.0
_REJOIN_INTERVAL_SECONDS = 60.0


class Consumer:
    """A member of a consumer group that reads one topic.

    A cooperative group moves partitions one by one; in an eager group each rebalance revokes all of them first. All
    members of a group must agree on it, so an existing group keeps its protocol.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        topic: str,
        group: str,
        instance: str | None = None,
        is_cooperative: bool = False,
        dependency: Dependency | None = None,
        lag: Lag | None = None,
        start_of: Callable[[CommittedOffset], int] = attrgetter("offset"),
        **overrides: Any,
    ) -> None:
        """Read an assigned partition from the offset that `start_of` returns for the committed one: usually that."""
        if instance:
            overrides = {"group_instance_id": instance, **overrides}
        if is_cooperative:
            overrides = {"partition_assignment_strategy": "cooperative-sticky", **overrides}
        config = consumer_config(settings, group, **overrides)
        callbacks = {"error_cb": self._handle_error, "on_commit": _log_failed_commit}
        self._config = {**config, **callbacks, **silence_config(self._handle_silence)}
        self._settings, self._login = settings, LoginWatch(settings)
        self._topic, self._physical, self._start_of = topic, physical(settings, topic), start_of
        self._labels = {"topic": topic, "group": group}
        self._is_cooperative = is_cooperative
        self._dependency = dependency
        self._lag = lag or Lag(topic, group)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"kafka-{group}")
        self._loop = asyncio.get_running_loop()
        # Since the last fetch.
        self._revoked: list[int] = []
        self._assigned: list[CommittedOffset] = []
        self._messages: list[Any] = []
        # During the last poll.
        self._moved: set[int] = set()
        # Assigned, but Kafka has not answered yet from where to read.
        self._unresumed: set[int] = set()
        self._starts: dict[int, int] = {}
        self._in_flight: InFlightBatch | None = None
        self._is_paused = self._must_probe = False
        self._fatal: KafkaError | None = None
        self._rejoin_at = 0.0
        self._has_joined = False

    @property
    def partition_count(self) -> int:
        """How many partitions the topic has; 0 until a partition is assigned."""
        return self._lag.partition_count

    @property
    def is_reading(self) -> bool:
        """Whether the group has assigned partitions, or none, and each is read from its committed offset."""
        return self._has_joined and not self._unresumed

    @asynccontextmanager
    async def joined(self) -> AsyncIterator["Consumer"]:
        """Be a member until the end of the block."""
        self._client = self._new_client()
        await self._call(self._subscribe)
        try:
            yield self
        finally:
            done, _ = await asyncio.wait({asyncio.ensure_future(self._call(self._leave))}, timeout=_LEAVE_SECONDS)
            if not done:
                log.warning("consumer_hangs", **self._labels)
            self._thread.shutdown(wait=False)

    async def fetch(self, limit: int, timeout_s: float, *, fill: bool = False) -> tuple[Rebalance, list[Record]]:
        """Return up to `limit` records: as soon as there is one, or with `fill` after `limit` records or the timeout.

        Raises KafkaException for errors that neither the client nor joining again can repair.
        """
        if self._fatal is not None:
            await self._call(self._rejoin, self._fatal)
        rebalance, messages = await self._call(self._fetch, limit, timeout_s, fill)
        return rebalance, [record_of(message, self._topic) for message in messages if not self._is_error(message)]

    @asynccontextmanager
    async def in_flight(self, offsets: Mapping[int, int]) -> AsyncIterator[InFlightBatch]:
        """Commit these offsets of a batch's partitions after the block that handles it, unless the batch was abandoned.

        In a cooperative group use `commit`: there a batch may contain partitions that stay.
        """
        batch = self._in_flight = InFlightBatch(offsets)
        try:
            yield batch
            batch.is_handled = not batch.is_abandoned
        finally:
            batch.over.set()
        await self._call(self._commit_batch, batch)

    async def heartbeat(self) -> None:
        """Stay in the group, and take part in rebalances, while a batch takes long; fetch nothing."""
        await self._call(self._heartbeat)

    async def commit(self, offsets: Sequence[CommittedOffset]) -> bool:
        """Commit offsets of partitions that were not revoked as of the last fetch; return whether Kafka has them."""
        return await self._call(self._commit, offsets)

    async def rewind(self, partition: int, offset: int) -> None:
        """Read a partition of a cooperative group from this offset on."""
        await self._call(self._read_from, {partition: offset})

    async def end_offsets(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """Ask the broker for the end of each partition; leave out those that it does not answer for."""
        return await self._call(lambda: end_offsets(self._client, self._physical, partitions))

    async def _call(self, function: Callable[..., _T], *arguments: Any) -> _T:
        return await self._loop.run_in_executor(self._thread, function, *arguments)

    # Below: on the client's thread.

    def _subscribe(self) -> None:
        self._client.subscribe(
            [self._physical], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def _new_client(self) -> confluent_kafka.Consumer:
        self._login.accept_files()
        return confluent_kafka.Consumer(self._config | login_config(self._settings))

    def _rejoin(self, fatal: KafkaError) -> None:
        """Replace the client; raise the error when this happened shortly before."""
        now = time.monotonic()
        if now < self._rejoin_at:
            raise KafkaException(fatal)
        self._rejoin_at = now + _REJOIN_INTERVAL_SECONDS
        self._replace_client(kafka_error_name(fatal))

    def _replace_client(self, reason: str) -> None:
        # First, since it fails while a certificate and its key do not fit together.
        client = self._new_client()
        self._client.close()
        self._release([TopicPartition(self._physical, partition) for partition in self._starts])
        self._client, self._fatal = client, None
        self._messages, self._unresumed, self._has_joined, self._is_paused = [], set(), False, False
        self._subscribe()
        log.warning("consumer_rejoined", reason=reason, **self._labels)

    def _renew_login(self) -> None:
        if self._login.needs_new_client(self._client):
            try:
                self._replace_client("CERTIFICATES_CHANGED")
            except KafkaException as error:
                log.warning("certificate_refused", path=self._settings.kafka_ca, reason=error.args[0].name())

    def _fetch(self, limit: int, timeout_s: float, fill: bool) -> tuple[Rebalance, list[Any]]:  # noqa: FBT001  (by position through the executor)
        self._renew_login()
        if self._is_paused:
            self._client.resume(self._client.assignment())
            self._is_paused = False
        self._poll(lambda: self._read(limit, timeout_s, fill=fill))
        if not self._must_probe:
            self._lag.measure(self._client, self._starts)
        rebalance = Rebalance(revoked=tuple(self._revoked), assigned=tuple(self._assigned))
        messages, self._messages = self._messages, []
        self._revoked, self._assigned = [], []
        return rebalance, messages

    def _read(self, limit: int, timeout_s: float, *, fill: bool) -> list[Any]:
        if fill:
            return self._client.consume(limit, timeout_s)
        # consume() waits for the whole batch or the whole time; poll() returns with the first record.
        first = self._client.poll(timeout_s)
        if first is None:
            return []
        return [first, *self._client.consume(limit - 1, 0)] if limit > 1 else [first]

    def _heartbeat(self) -> None:
        # Again each time: other partitions may have been assigned.
        self._client.pause(self._client.assignment())
        self._is_paused = True
        self._poll(lambda: [message for message in [self._client.poll(0)] if message is not None])

    def _poll(self, read: Callable[[], list[Any]]) -> None:
        """Read messages and serve callbacks; drop messages of partitions that moved meanwhile."""
        self._moved.clear()
        messages = self._messages + read()
        self._moved |= self._unresumed
        if self._must_probe:
            self._probe()
        if self._unresumed:
            self._resume()
        # An error stays: the one of a fenced member names partition 0, in the same poll that revokes all partitions.
        self._messages = [
            message for message in messages if message.error() is not None or message.partition() not in self._moved
        ]

    def _on_assign(self, _: Any, partitions: list[TopicPartition]) -> None:
        # After the callback the client assigns them, in the way of the group's protocol.
        self._unresumed.update(place.partition for place in partitions)
        self._has_joined = True
        self._on_loop(self._mark_up)

    def _on_revoke(self, _: Any, partitions: list[TopicPartition]) -> None:
        batch = self._in_flight
        if batch is not None and any(place.partition in batch.offsets for place in partitions):
            batch.over.wait(_REVOKE_SECONDS)
            self._commit_batch(batch, wait=True)
        self._release(partitions)

    def _on_lost(self, _: Any, partitions: list[TopicPartition]) -> None:
        self._release(partitions)

    def _release(self, places: list[TopicPartition]) -> None:
        partitions = [place.partition for place in places]
        log.info("partitions_revoked", partitions=partitions, **self._labels)
        self._revoked += partitions
        self._moved.update(partitions)
        self._unresumed.difference_update(partitions)
        self._assigned = [committed for committed in self._assigned if committed.partition not in partitions]
        for partition in partitions:
            self._starts.pop(partition, None)
        self._lag.reset()
        batch = self._in_flight
        if batch is not None and any(partition in batch.offsets for partition in partitions):
            self._in_flight, batch.is_revoked = None, True
            self._on_loop(batch.abandon)

    def _resume(self) -> None:
        """Read assigned partitions from their committed offsets; if Kafka does not answer, the next poll asks again."""
        try:
            resumed = committed_offsets(self._client, self._physical, sorted(self._unresumed))
            self._lag.partition_count = topic_partitions(self._client, self._physical)
        except KafkaException as error:
            log.warning("committed_offsets_unknown", error=error.args[0].name(), **self._labels)
            return
        offsets = {committed.partition: self._start_of(committed) for committed in resumed}
        self._read_from(offsets)
        # The client remembers a pause until the partition comes back.
        self._client.resume([TopicPartition(self._physical, partition) for partition in offsets])
        self._unresumed.clear()
        self._assigned += resumed
        self._lag.reset()
        log.info("partitions_assigned", offsets=offsets, **self._labels)

    def _read_from(self, offsets: Mapping[int, int]) -> None:
        places = [TopicPartition(self._physical, partition, offset) for partition, offset in offsets.items()]
        # A seek is refused while fetching has not begun; a new assignment is not.
        if self._is_cooperative:
            self._client.incremental_unassign(places)
            self._client.incremental_assign(places)
        else:
            self._client.assign(places)
        self._starts.update(offsets)

    def _commit(self, offsets: Sequence[CommittedOffset]) -> bool:
        return self._send_commit(
            [
                TopicPartition(self._physical, committed.partition, committed.offset, metadata=committed.metadata)
                for committed in offsets
            ],
            wait=True,
        )

    def _commit_batch(self, batch: InFlightBatch, *, wait: bool = False) -> None:
        if batch.is_handled and not batch.is_revoked:
            places = [TopicPartition(self._physical, partition, offset) for partition, offset in batch.offsets.items()]
            self._send_commit(places, wait=wait)

    def _send_commit(self, places: list[TopicPartition], *, wait: bool) -> bool:
        try:
            if wait:
                self._client.commit(offsets=places, asynchronous=False)
            else:
                self._client.commit(offsets=places, asynchronous=True)
        except KafkaException as error:
            # The next commit covers this one; until then a crash repeats the batch, which changes nothing.
            log.warning("commit_failed", error=error.args[0].name(), **self._labels)
            return False
        return True

    def _leave(self) -> None:
        if self._in_flight is not None:
            self._commit_batch(self._in_flight, wait=True)
        try:
            # Serve an assignment that waits: served by close(), it can hang for ever, with Python's global lock held.
            self._client.poll(0)
        finally:
            self._client.close()

    def _handle_error(self, error: KafkaError) -> None:
        if error.code() not in BROKER_ABSENT:
            log.warning("consumer_failed", error=kafka_error_name(error), text=error.str(), **self._labels)
        if is_fatal(error):
            self._fatal = error
        if error.code() == ALL_BROKERS_DOWN:
            self._must_probe = True
            self._on_loop(self._mark_down, absence_of(error))

    def _handle_silence(self) -> None:
        self._must_probe = True

    def _probe(self) -> None:
        try:
            topic_partitions(self._client, self._physical, timeout_s=_PROBE_SECONDS)
        except KafkaException as error:
            self._on_loop(self._mark_down, absence_of(error.args[0]))
        else:
            self._must_probe = False
            self._on_loop(self._mark_up)

    def _on_loop(self, function: Callable[..., object], *arguments: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)

    # Below: on the event loop.

    def _is_error(self, message: Any) -> bool:
        error = message.error()
        if error is None:
            return False
        if is_fatal(error):
            self._fatal = error
        log.warning("fetch_failed", error=kafka_error_name(error), **self._labels)
        return True

    def _mark_up(self) -> None:
        if self._dependency is not None:
            self._dependency.up()

    def _mark_down(self, reason: str) -> None:
        if self._dependency is not None:
            self._dependency.down(reason)


def is_fatal(error: KafkaError) -> bool:
    """Return whether the client cannot recover: a second process has joined under the same instance name, say."""
    return bool(error.fatal()) or error.code() == FATAL


def _log_failed_commit(error: KafkaError | None, _: list[TopicPartition]) -> None:
    if error is not None:
        log.warning("commit_failed", error=error.name())
