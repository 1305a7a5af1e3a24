"""The evaluator's topics, in the words of its ports."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

import structlog

from services.chassis.failures import RequestTooLarge
from services.chassis.kafka import Headers, Producer, Record
from services.contract.dead_letters import encode_dead_letter
from services.contract.topics import ALERTS, LOG_EVENTS, LOG_EVENTS_DEAD_LETTER, WINDOW_PARTIALS
from services.domain.fingerprint import open_key
from services.domain.trace_context import headers_of, traceparent_of
from services.evaluator.adapters.log_decoder import MILLISECOND_NS, LogDecoder
from services.evaluator.adapters.member import Member
from services.evaluator.adapters.partial_codec import MalformedError, decode_batch, encode_batch
from services.evaluator.adapters.partial_decoder import PartialDecoder
from services.evaluator.adapters.transition_codec import encode_transition
from services.evaluator.core.records import PartialBatch, Transition, split_batch
from services.evaluator.ports import CommittedOffset, LogFetch, Partial, PartialFetch, UnreadableRecord

log = structlog.get_logger()

# Half of what a broker takes by default.
MOST_BYTES = 512 * 1024
# How much of a flush is under way at once: so much a broker that is slow, but not away, takes in time.
PART_BYTES = 4 * 1024 * 1024
# What a record costs beside its value.
_RECORD_BYTES = 256
# More rows than fit are not encoded just to find that out.
_MOST_ROWS = 5000


class Outgoing(NamedTuple):
    """A record to be written; without headers the current trace goes along."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    headers: Headers | None = None


class KafkaLogSource:
    """`log-events`, as a member of the match group."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._decoder = LogDecoder()

    async def fetch(self, most: int, within: float) -> LogFetch:
        """Give what came, decoded."""
        rebalance, records = await self._member.gather(most, within)
        records.sort(key=lambda record: (record.partition, record.offset))
        events, unreadable = await self._member.call(self._decoder.decode, records)
        return LogFetch(rebalance=rebalance, events=events, unreadable=unreadable)

    async def commit(self, marks: Sequence[CommittedOffset]) -> bool:
        """Keep marks."""
        return await self._member.commit(marks)

    async def rewind(self, partition: int, offset: int) -> None:
        """Read on from there."""
        await self._member.rewind(partition, offset)

    async def end_offsets(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """Ask for the next offset of each partition."""
        return await self._member.end_offsets(partitions)

    @property
    def partitions(self) -> int:
        """How many partitions the topic has."""
        return self._member.partitions


class KafkaPartialSource:
    """`window-partials`, as a member of the window group."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._decoder = PartialDecoder()

    async def fetch(self, most: int, within: float, judged_until: Mapping[int, int]) -> PartialFetch:
        """Give what there is, decoded. What nobody could have written is passed over with a line in the log."""
        rebalance, records = await self._member.next(most, within)
        return PartialFetch(rebalance=rebalance, partials=await self._member.call(self._decoded, records, judged_until))

    def _decoded(self, records: Sequence[Record], judged_until: Mapping[int, int]) -> tuple[Partial, ...]:
        """Decode all at once; one by one when that fails."""
        try:
            batches = self._decoder.decode(
                [record.value for record in records],
                [record.offset < judged_until.get(record.partition, 0) for record in records],
                [record.partition for record in records],
            )
        except ValueError:
            return tuple(partial for record in records for partial in _partial(record))
        return tuple(map(_as_partial, records, batches))

    async def commit(self, marks: Sequence[CommittedOffset]) -> bool:
        """Keep marks."""
        return await self._member.commit(marks)

    async def rewind(self, partition: int, offset: int) -> None:
        """Read on from there."""
        await self._member.rewind(partition, offset)


class KafkaPartialSink:
    """`window-partials`, for writing."""

    def __init__(self, producer: Producer, outputs: int) -> None:
        self._producer = producer
        self.outputs = outputs

    async def send(self, batches: Sequence[tuple[int, PartialBatch]]) -> None:
        """Write each batch to its partition."""
        records = (
            Outgoing(WINDOW_PARTIALS, value, partition=output) for output, batch in batches for value in encoded(batch)
        )
        # Encoding takes long enough to do it beside the event loop.
        parts = _parts(records)
        while part := await asyncio.to_thread(next, parts, None):
            await _confirmed(self._producer.enqueue(*each) for each in part)


