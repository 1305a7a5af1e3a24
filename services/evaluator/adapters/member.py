"""A member of a consumer group that tells how its share changes, and from which mark each partition is taken up."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import confluent_kafka
import structlog
from confluent_kafka import KafkaException, TopicPartition

from services.chassis.kafka import Record, consumer_config, physical, record_of
from services.chassis.settings import KafkaSettings
from services.evaluator.ports import CommittedOffset, Rebalance

log = structlog.get_logger()
T = TypeVar("T")

_ASK_SECONDS = 5.0


@dataclass(slots=True)
class _Changes:
    revoked: list[int] = field(default_factory=list)
    taken: list[CommittedOffset] = field(default_factory=list)


class Member:
    """Every call of the client happens on one thread of its own. Partitions move one by one (cooperative)."""

    def __init__(self, settings: KafkaSettings, *, topic: str, group: str, instance: str, **overrides: Any) -> None:
        self._topic, self._group = topic, group
        self._physical = physical(settings, topic)
        self._config = consumer_config(
            settings,
            group,
            group_instance_id=instance,
            partition_assignment_strategy="cooperative-sticky",
            **overrides,
        )
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"kafka-{group}")
        self._changes = _Changes()
        self._starts: dict[int, int] = {}
        # Assigned, but Kafka has not told yet where to take them up.
        self._untaken: set[int] = set()
        self.partitions = 0

    @asynccontextmanager
    async def joined(self) -> AsyncIterator["Member"]:
        """Be a member until the end of the block."""
        self._client = confluent_kafka.Consumer(self._config)
        await self._call(self._subscribe)
        try:
            yield self
        finally:
            await asyncio.shield(self._call(self._client.close))
            self._thread.shutdown(wait=False)

    async def gather(self, most: int, within: float) -> tuple[Rebalance, list[Record]]:
        """Give `most` records, or what came `within` seconds."""
        return self._settled(await self._call(self._fetch, self._client.consume, most, within))

    async def next(self, most: int, within: float) -> tuple[Rebalance, list[Record]]:
        """Give what there is, as soon as there is something, at most `most` records."""
        return self._settled(await self._call(self._fetch, self._next, most, within))

    async def commit(self, marks: Sequence[CommittedOffset]) -> bool:
        """Keep marks; False when Kafka did not take them."""
        return await self._call(self._commit, marks)

    async def rewind(self, partition: int, offset: int) -> None:
        """Read on from there."""
        await self._call(self._rewind, TopicPartition(self._physical, partition, offset))

    async def end_offsets(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """Ask the broker for the next offset of each partition; those that it does not tell are left out."""
        return await self._call(self._ends, partitions)

    async def lags(self) -> Mapping[int, int]:
        """Give how many records each partition is behind, as far as the client knows without asking."""
        return await self._call(self._lags)

    async def call(self, act: Callable[..., T], *arguments: Any) -> T:
        """Do something on the member's thread."""
        return await self._call(act, *arguments)

    async def _call(self, act: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, act, *arguments)

    def _settled(self, messages: list[Any]) -> tuple[Rebalance, list[Record]]:
        changes, self._changes = self._changes, _Changes()
        records = [record_of(message, self._topic) for message in messages if self._is_sound(message)]
        # What was fetched before a partition went, or before it was taken up, is not what comes from its mark on.
        moved = {*changes.revoked, *self._untaken, *(mark.partition for mark in changes.taken)}
        records = [record for record in records if record.partition not in moved]
        return Rebalance(revoked=tuple(changes.revoked), assigned=tuple(changes.taken)), records

    def _is_sound(self, message: Any) -> bool:
        error = message.error()
        if error is not None and error.fatal():
            raise KafkaException(error)
        if error is not None:
            log.warning("fetch_failed", topic=self._topic, error=error.name())
        return error is None

    # Below: on the member's own thread.

    def _subscribe(self) -> None:
        self._client.subscribe(
            [self._physical], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )

    def _fetch(self, fetch: Callable[[int, float], list[Any]], most: int, within: float) -> list[Any]:
        messages = fetch(most, within)
        if self._untaken:
            self._take_up()
        return messages

    def _next(self, most: int, within: float) -> list[Any]:
        first = self._client.poll(within)
        return [] if first is None else [first, *self._client.consume(most - 1, 0)]

    def _rewind(self, where: TopicPartition) -> None:
        # A seek is refused while fetching has not begun; being assigned anew is not.
        self._client.incremental_unassign([where])
        self._client.incremental_assign([where])

    def _commit(self, marks: Sequence[CommittedOffset]) -> bool:
        offsets = [
            TopicPartition(self._physical, mark.partition, mark.offset, metadata=mark.metadata) for mark in marks
        ]
        try:
            self._client.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            # The next commit covers this one; until then a restart only does more again, which changes nothing.
            log.warning("commit_failed", topic=self._topic, error=error.args[0].name())
            return False
        return True

    def _ends(self, partitions: Sequence[int]) -> dict[int, int]:
        found = {}
        for partition in partitions:
            try:
                where = TopicPartition(self._physical, partition)
                found[partition] = self._client.get_watermark_offsets(where, timeout=1.0)[1]
            except KafkaException:
                continue
        return found

    def _lags(self) -> dict[int, int]:
        lags = {}
        for each in self._client.position(self._client.assignment()):
            high = self._client.get_watermark_offsets(each, cached=True)[1]
            if each.partition in self._untaken:
                continue
            # The client has no position where nothing has come yet.
            taken = each.offset if each.offset >= 0 else self._starts[each.partition]
            if high >= 0:
                lags[each.partition] = max(0, high - taken)
        return lags

    def _assigned(self, client: Any, partitions: list[TopicPartition]) -> None:
        client.incremental_assign(partitions)
        self._untaken.update(each.partition for each in partitions)

    def _take_up(self) -> None:
        """Begin with what is assigned; while Kafka does not say where, the next fetch asks again."""
        try:
            marks = self._marks([TopicPartition(self._physical, each) for each in sorted(self._untaken)])
        except KafkaException as error:
            log.warning("question_failed", topic=self._topic, error=error.args[0].name())
            return
        for mark in marks:
            self._rewind(TopicPartition(self._physical, mark.partition, mark.offset))
        self._untaken.clear()
        self._changes.taken += marks
        self._starts.update(_offsets(marks))
        log.info("partitions_assigned", topic=self._topic, group=self._group, marks=_offsets(marks))

    def _marks(self, partitions: list[TopicPartition]) -> list[CommittedOffset]:
        marks = [self._mark(each) for each in self._client.committed(partitions, timeout=_ASK_SECONDS)]
        topics = self._client.list_topics(self._physical, timeout=_ASK_SECONDS).topics
        self.partitions = len(topics[self._physical].partitions)
        return marks

    def _mark(self, committed: TopicPartition) -> CommittedOffset:
        """Say where a partition is taken up: where it was left, or at the oldest record that there is still."""
        if committed.error is not None:
            raise KafkaException(committed.error)
        where = TopicPartition(self._physical, committed.partition)
        low, high = self._client.get_watermark_offsets(where, timeout=_ASK_SECONDS)
        if low <= committed.offset <= high:
            return CommittedOffset(
                partition=committed.partition, offset=committed.offset, metadata=committed.metadata or ""
            )
        metadata = (committed.metadata or "") if committed.offset >= 0 else ""
        return CommittedOffset(partition=committed.partition, offset=low, metadata=metadata)

    def _revoked(self, _: Any, partitions: list[TopicPartition]) -> None:
        revoked = [each.partition for each in partitions]
        self._changes.revoked += revoked
        self._untaken.difference_update(revoked)
        self._changes.taken = [mark for mark in self._changes.taken if mark.partition not in revoked]
        log.info("partitions_revoked", topic=self._topic, group=self._group, partitions=revoked)


def _offsets(marks: Sequence[CommittedOffset]) -> dict[int, int]:
    return {mark.partition: mark.offset for mark in marks}
