"""The evaluator's topics: what the stages read and write."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple

import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from services.chassis.backoff import Backoff, retrying
from services.chassis.kafka import CommittedOffset, Consumer, Headers, Producer, Record, physical
from services.chassis.settings import KafkaSettings
from services.contract.topics import ALERTS, WINDOW_PARTIALS
from services.domain.fingerprint import open_key
from services.domain.trace_context import headers_of, traceparent_of
from services.evaluator.adapters.log_decoder import MILLISECOND_NS, LogDecoder
from services.evaluator.adapters.partial_codec import MalformedError, decode_batch, encode_batch
from services.evaluator.adapters.partial_decoder import PartialDecoder
from services.evaluator.adapters.transition_codec import encode_transition
from services.evaluator.core.records import PartialBatch, Transition, split_batch
from services.evaluator.ports import LogFetch, Partial, PartialFetch

log = structlog.get_logger()

# Half of what a broker accepts by default.
MAX_RECORD_BYTES = 512 * 1024
# A broker that is slow, but not away, confirms this much in time.
MAX_IN_FLIGHT_BYTES = 4 * 1024 * 1024
# What a record costs beside its value.
_RECORD_OVERHEAD_BYTES = 256
# So many rows never fit in a record: the batch is split without encoding it.
_MAX_ROWS = 5000
_TOPIC_TIMEOUT_SECONDS = 2.0


class OutgoingRecord(NamedTuple):
    """A record to write; without headers the current trace goes along."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    headers: Headers | None = None


class KafkaLogSource:
    """`log-events`, as a member of the match group."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._decoder = LogDecoder()

    async def fetch(self, limit: int, timeout_s: float) -> LogFetch:
        rebalance, records = await self._consumer.fetch(limit, timeout_s, fill=True)
        records.sort(key=lambda record: (record.partition, record.offset))
        events, unreadable = await asyncio.to_thread(self._decoder.decode, records)
        return LogFetch(rebalance=rebalance, events=events, unreadable=unreadable)

    async def commit(self, offsets: Sequence[CommittedOffset]) -> bool:
        return await self._consumer.commit(offsets)

    async def rewind(self, partition: int, offset: int) -> None:
        await self._consumer.rewind(partition, offset)

    async def end_offsets(self, partitions: Sequence[int]) -> Mapping[int, int]:
        return await self._consumer.end_offsets(partitions)

    @property
    def partitions(self) -> int:
        return self._consumer.partitions


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
        """Decode all records at once, or one by one if that fails."""
        try:
            batches = self._decoder.decode(
                [record.value for record in records],
                [record.offset < judged_until.get(record.partition, 0) for record in records],
                [record.partition for record in records],
            )
        except ValueError:
            return tuple(partial for record in records for partial in _decode_one(record))
        return tuple(map(_partial_of, records, batches))


class KafkaPartialSink:
    """`window-partials`, for writing."""

    def __init__(self, producer: Producer, outputs: int) -> None:
        self._producer = producer
        self.outputs = outputs

    async def send(self, batches: Sequence[tuple[int, PartialBatch]]) -> None:
        records = (
            OutgoingRecord(WINDOW_PARTIALS, value, partition=output)
            for output, batch in batches
            for value in encode_bounded(batch)
        )
        # Encoding takes long enough to do it beside the event loop.
        parts = _parts(records)
        while part := await asyncio.to_thread(next, parts, None):
            await _confirm(self._producer.enqueue(*record) for record in part)


class KafkaTransitionSink:
    """`alerts`, keyed by rule and resource; each transition carries its own trace."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    async def send(self, transitions: Sequence[Transition]) -> None:
        await produce_all(
            self._producer,
            (
                OutgoingRecord(
                    ALERTS,
                    encode_transition(transition),
                    # Without the severity: the transitions of a group stay in order when it is edited.
                    key=open_key(rule_id=transition.rule_id, resource=transition.resource).encode(),
                    headers=headers_of(transition.traceparent),
                )
                for transition in transitions
            ),
        )


async def partition_count(
    settings: KafkaSettings, topic: str, backoff: Backoff = Backoff(max_delay=timedelta(seconds=1))
) -> int:
    """Return how many partitions a topic has; wait for Kafka, and for the topic."""
    name = physical(settings, topic)
    client = AdminClient({"bootstrap.servers": settings.brokers, "log_level": 2})

    async def count() -> int:
        metadata = await asyncio.to_thread(client.list_topics, name, timeout=_TOPIC_TIMEOUT_SECONDS)
        partitions = metadata.topics[name].partitions
        if not partitions:
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
        return len(partitions)

    return await retrying(count, log_event="topic_unknown", backoff=backoff, retry_reason=_retry_reason, topic=topic)


def encode_bounded(batch: PartialBatch, max_bytes: int = MAX_RECORD_BYTES) -> Iterator[bytes]:
    """Encode a batch as one record, or as several if it is large; split a group only if it alone is too large."""
    if len(batch.rows) <= _MAX_ROWS:
        value = encode_batch(batch)
        if len(value) <= (MAX_RECORD_BYTES if batch.has_single_bucket else max_bytes) or len(batch.rows) < 2:  # noqa: PLR2004  (one row cannot be split)
            yield value
            return
    for half in split_batch(batch):
        yield from encode_bounded(half, max_bytes)


async def produce_all(producer: Producer, records: Iterable[OutgoingRecord]) -> None:
    """Return when Kafka has all records; else raise the first failure.

    A bounded part of them is in flight at any time: it is confirmed before the next part is enqueued.
    """
    for part in _parts(records):
        await _confirm(producer.enqueue(*record) for record in part)


def _parts(records: Iterable[OutgoingRecord]) -> Iterator[list[OutgoingRecord]]:
    part: list[OutgoingRecord] = []
    size = 0
    for record in records:
        part.append(record)
        size += len(record.value or b"") + _RECORD_OVERHEAD_BYTES
        if size >= MAX_IN_FLIGHT_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


async def _confirm(enqueued: Iterable[asyncio.Future[None]]) -> None:
    futures: list[asyncio.Future[None]] = []
    try:
        futures.extend(enqueued)
    finally:
        # Also those before a refused one: nothing may be in flight any more when the caller tries again.
        results = await asyncio.gather(*futures, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


def _retry_reason(error: Exception) -> str | None:
    return str(error.args[0].name()) if isinstance(error, KafkaException) else None


def _decode_one(record: Record) -> Iterator[Partial]:
    try:
        batch = decode_batch(record.value)
    except MalformedError:
        log.exception("partial_unreadable", partition=record.partition, offset=record.offset)
    else:
        yield _partial_of(record, batch)


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
