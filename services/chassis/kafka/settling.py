"""Having a batch handled until every record of it is either done or put aside."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from services.chassis import telemetry
from services.chassis.backoff import Backoff
from services.chassis.failures import Failure, is_transient
from services.chassis.kafka.producer import Producer
from services.chassis.kafka.record import Record

log = structlog.get_logger()

Handle = Callable[[list[Record]], Awaitable[None]]

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


class Settling:
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
                await self._pause(attempt, failure.reason)
                attempt += 1

    async def _pause(self, attempt: int, reason: str) -> None:
        self._retries.add(1, {"topic": self._topic, "reason": reason})
        log.warning("batch_retried", topic=self._topic, reason=reason, attempt=attempt)
        await asyncio.sleep(self._retry.delay(attempt).total_seconds())

    def _count(self, records: int, outcome: str) -> None:
        self._records.add(records, {"topic": self._topic, "outcome": outcome})
