"""Having a batch handled until every record of it is either done or put aside."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import grpc
import structlog

from services.chassis import telemetry
from services.chassis.backoff import Backoff
from services.chassis.clock import Clock
from services.chassis.failures import Failure, RequestTooLarge, is_transient
from services.chassis.health import Health
from services.chassis.kafka.producer import Producer
from services.chassis.kafka.record import Record

log = structlog.get_logger()

Handle = Callable[[list[Record]], Awaitable[None]]

# A batch that crashes this often is taken apart, to find the record that it crashes on.
_CRASHES = 3
# So many single records in a row, each a batch of its own, may be put aside before the fault is not taken for theirs.
_MOST_ALONE = 3
# After so many pauses in a row health shows what is waited for.
_PAUSES_SHOWN = 3


class Poison(Exception):  # noqa: N818  (it names the thing, as Failure's kin do)
    """Raised by a handler for a record that can never be handled; the rest of the batch is handled again."""

    def __init__(self, record: Record, reason: str) -> None:
        super().__init__(reason)
        self.record = record
        self.reason = reason


class EncodeDeadLetter(Protocol):
    """Writes the value of a dead letter."""

    def __call__(
        self, *, topic: str, partition: int, offset: int, reason: str, value: bytes, create_time: datetime
    ) -> bytes:
        """Return the dead letter of the record at this place."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetters:
    """The topic for records that can never be handled."""

    producer: Producer
    encode: EncodeDeadLetter
    clock: Clock
    topic: str

    async def keep(self, record: Record, reason: str) -> None:
        """Publish the record's dead letter; raises StreamUnavailable."""
        try:
            letter = self._encoded(record, reason, record.value)
            await self.producer.send(self.topic, letter, record.key, None, record.headers)
        except RequestTooLarge:
            # With what is said about it, it is larger than Kafka takes: where it lies and the reason are kept.
            await self.producer.send(self.topic, self._encoded(record, reason, b""), None, None, ())

    def _encoded(self, record: Record, reason: str, value: bytes) -> bytes:
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


class Settling:
    """Has a batch handled until every record of it is either done or put aside."""

    def __init__(
        self,
        handle: Handle,
        dead_letters: DeadLetters | None,
        retry: Backoff,
        topic: str,
        health: Health | None = None,
    ) -> None:
        self._handle = handle
        self._dead_letters = dead_letters
        self._retry = retry
        self._topic = topic
        self._health = health
        self._name = f"handle {topic}"
        self._alone = 0
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
        while left and (trouble := await self._try(left)):
            crashes += not is_transient(trouble)
            if crashes == _CRASHES:
                left, crashes = await self._take_apart(left), 0
            if left:
                await self._pause(attempt, trouble)
                attempt += 1

    async def _try(self, left: list[Record]) -> Failure | None:
        """Have these handled, without what is poison; gives why they are not."""
        while left:
            try:
                await self._handle(left)
            except Poison as poison:
                await self._put_aside(poison.record, poison.reason)
                left.remove(poison.record)
            except Failure as failure:
                if not is_transient(failure):
                    log.exception("batch_refused", topic=self._topic, reason=failure.reason)
                return failure
            except (OSError, MemoryError) as error:
                log.warning("batch_without_resources", topic=self._topic, error=type(error).__name__)
                return _OutOfResources("the machine cannot do this now")
            except Exception:
                log.exception("batch_crashed", topic=self._topic, records=len(left))
                return _Crashed("the handler crashes")
            else:
                self._worked(len(left))
                return None
        return None

    async def _take_apart(self, batch: list[Record]) -> list[Record]:
        """Handle each record by itself and put those aside that crash even then; gives what is left to do.

        That others of the batch are handled shows that the fault is the record's own. Where none is, nothing is put
        aside, except for a few records that came alone.
        """
        crashed = [record for record in batch if await self._crashes(record)]
        is_alone = len(batch) == 1
        if len(crashed) == len(batch) and not (is_alone and self._alone < _MOST_ALONE):
            return batch
        for record in crashed:
            await self._put_aside(record, "the handler crashes on it")
        self._alone += is_alone
        return []

    async def _crashes(self, record: Record) -> bool:
        """Have one record handled, however long that takes, or find that it cannot be."""
        attempt = 0
        while trouble := await self._try([record]):
            if not is_transient(trouble):
                return True
            await self._pause(attempt, trouble)
            attempt += 1
        return False

    async def _put_aside(self, record: Record, reason: str) -> None:
        where = {"topic": self._topic, "partition": record.partition, "offset": record.offset}
        # In the record's own trace, as its dead letter is.
        with telemetry.continuing(record.headers):
            log.error("record_put_aside", reason=reason, kept=self._dead_letters is not None, **where)
            await self._keep(record, reason)
        self._count(1, "put_aside")

    async def _keep(self, record: Record, reason: str) -> None:
        attempt = 0
        while self._dead_letters is not None:
            try:
                await self._dead_letters.keep(record, reason)
                break
            except Failure as failure:
                await self._pause(attempt, failure)
                attempt += 1

    async def _pause(self, attempt: int, trouble: Failure) -> None:
        self._retries.add(1, {"topic": self._topic, "reason": trouble.reason})
        log.warning("batch_retried", topic=self._topic, reason=trouble.reason, attempt=attempt)
        if self._health is not None and attempt >= _PAUSES_SHOWN:
            self._health.mark_failing(self._name, trouble.dependency or self._name)
        await asyncio.sleep(self._retry.delay(attempt).total_seconds())

    def _worked(self, records: int) -> None:
        self._alone = 0
        self._count(records, "handled")
        if self._health is not None:
            self._health.mark_working(self._name)

    def _count(self, records: int, outcome: str) -> None:
        self._records.add(records, {"topic": self._topic, "outcome": outcome})
