"""Consuming: fetch a batch, have it handled, commit. In that order, whatever happens."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog

from services.chassis import telemetry
from services.chassis.backoff import Backoff
from services.chassis.failures import Failure, is_transient
from services.chassis.health import Dependency
from services.chassis.kafka.config import consumer_config
from services.chassis.kafka.group import GroupMember
from services.chassis.kafka.producer import Producer
from services.chassis.kafka.record import Record
from services.chassis.lifecycle import background
from services.chassis.settings import KafkaSettings

log = structlog.get_logger()

Handle = Callable[[list[Record]], Awaitable[None]]

_FETCH_SECONDS = 0.25
# After this long with one batch the member is shown to the group as alive but busy.
_HOLD_SECONDS = 1.0
# A batch that crashes this often is taken apart, to find the record that it crashes on.
_CRASHES = 3
# When as many in a row crash it, the fault is not theirs: then nothing more is put aside for that.
_MOST_CRASHED = 20


class Poison(Exception):  # noqa: N818  (it names the thing, as Failure's kin do)
    """Raised by a handler for a record that can never be handled; the rest of the batch is handled again."""

    def __init__(self, record: Record, reason: str) -> None:
        super().__init__(reason)
        self.record = record
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetters:
    """Where poisonous records go: `encode` makes the dead letter's value from record and reason."""

    producer: Producer
    encode: Callable[[Record, str], bytes]
    topic: str = "log-events-dead-letter"

    async def keep(self, record: Record, reason: str) -> None:
        """Put the record aside; raises StreamUnavailable."""
        await self.producer.send(self.topic, self.encode(record, reason), record.key, None, record.headers)


@asynccontextmanager
async def consuming(
    settings: KafkaSettings,
    *,
    topic: str,
    group: str,
    handle: Handle,
    dependency: Dependency | None = None,
    instance: str | None = None,
    dead_letters: DeadLetters | None = None,
    max_batch: int = 500,
    drain: timedelta = timedelta(seconds=5),
    retry: Backoff = Backoff(),
    **overrides: Any,
) -> AsyncIterator[None]:
    """Consume `topic` until the end of the block; then finish the batch in hand within `drain`, commit, and leave.

    `handle` gets records of any partitions, each partition's in order, and may see a record again: after a crash,
    a rebalance, or its own failure. A transient Failure is tried again without end, with growing pauses, while the
    member stays in its group. Poison goes to the dead letters; so does a record that crashes the handler each time,
    unless every record does: then the fault is the handler's, and the stream waits for a better one.
    A fatal error of the client ends the service.
    """
    if instance:
        overrides = {"group_instance_id": instance, **overrides}
    config = consumer_config(settings, group, **overrides)
    member = GroupMember(config, settings.topic_prefix, topic, group, dependency)
    worker = _Worker(member, _Settling(handle, dead_letters, retry, topic), max_batch)
    async with background(worker.run(), name=f"consume {topic}", stop=worker.stop, within=drain):
        try:
            yield
        finally:
            worker.stop()


class _Worker:
    """The loop: fetch, settle, commit."""

    def __init__(self, member: GroupMember, settling: "_Settling", max_batch: int) -> None:
        self._member = member
        self._settling = settling
        self._max_batch = max_batch
        self._is_stopping = False

    def stop(self) -> None:
        """Take no further batch."""
        self._is_stopping = True

    async def run(self) -> None:
        """Work until stopped."""
        async with self._member.joined():
            while not self._is_stopping:
                batch = await self._member.fetch(self._max_batch, _FETCH_SECONDS)
                if batch:
                    await self._work(batch)

    async def _work(self, batch: list[Record]) -> None:
        with self._member.holding(batch) as hold:
            task = asyncio.create_task(self._settling.settle(batch))
            hold.on_abandoned(task.cancel)
            try:
                await self._stay(task)
                task.result()
            except asyncio.CancelledError:
                if not hold.is_abandoned:
                    raise
                log.info("batch_abandoned", records=len(batch))
                return
            finally:
                task.cancel()
            hold.mark_done()
        await self._member.commit(hold)

    async def _stay(self, task: "asyncio.Task[None]") -> None:
        """Wait for the task; keep polling, with the partitions paused, when it takes long."""
        done, _ = await asyncio.wait({task}, timeout=_HOLD_SECONDS)
        if done:
            return
        await self._member.pause()
        while not task.done():
            await asyncio.wait({task}, timeout=_HOLD_SECONDS)
            await self._member.stay()
        await self._member.resume()


class _Settling:
    """Has a batch handled until every record of it is either done or put aside."""

    def __init__(self, handle: Handle, dead_letters: DeadLetters | None, retry: Backoff, topic: str) -> None:
        self._handle = handle
        self._dead_letters = dead_letters
        self._retry = retry
        self._topic = topic
        self._crashed_in_a_row = 0
        meter = telemetry.meter(__name__)
        self._records = meter.create_counter(
            "tocsin.kafka.consumer.records", description="Records consumed, by what became of them."
        )
        self._retries = meter.create_counter(
            "tocsin.kafka.consumer.retries", description="Batches that had to be handled again, by reason."
        )

    async def settle(self, batch: Sequence[Record]) -> None:
        """Return when nothing of the batch is left to do."""
        left = list(batch)
        crashes = attempt = 0
        while left:
            try:
                await self._handle(left)
            except Poison as poison:
                await self._put_aside(poison.record, poison.reason)
                left.remove(poison.record)
                continue
            except Failure as failure:
                reason = failure.reason
                if not is_transient(failure):
                    crashes += 1
                    log.exception("batch_refused", topic=self._topic, reason=reason)
            except Exception:
                reason = "CRASHED"
                crashes += 1
                log.exception("batch_crashed", topic=self._topic, records=len(left))
            else:
                self._crashed_in_a_row = 0
                self._count(len(left), "handled")
                return
            if crashes >= _CRASHES and self._crashed_in_a_row < _MOST_CRASHED:
                await self._take_apart(left)
                return
            await self._pause(attempt, reason)
            attempt += 1

    async def _take_apart(self, batch: list[Record]) -> None:
        """Handle each record by itself; put those aside that crash the handler even then."""
        if len(batch) == 1:
            self._crashed_in_a_row += 1
            await self._put_aside(batch[0], "the handler crashes on it")
            return
        for record in batch:
            await self.settle([record])

    async def _put_aside(self, record: Record, reason: str) -> None:
        where = {"topic": self._topic, "partition": record.partition, "offset": record.offset}
        log.error("record_put_aside", reason=reason, kept=self._dead_letters is not None, **where)
        attempt = 0
        while self._dead_letters is not None:
            try:
                await self._dead_letters.keep(record, reason)
                break
            except Failure as failure:
                await self._pause(attempt, failure.reason)
                attempt += 1
        self._count(1, "put_aside")

    async def _pause(self, attempt: int, reason: str) -> None:
        self._retries.add(1, {"topic": self._topic, "reason": reason})
        log.warning("batch_retried", topic=self._topic, reason=reason, attempt=attempt)
        await asyncio.sleep(self._retry.delay(attempt).total_seconds())

    def _count(self, records: int, outcome: str) -> None:
        self._records.add(records, {"topic": self._topic, "outcome": outcome})
