"""`window-partials`, read as a member of the window group."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import structlog

from services.chassis.kafka import CommittedOffset, Consumer, Record
from services.domain.trace_context import traceparent_of
from services.evaluator.adapters.messages import MalformedError
from services.evaluator.adapters.replaced_rows import leave_out_replaced
from services.evaluator.adapters.window_partials_wire import decode_batch
from services.evaluator.core.partial_rows import PartialBatch
from services.evaluator.core.records import MILLISECOND_NS
from services.evaluator.ports import Partial, PartialFetch

log = structlog.get_logger()


class KafkaPartialSource:
    """`window-partials`, as a member of the window group; an unreadable record is logged and skipped."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._decoder = PartialDecoder()

    async def fetch(self, limit: int, timeout_s: float, judged_until: Mapping[int, int]) -> PartialFetch:
        rebalance, records = await self._consumer.fetch(limit, timeout_s)
        partials = await asyncio.to_thread(self._decode, records, judged_until)
        return PartialFetch(rebalance=rebalance, partials=partials)

    async def commit(self, offsets: Sequence[CommittedOffset]) -> bool:
        return await self._consumer.commit(offsets)

    async def rewind(self, partition: int, offset: int) -> None:
        await self._consumer.rewind(partition, offset)

    def _decode(self, records: Sequence[Record], judged_until: Mapping[int, int]) -> tuple[Partial, ...]:
        """Decode all records, or without the unreadable ones if that fails."""
        try:
            batches = self._decoder.decode(
                [record.value for record in records],
                [record.offset < judged_until.get(record.partition, 0) for record in records],
                [record.partition for record in records],
            )
        except MalformedError:
            return tuple(partial for record in records for partial in _decode_one(record))
        return tuple(map(_partial_of, records, batches))


def _partial_of(record: Record, batch: PartialBatch) -> Partial:
    return Partial(
        partition=record.partition,
        offset=record.offset,
        batch=_limit_idle_time(batch, record.timestamp_ms * MILLISECOND_NS),
        traceparent=traceparent_of(record.headers),
    )


def _limit_idle_time(batch: PartialBatch, appended_ns: int) -> PartialBatch:
    """Let a source be idle at most until the broker took the record, whatever the writing host's clock says."""
    idle_ns = batch.progress.idle_ns
    if idle_ns is None or idle_ns <= appended_ns:
        return batch
    return replace(batch, progress=replace(batch.progress, idle_ns=appended_ns))


class PartialDecoder:
    """Decodes the records of a fetch."""

    def decode(
        self, values: Sequence[bytes], judged: Sequence[bool] = (), partitions: Sequence[int] = ()
    ) -> list[PartialBatch]:
        """Decode batches; raises MalformedError if one of them is malformed.

        Leave out rows of a judged batch that another judged batch of the same partition, source and block replaces.
        """
        batches = [decode_batch(value) for value in values]
        return leave_out_replaced(batches, judged, partitions) if any(judged) else batches


def _decode_one(record: Record) -> Iterator[Partial]:
    try:
        batch = decode_batch(record.value)
    except MalformedError:
        log.exception("partial_unreadable", partition=record.partition, offset=record.offset)
    else:
        yield _partial_of(record, batch)
