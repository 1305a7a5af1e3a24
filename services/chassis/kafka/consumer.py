"""Consuming: fetch a batch, have it handled, commit. In that order, whatever happens."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import structlog
from confluent_kafka import KafkaException

from services.chassis.backoff import Backoff
from services.chassis.health import Dependency, Health
from services.chassis.kafka.batch_processor import BatchProcessor, DeadLetterPublisher, Handle
from services.chassis.kafka.config import FATAL, consumer_config
from services.chassis.kafka.group import GroupMember
from services.chassis.kafka.lag import Lag
from services.chassis.kafka.record import Record
from services.chassis.loops import Loop, background
from services.chassis.settings import KafkaSettings

log = structlog.get_logger()

_FETCH_SECONDS = 0.25
# After this long with one batch the member is shown to the group as alive but busy.
_HOLD_SECONDS = 1.0


@asynccontextmanager
async def consuming(
    settings: KafkaSettings,
    *,
    topic: str,
    group: str,
    handle: Handle,
    dependency: Dependency | None = None,
    health: Health | None = None,
    instance: str | None = None,
    dead_letters: DeadLetterPublisher | None = None,
    max_batch: int = 500,
    drain: timedelta = timedelta(seconds=5),
    retry: Backoff = Backoff(),
    **overrides: Any,
) -> AsyncIterator[None]:
    """Consume `topic` until the end of the block; then finish the batch in hand within `drain`, commit, and leave.

    `handle` gets records of any partitions, each partition's in order, and may see a record again: after a crash,
    a rebalance, or its own failure. A transient Failure is tried again without end, with growing pauses, while the
    member stays in its group, and `health` shows what is waited for. Poison goes to the dead letters; so does a record
    that crashes the handler each time, unless every record does: then the fault is the handler's, and the stream waits
    for a better one. After any other trouble of the client the member leaves and joins again; only a second process
    under the same instance name ends the service.
    """
    if instance:
        overrides = {"group_instance_id": instance, **overrides}
    config = consumer_config(settings, group, **overrides)
    name, lag = f"consume {topic}", Lag(topic, group)

    def member() -> GroupMember:
        return GroupMember(config, settings.topic_prefix, topic, lag, dependency)

    worker = _Worker(member, BatchProcessor(handle, dead_letters, retry, topic, health), max_batch)

    async def consume() -> None:
        await worker.run(loop.mark_working)

    loop = Loop(consume, name=name, health=health, is_fatal=_is_fatal)

    def stop() -> None:
        worker.stop()
        loop.stop()

    async with background(loop.run(), name=name, stop=stop, stop_timeout=drain):
        try:
            yield
        finally:
            worker.stop()


class _Worker:
    """The loop: fetch, settle, commit."""

    def __init__(self, member: Callable[[], GroupMember], settling: BatchProcessor, max_batch: int) -> None:
        self._new_member = member
        self._settling = settling
        self._max_batch = max_batch
        self._is_stopping = False

    def stop(self) -> None:
        """Take no further batch."""
        self._is_stopping = True

    async def run(self, working: Callable[[], None]) -> None:
        """Be a member and work until stopped; what was fetched and not committed is fetched again by the next one."""
        if self._is_stopping:
            return
        self._member = self._new_member()
        async with self._member.joined():
            while not self._is_stopping:
                batch = await self._member.fetch(self._max_batch, _FETCH_SECONDS)
                if batch:
                    await self._work(batch)
                # Before it has its partitions a member gets nothing, which shows nothing.
                if batch or self._member.has_joined:
                    working()

    async def _work(self, batch: list[Record]) -> None:
        with self._member.holding(batch) as hold:
            task = asyncio.create_task(self._settling.process(batch))
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


def _is_fatal(error: Exception) -> bool:
    if not isinstance(error, KafkaException):
        return False
    return bool(error.args[0].fatal()) or error.args[0].code() == FATAL
