"""Consume a topic in batches: fetch, handle, commit, in that order."""

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
from services.chassis.kafka.consumer import Consumer, is_fatal
from services.chassis.kafka.fair_queue import FairBatch, FairQueue
from services.chassis.kafka.lag import Lag
from services.chassis.kafka.record import Record
from services.chassis.loops import Loop, background
from services.chassis.settings import KafkaSettings

log = structlog.get_logger()

_FETCH_SECONDS = 0.25
# So long waits Kafka's answer where there is nothing: such a request costs Kafka nearly as much as one with records.
# What a new assignment asks for waits behind it.
_IDLE_MS = 100
# A batch that takes longer than this is kept alive in the group by heartbeats.
_HEARTBEAT_SECONDS = 1.0
# Where tenants share batches: a tenant's part of one, and how much is fetched ahead to find others' records.
_QUANTA = 5
_BATCHES_AHEAD = 20


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
    tenant_of: Callable[[Record], str] | None = None,
    drain: timedelta = timedelta(seconds=5),
    backoff: Backoff = Backoff(),
    **overrides: Any,
) -> AsyncIterator[None]:
    """Consume `topic` until the end of the block; then finish the batch in flight within `drain`, commit and leave.

    `handle` gets records of any partitions, those of each partition in order, and may get a record again: after a
    crash, a rebalance, or its own failure. A transient Failure is retried without end, with growing pauses, while the
    consumer stays in its group, and `health` shows what it waits for. Unreadable records are dead-lettered. So is a
    record on which the handler crashes each time, unless it crashes on every record: then the fault is the handler's,
    and the stream waits for a better one. After any other error of the client the consumer leaves and joins again;
    only a second process under the same instance name ends the service.

    With `tenant_of` the order is that of each tenant's records in a partition, and tenants share the batches: one that
    has a backlog delays the others by a part of a batch, as long as their records are within the next 20 batches.
    """
    name, lag = f"consume {topic}", Lag(topic, group)

    def consumer() -> Consumer:
        given = {"fetch_wait_max_ms": _IDLE_MS} | overrides
        return Consumer(settings, topic=topic, group=group, instance=instance, dependency=dependency, lag=lag, **given)

    def queue() -> FairQueue:
        if tenant_of is None:
            return FairQueue(lambda _: "", limit=max_batch, quantum=max_batch, max_ahead=max_batch)
        quantum, max_ahead = max(1, max_batch // _QUANTA), max_batch * _BATCHES_AHEAD
        return FairQueue(tenant_of, limit=max_batch, quantum=quantum, max_ahead=max_ahead)

    worker = _Worker(consumer, queue, BatchProcessor(handle, dead_letters, backoff, topic, health), lag)

    async def consume() -> None:
        await worker.run(loop.mark_working)

    loop = Loop(consume, name=name, health=health, is_fatal=_ends_service)

    def stop() -> None:
        worker.stop()
        loop.stop()

    async with background(loop.run(), name=name, stop=stop, stop_timeout=drain):
        try:
            yield
        finally:
            worker.stop()


class _Worker:
    """The loop: fetch, process, commit."""

    def __init__(
        self,
        new_consumer: Callable[[], Consumer],
        new_queue: Callable[[], FairQueue],
        processor: BatchProcessor,
        lag: Lag,
    ) -> None:
        self._new_consumer = new_consumer
        self._new_queue = new_queue
        self._processor = processor
        self._lag = lag
        self._is_stopping = False

    def stop(self) -> None:
        """Take no further batch."""
        self._is_stopping = True

    async def run(self, mark_working: Callable[[], None]) -> None:
        """Consume until stopped; the next consumer fetches again what this one fetched and did not commit."""
        if self._is_stopping:
            return
        queue = self._new_queue()
        async with self._new_consumer().joined() as consumer:
            while not self._is_stopping:
                self._lag.oldest_offsets = queue.oldest_offsets
                rebalance, records = await consumer.fetch(queue.room, 0 if queue else _FETCH_SECONDS)
                queue.drop(rebalance.revoked)
                queue.put(records)
                batch = queue.take()
                if batch.records:
                    await self._process(consumer, batch)
                # A fetch without records shows nothing before the partitions are read from their offsets.
                if batch.records or (consumer.is_reading and not rebalance.assigned):
                    mark_working()

    async def _process(self, consumer: Consumer, batch: FairBatch) -> None:
        async with consumer.in_flight(batch.offsets) as in_flight:
            task = asyncio.create_task(self._processor.process(batch.records))
            in_flight.on_abandoned(task.cancel)
            try:
                while not (await asyncio.wait({task}, timeout=_HEARTBEAT_SECONDS))[0]:
                    await consumer.heartbeat()
                task.result()
            except asyncio.CancelledError:
                if not in_flight.is_abandoned:
                    raise
                log.info("batch_abandoned", records=len(batch.records))
            finally:
                task.cancel()


def _ends_service(error: Exception) -> bool:
    return isinstance(error, KafkaException) and is_fatal(error.args[0])
