"""`window-partials`, read as a member of the window group."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace

import structlog

from services.chassis.kafka import CommittedOffset, Consumer, Record
from services.domain.trace_context import traceparent_of
from services.evaluator.adapters.messages import MalformedError
from services.evaluator.adapters.window_partials_wire import decode_batch
from services.evaluator.core.partial_rows import BlockPart, PartialBatch
from services.evaluator.core.records import MILLISECOND_NS
from services.evaluator.core.window.checkpoint import decode_checkpoint
from services.evaluator.ports import Partial, PartialFetch

log = structlog.get_logger()


def partials_start(committed: CommittedOffset) -> int:
    """Return where a partition is read from first: from its snapshot on, so that nothing before it is fetched."""
    return decode_checkpoint(committed.offset, committed.metadata).start


class KafkaPartialSource:
    """`window-partials`, as a member of the window group; an unreadable record is logged and skipped.

    The consumer is to begin at `partials_start`.
    """

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    async def fetch(self, limit: int, timeout_s: float) -> PartialFetch:
        rebalance, records = await self._consumer.fetch(limit, timeout_s)
        partials = await asyncio.to_thread(lambda: tuple(each for record in records for each in _decode(record)))
        return PartialFetch(rebalance=rebalance, partials=partials)

    @property
    def partition_count(self) -> int:
        return self._consumer.partition_count

    async def commit(self, offsets: Sequence[CommittedOffset]) -> bool:
        return await self._consumer.commit(offsets)

    async def rewind(self, partition: int, offset: int) -> None:
        await self._consumer.rewind(partition, offset)


def _partial_of(record: Record, batch: PartialBatch) -> Partial:
    return Partial(
        partition=record.partition,
        offset=record.offset,
        batch=_limit_idle_time(batch, record.timestamp_ms * MILLISECOND_NS),
        traceparent=traceparent_of(record.headers),
        appended_ns=record.timestamp_ms * MILLISECOND_NS,
    )


def _limit_idle_time(batch: PartialBatch, appended_ns: int) -> PartialBatch:
    """Let a source be idle at most until the broker took the record, whatever the writing host's clock says."""
    if all(part.progress.idle_ns is None or part.progress.idle_ns <= appended_ns for part in batch.blocks):
        return batch
    return replace(batch, blocks=[_limited(part, appended_ns) for part in batch.blocks])


def _limited(part: BlockPart, appended_ns: int) -> BlockPart:
    idle_ns = part.progress.idle_ns
    if idle_ns is None:
        return part
    return replace(part, progress=replace(part.progress, idle_ns=min(idle_ns, appended_ns)))


def _decode(record: Record) -> Iterator[Partial]:
    try:
        batch = decode_batch(record.value)
    except MalformedError:
        log.exception("partial_unreadable", partition=record.partition, offset=record.offset)
    else:
        yield _partial_of(record, batch)
