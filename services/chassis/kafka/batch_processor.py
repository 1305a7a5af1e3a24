"""Process a batch until each of its records is either handled or dead-lettered."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, cast

import grpc
import structlog

from services.chassis import telemetry
from services.chassis.backoff import Backoff, failure_reason, retrying, transient_reason
from services.chassis.clock import Clock
from services.chassis.failures import Failure, RequestTooLarge, is_transient
from services.chassis.health import Health
from services.chassis.kafka.producer import Producer
from services.chassis.kafka.record import Record

log = structlog.get_logger()

Handle = Callable[[list[Record]], Awaitable[None]]

# A batch that crashes this often is split, to find the record that crashes the handler.
_MAX_CRASHES = 3
# So many batches of a single record may be dead-lettered in a row before the fault is taken for the handler's.
_MAX_SINGLE_DEAD_LETTERS = 3
# After so many retries health shows what the batch waits for.
_RETRIES_BEFORE_UNHEALTHY = 3


class UnreadableRecordError(Exception):
    """A handler raises it for a record that can never be handled; the rest of the batch is handled again."""

    def __init__(self, record: Record, reason: str) -> None:
        super().__init__(reason)
        self.record = record
        self.reason = reason


class EncodeDeadLetter(Protocol):
    """Encodes dead letters."""

    def __call__(
        self, *, topic: str, partition: int, offset: int, reason: str, value: bytes, create_time: datetime
    ) -> bytes:
        """Return the dead letter of the record at this place."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterPublisher:
    """Publishes the dead letters of records that can never be handled."""

    producer: Producer
    encode: EncodeDeadLetter
    clock: Clock
    topic: str

    async def publish(self, record: Record, reason: str) -> None:
        """Return when Kafka has the dead letter; raises StreamUnavailable and Overloaded."""
        try:
            letter = self._encode(record, reason, record.value)
            await self.producer.send(self.topic, letter, record.key, None, record.headers)
        except RequestTooLarge:
            # With its envelope the record is larger than Kafka takes: its place, the reason and its trace remain.
            with telemetry.in_trace_of(record.headers):
                await self.producer.send(self.topic, self._encode(record, reason, b""))

    def _encode(self, record: Record, reason: str, value: bytes) -> bytes:
        return self.encode(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            reason=reason,
            value=value,
            create_time=self.clock.now(),
        )


class _OutOfResources(Failure):
    code = grpc.StatusCode.UNAVAILABLE
    reason = "OUT_OF_RESOURCES"


class _Crashed(Failure):
    reason = "CRASHED"


class BatchProcessor:
    """Calls the handler until each record of a batch is either handled or dead-lettered."""

    def __init__(
        self,
        handle: Handle,
        dead_letters: DeadLetterPublisher | None,
        backoff: Backoff,
        topic: str,
        health: Health | None = None,
    ) -> None:
        self._handle = handle
        self._dead_letters = dead_letters
        self._backoff = backoff
        self._topic = topic
        self._health = health
        self._name = f"handle {topic}"
        self._single_dead_letters = 0
        meter = telemetry.meter(__name__)
        self._records = meter.create_counter(
            "tocsin.kafka.consumer.records", description="Records consumed, by outcome."
        )
        # Prometheus must see the first one as an increase.
        self._count(0, "dead_lettered")
        self._retries = meter.create_counter(
            "tocsin.kafka.consumer.retries", description="Batches that were handled again, by reason."
        )

    async def process(self, batch: Sequence[Record]) -> None:
        """Return when each record is handled or dead-lettered."""
        records = list(batch)
        crashes = 0

        async def attempt() -> None:
            nonlocal crashes
            try:
                await self._try(records)
            except Failure as failure:
                crashes += not is_transient(failure)
                if crashes < _MAX_CRASHES:
                    raise
                crashes = 0
                records[:] = await self._split(records)
                if records:
                    raise

        await self._retry(attempt, failure_reason)

    async def _try(self, records: list[Record]) -> None:
        """Handle these records, without the unreadable ones, which are removed; raises Failure."""
        while records:
            try:
                await self._handle(records)
            except UnreadableRecordError as error:
                await self._dead_letter(error.record, error.reason)
                records.remove(error.record)
            except Failure as failure:
                if not is_transient(failure):
                    log.exception("batch_refused", topic=self._topic, reason=failure.reason)
                raise
            except (OSError, MemoryError) as error:
                log.warning("batch_without_resources", topic=self._topic, error=type(error).__name__)
                raise _OutOfResources("the machine cannot do this now") from error
            except Exception as error:
                log.exception("batch_crashed", topic=self._topic, records=len(records))
                raise _Crashed("the handler crashes") from error
            else:
                self._mark_handled(len(records))
                return

    async def _split(self, batch: list[Record]) -> list[Record]:
        """Handle each record by itself, dead-letter those that crash even then, and return what is left to handle.

        If others of the batch are handled, the fault is the record's own. If none is, no record is dead-lettered,
        except for a few that came alone.
        """
        crashed = [record for record in batch if await self._crashes(record)]
        is_single = len(batch) == 1
        if len(crashed) == len(batch) and not (is_single and self._single_dead_letters < _MAX_SINGLE_DEAD_LETTERS):
            return batch
        for record in crashed:
            await self._dead_letter(record, "the handler crashes on it")
        self._single_dead_letters += is_single
        return []

    async def _crashes(self, record: Record) -> bool:
        """Handle one record, however long a transient failure lasts; return whether the handler crashes on it."""
        try:
            await self._retry(lambda: self._try([record]), transient_reason)
        except Failure:
            return True
        return False

    async def _dead_letter(self, record: Record, reason: str) -> None:
        place = {"topic": self._topic, "partition": record.partition, "offset": record.offset}
        # In the record's own trace, as its dead letter is.
        with telemetry.in_trace_of(record.headers):
            log.error("record_dead_lettered", reason=reason, is_published=self._dead_letters is not None, **place)
            await self._publish(record, reason)
        self._count(1, "dead_lettered")

    async def _publish(self, record: Record, reason: str) -> None:
        dead_letters = self._dead_letters
        if dead_letters is not None:
            await self._retry(lambda: dead_letters.publish(record, reason), failure_reason)

    async def _retry(
        self, attempt: Callable[[], Awaitable[None]], retry_reason: Callable[[Exception], str | None]
    ) -> None:
        await retrying(
            attempt,
            log_event="batch_retried",
            backoff=self._backoff,
            retry_reason=retry_reason,
            on_failure=self._report_retry,
            topic=self._topic,
        )

    def _report_retry(self, error: Exception, attempt: int) -> None:
        failure = cast("Failure", error)
        self._retries.add(1, {"topic": self._topic, "reason": failure.reason})
        if self._health is not None and attempt >= _RETRIES_BEFORE_UNHEALTHY:
            self._health.mark_failing(self._name, failure.dependency or self._name)

    def _mark_handled(self, records: int) -> None:
        self._single_dead_letters = 0
        self._count(records, "handled")
        if self._health is not None:
            self._health.mark_working(self._name)

    def _count(self, records: int, outcome: str) -> None:
        self._records.add(records, {"topic": self._topic, "outcome": outcome})