class KafkaTransitionSink:
    """`alerts`, keyed by rule and resource."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    async def send(self, transitions: Sequence[Transition]) -> None:
        """Write transitions; each carries its own trace."""
        await deliver(
            self._producer,
            (
                Outgoing(
                    ALERTS,
                    encode_transition(transition),
                    # Without the severity: what is said of a group stays in order when that is edited.
                    key=open_key(rule_id=transition.rule_id, resource=transition.resource).encode(),
                    headers=headers_of(transition.traceparent),
                )
                for transition in transitions
            ),
        )


class KafkaDeadLetters:
    """`log-events-dead-letter`."""

    def __init__(self, producer: Producer, now: Callable[[], datetime]) -> None:
        self._producer = producer
        self._now = now

    async def publish(self, unreadable: Sequence[UnreadableRecord]) -> None:
        """Put records aside as they were; their trace goes with them."""
        try:
            await deliver(self._producer, (self._outgoing(each, each.value) for each in unreadable))
        except RequestTooLarge:
            for each in unreadable:
                await self._publish_what_fits(each)

    async def _publish_what_fits(self, unreadable: UnreadableRecord) -> None:
        """Keep where a record lies and the reason, where with them it is larger than Kafka takes."""
        try:
            await deliver(self._producer, [self._outgoing(unreadable, unreadable.value)])
        except RequestTooLarge:
            await deliver(self._producer, [self._outgoing(unreadable, b"")])

    def _outgoing(self, unreadable: UnreadableRecord, value: bytes) -> Outgoing:
        letter = encode_dead_letter(
            topic=LOG_EVENTS,
            partition=unreadable.record.partition,
            offset=unreadable.record.offset,
            reason=unreadable.reason,
            value=value,
            create_time=self._now(),
        )
        return Outgoing(LOG_EVENTS_DEAD_LETTER, letter, headers=headers_of(unreadable.record.traceparent))


def encoded(batch: PartialBatch, most_bytes: int = MOST_BYTES) -> Iterator[bytes]:
    """Write a batch as one record, or as several when it is large; a group is cut only when it alone is too large."""
    if len(batch.rows) <= _MOST_ROWS:
        value = encode_batch(batch)
        if len(value) <= (MOST_BYTES if batch.has_single_bucket else most_bytes) or len(batch.rows) < 2:  # noqa: PLR2004  (one row cannot be cut)
            yield value
            return
    for half in split_batch(batch):
        yield from encoded(half, most_bytes)


async def deliver(producer: Producer, records: Iterable[Outgoing]) -> None:
    """Return when Kafka has all records; else raise the first failure.

    However many there are, a bounded part of them is under way: it is confirmed before the next is handed over.
    """
    for part in _parts(records):
        await _confirmed(producer.enqueue(*each) for each in part)


def _parts(records: Iterable[Outgoing]) -> Iterator[list[Outgoing]]:
    part: list[Outgoing] = []
    size = 0
    for record in records:
        part.append(record)
        size += len(record.value or b"") + _RECORD_BYTES
        if size >= PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


async def _confirmed(handed_over: Iterable[asyncio.Future[None]]) -> None:
    futures: list[asyncio.Future[None]] = []
    try:
        futures.extend(handed_over)
    finally:
        # Also those before a refused one: nothing may be under way any more when the caller tries again.
        results = await asyncio.gather(*futures, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


def _partial(record: Record) -> Iterator[Partial]:
    try:
        batch = decode_batch(record.value)
    except MalformedError:
        log.exception("partial_refused", partition=record.partition, offset=record.offset)
    else:
        yield _as_partial(record, batch)


def _as_partial(record: Record, batch: PartialBatch) -> Partial:
    return Partial(
        partition=record.partition,
        offset=record.offset,
        batch=_idle_by_the_broker(batch, record.timestamp_ms * MILLISECOND_NS),
        traceparent=traceparent_of(record.headers),
    )


def _idle_by_the_broker(batch: PartialBatch, appended_ns: int) -> PartialBatch:
    """A source was idle until the broker took the record at most, whatever the clock of the host that wrote it says."""
    idle_ns = batch.progress.idle_ns
    if idle_ns is None or idle_ns <= appended_ns:
        return batch
    return replace(batch, progress=replace(batch.progress, idle_ns=appended_ns))
