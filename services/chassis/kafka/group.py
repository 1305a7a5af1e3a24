"""A member of a consumer group: the blocking client on one thread of its own, asked from asyncio."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import confluent_kafka
import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from services.chassis.health import Dependency
from services.chassis.kafka.config import ALL_BROKERS_DOWN, BROKER_ABSENT, FATAL
from services.chassis.kafka.hold import Hold
from services.chassis.kafka.lag import Lag
from services.chassis.kafka.record import Record, record_of

log = structlog.get_logger()
T = TypeVar("T")

# How long a rebalance waits for the batch in hand; it is handled again elsewhere if that is not enough.
_REVOKE_SECONDS = 3.0
_PROBE_SECONDS = 1.0
_LEAVE_SECONDS = 3.0


class GroupMember:
    """One member of a group, on one topic; every call of the client happens on the same thread."""

    def __init__(
        self, config: dict[str, Any], prefix: str, topic: str, lag: Lag, dependency: Dependency | None
    ) -> None:
        self._config = {**config, "error_cb": self._note_error, "on_commit": _note_commit}
        self._topic, self._physical = topic, prefix + topic
        self._dependency = dependency
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"kafka-{lag.group}")
        self._loop = asyncio.get_running_loop()
        self._generation = 0
        self._hold: Hold | None = None
        self._ahead: list[Any] = []
        self._must_probe = False
        self.has_joined = False
        self._fatal: KafkaError | None = None
        self._lag = lag
        self._labels = {"topic": topic, "group": lag.group}

    @asynccontextmanager
    async def joined(self) -> AsyncIterator[None]:
        """Be a member until the end of the block."""
        self._client = confluent_kafka.Consumer(self._config)
        await self._call(self._subscribe)
        try:
            yield
        finally:
            await self._part()

    async def _part(self) -> None:
        """Commit, leave, and let the thread go; a client that hangs is left behind."""
        done, _ = await asyncio.wait({asyncio.ensure_future(self._call(self._leave))}, timeout=_LEAVE_SECONDS)
        if not done:
            log.warning("consumer_hangs", **self._labels)
        self._thread.shutdown(wait=False)

    async def fetch(self, most: int, within: float) -> list[Record]:
        """Return what is there, at most `most` records; wait up to `within` for the first. Raises on fatal errors."""
        if self._fatal is not None:
            raise KafkaException(self._fatal)
        messages, self._ahead = self._ahead, []
        messages += await self._call(self._fetch, most, within)
        return [record_of(each, self._topic) for each in messages if not self._is_error(each)]

    @contextmanager
    def holding(self, batch: Sequence[Record]) -> Iterator[Hold]:
        """Keep a batch in hand; a rebalance meanwhile waits a little for it, then abandons it."""
        hold = self._hold = Hold(batch, self._generation)
        try:
            yield hold
        finally:
            hold.over.set()

    async def commit(self, hold: Hold) -> None:
        """Commit a batch that is done, unless its partitions have gone elsewhere."""
        await self._call(lambda: self._commit(hold, wait=False))

    async def pause(self) -> None:
        """Fetch nothing from any partition until `resume`."""
        await self._call(lambda: self._client.pause(self._client.assignment()))

    async def resume(self) -> None:
        """Fetch again."""
        await self._call(lambda: self._client.resume(self._client.assignment()))

    async def stay(self) -> None:
        """Show the group that this member lives, and take part in rebalances."""
        self._ahead += await self._call(self._stay)

    async def _call(self, act: Callable[..., T], *arguments: Any) -> T:
        return await self._loop.run_in_executor(self._thread, act, *arguments)

    # Below: on the member's own thread.

    def _subscribe(self) -> None:
        self._client.subscribe([self._physical], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)

    def _fetch(self, most: int, timeout: float) -> list[Any]:
        # consume() waits for a full batch or for the whole time; poll() returns with the first record.
        first = self._client.poll(timeout)
        if self._must_probe:
            self._probe()
        if not self._must_probe:
            self._lag.measure(self._client)
        if first is None:
            return []
        return [first, *self._client.consume(most - 1, 0)] if most > 1 else [first]

    def _stay(self) -> list[Any]:
        assigned = self._client.assignment()
        if assigned:
            self._client.pause(assigned)
        message = self._client.poll(0)
        if self._must_probe:
            self._probe()
        return [] if message is None else [message]

    def _commit(self, hold: Hold, *, wait: bool) -> None:
        if not hold.is_done or hold.generation != self._generation:
            return
        offsets = [TopicPartition(self._physical, partition, offset) for partition, offset in hold.offsets.items()]
        try:
            if wait:
                self._client.commit(offsets=offsets, asynchronous=False)
            else:
                self._client.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            # The next commit covers this one; until then a crash repeats the batch, which changes nothing.
            log.warning("commit_failed", error=error.args[0].name(), **self._labels)

    def _assigned(self, _: Any, partitions: list[TopicPartition]) -> None:
        log.info("partitions_assigned", partitions=[each.partition for each in partitions], **self._labels)
        self.has_joined = True
        self._lag.forget()
        self._on_loop(self._mark, "")

    def _revoked(self, _: Any, partitions: list[TopicPartition]) -> None:
        hold = self._hold
        if hold is not None:
            hold.over.wait(_REVOKE_SECONDS)
            self._commit(hold, wait=True)
        self._let_go(partitions)

    def _lost(self, _: Any, partitions: list[TopicPartition]) -> None:
        self._let_go(partitions)

    def _let_go(self, partitions: list[TopicPartition]) -> None:
        log.info("partitions_revoked", partitions=[each.partition for each in partitions], **self._labels)
        self._generation += 1
        self._ahead = []
        self._lag.forget()
        hold, self._hold = self._hold, None
        if hold is not None:
            self._on_loop(hold.abandon)

    def _leave(self) -> None:
        if self._hold is not None:
            self._commit(self._hold, wait=True)
        self._client.close()

    def _note_error(self, error: KafkaError) -> None:
        if error.code() not in BROKER_ABSENT:
            log.warning("consumer_troubled", error=error.name(), text=error.str(), **self._labels)
        if error.fatal():
            self._fatal = error
        if error.code() == ALL_BROKERS_DOWN:
            self._must_probe = True
            self._on_loop(self._mark, error.str())

    def _probe(self) -> None:
        try:
            self._client.list_topics(self._physical, timeout=_PROBE_SECONDS)
        except KafkaException as error:
            self._on_loop(self._mark, error.args[0].str())
        else:
            self._must_probe = False
            self._on_loop(self._mark, "")

    def _on_loop(self, act: Callable[..., object], *arguments: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(act, *arguments)

    # Below: on the event loop.

    def _is_error(self, message: Any) -> bool:
        error = message.error()
        if error is None:
            return False
        if error.fatal() or error.code() == FATAL:
            raise KafkaException(self._fatal or error)
        log.warning("fetch_failed", error=error.name(), **self._labels)
        return True

    def _mark(self, reason: str) -> None:
        if self._dependency is None:
            return
        if reason:
            self._dependency.down(reason)
        else:
            self._dependency.up()


def _note_commit(error: KafkaError | None, _: list[TopicPartition]) -> None:
    if error is not None:
        log.warning("commit_failed", error=error.name())
