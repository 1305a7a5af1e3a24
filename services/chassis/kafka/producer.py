"""A producer for asyncio: bounded, idempotent, with one thread that collects delivery reports."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import confluent_kafka
import structlog
from confluent_kafka import KafkaError, KafkaException
from opentelemetry.metrics import CallbackOptions, Observation

from services.chassis import telemetry
from services.chassis.failures import Failure, Overloaded, RequestTooLarge, StreamUnavailable
from services.chassis.health import Dependency
from services.chassis.kafka.config import (
    ALL_BROKERS_DOWN,
    BROKER_ABSENT,
    INVALID_ARG,
    MSG_SIZE_TOO_LARGE,
    MSG_TIMED_OUT,
    absence_of,
    login_config,
    physical,
    producer_config,
)
from services.chassis.kafka.login import LoginWatch
from services.chassis.kafka.record import Headers
from services.chassis.kafka.silence import silence_config
from services.chassis.settings import KafkaSettings

log = structlog.get_logger()

_POLL_SECONDS = 0.1
_PROBE_SECONDS = 1.0
# How long new certificates wait until nothing is in flight; old ones are valid for longer than that.
_MAX_QUIET_WAIT_SECONDS = 60.0

# A delivery report: the caller's future, the record's size, the error or None, and what the future results in.
_Report = tuple["asyncio.Future[Any]", int, KafkaError | None, int | None]


class Producer:
    """Sends records to Kafka; call it on the event loop on which it was opened.

    At most `max_bytes` are unconfirmed at any time. A record that Kafka has not confirmed within the settings'
    delivery timeout fails, and from then on records are refused at once until Kafka answers again.
    """

    def __init__(
        self, settings: KafkaSettings, config: dict[str, Any], dependency: Dependency | None, max_bytes: int
    ) -> None:
        self._settings = settings
        self._config = {**config, "error_cb": self._handle_error, **silence_config(self._handle_silence)}
        self._dependency = dependency
        self._max_bytes = max_bytes
        self._loop = asyncio.get_running_loop()
        self._login = LoginWatch(settings)
        self._client = self._new_client()
        # With new certificates: it is used when nothing is in flight in the old one, so that no record overtakes.
        self._next: confluent_kafka.Producer | None = None
        self._swap_by = 0.0
        self._retired: list[confluent_kafka.Producer] = []
        self._reports: list[_Report] = []
        self._waiting_bytes = 0
        self._is_refusing = False
        self._must_probe = True
        self._must_renew = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="kafka-producer", daemon=True)
        self._observe()

    def enqueue(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
    ) -> asyncio.Future[None]:
        """Enqueue a record; the future is done when Kafka has it, or fails with StreamUnavailable.

        Without `headers` the current trace context goes along. None as value deletes the key from a compacted topic,
        which would keep an empty value for ever. Raises Overloaded, StreamUnavailable, RequestTooLarge.
        """
        future: asyncio.Future[None] = self._loop.create_future()
        self._produce(topic, value, self._report_of(future, len(value or b"")), key, partition, headers)
        return future

    async def append(self, topic: str, value: bytes, partition: int) -> int:
        """Send a record and return its offset when Kafka has it; raises as `enqueue` and its future do."""
        future: asyncio.Future[int] = self._loop.create_future()
        self._produce(topic, value, self._report_of(future, len(value), has_offset=True), None, partition, ())
        return await future

    async def send(
        self,
        topic: str,
        value: bytes,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
    ) -> None:
        """Send a record and return when Kafka has it; raises as `enqueue` and its future do."""
        await self.enqueue(topic, value, key, partition, headers)

    @property
    def waiting_bytes(self) -> int:
        """How many bytes Kafka has not confirmed yet."""
        return self._waiting_bytes

    def start(self) -> None:
        """Start to collect delivery reports."""
        self._thread.start()

    async def close(self) -> None:
        """Wait for unconfirmed records, at most for the delivery timeout, and fail the rest."""
        self._stopping.set()
        await asyncio.to_thread(self._thread.join, self._settings.delivery_timeout.total_seconds() + 2)

    def _produce(
        self,
        topic: str,
        value: bytes | None,
        report: Any,
        key: bytes | None,
        partition: int | None,
        headers: Headers | None,
    ) -> None:
        size = len(value or b"")
        self._admit(size)
        try:
            self._client.produce(
                physical(self._settings, topic),
                value,
                key,
                partition=-1 if partition is None else partition,
                on_delivery=report,
                headers=[*(telemetry.trace_headers() if headers is None else headers)],
            )
        except BufferError:
            raise Overloaded("too much is waiting for Kafka") from None
        except KafkaException as error:
            raise _failure(error.args[0]) from error
        self._waiting_bytes += size

    def _admit(self, size: int) -> None:
        if self._is_refusing:
            raise StreamUnavailable("Kafka does not answer")
        if self._stopping.is_set():
            raise StreamUnavailable("the producer is closed")
        if self._waiting_bytes and self._waiting_bytes + size > self._max_bytes:
            raise Overloaded("too much is waiting for Kafka")

    def _report_of(self, future: asyncio.Future[Any], size: int, *, has_offset: bool = False) -> Any:
        def report(error: KafkaError | None, message: Any) -> None:
            self._reports.append((future, size, error, message.offset() if has_offset else None))

        return report

    # Below: on the producer's own thread.

    def _poll(self) -> None:
        while not self._stopping.is_set():
            try:
                self._poll_once(_POLL_SECONDS)
            except Exception:
                # Without this thread no record would ever be confirmed again.
                log.exception("producer_poll_failed")
                self._stopping.wait(_POLL_SECONDS)
        self._client.flush(self._settings.delivery_timeout.total_seconds())
        self._client.purge()
        self._client.flush(1)
        self._forward_reports()

    def _poll_once(self, timeout: float) -> None:
        self._client.poll(timeout)
        self._forward_reports()
        if self._must_renew:
            self._renew()
        self._renew_login()
        if self._must_probe:
            self._probe()

    def _forward_reports(self) -> None:
        """Wake the event loop once for all reports of one poll."""
        if self._reports:
            reports, self._reports = self._reports, []
            self._on_loop(self._complete, reports)

    def _probe(self) -> None:
        try:
            self._client.list_topics(timeout=_PROBE_SECONDS)
        except KafkaException as error:
            self._on_loop(self._mark_down, absence_of(error.args[0]))
        else:
            self._must_probe = False
            self._on_loop(self._mark_up)

    def _handle_error(self, error: KafkaError) -> None:
        if error.code() not in BROKER_ABSENT:
            log.warning("producer_failed", error=error.name(), text=error.str())
        if error.fatal():
            self._must_renew = True
        if error.code() == ALL_BROKERS_DOWN or error.fatal():
            self._must_probe = True
            self._on_loop(self._mark_down, absence_of(error))

    def _handle_silence(self) -> None:
        self._must_probe = True

    def _new_client(self) -> confluent_kafka.Producer:
        self._login.accept_files()
        return confluent_kafka.Producer(self._config | login_config(self._settings))

    def _renew(self) -> None:
        """Replace the client after an error that it cannot recover from."""
        old, self._client = self._client, self._new_client()
        self._must_renew, self._next = False, None
        log.warning("producer_renewed")
        old.purge()
        old.flush(1)

    def _renew_login(self) -> None:
        """Make a client with new certificates, and have it used."""
        if self._next is None and self._login.needs_new_client(self._client):
            try:
                self._next = self._new_client()
            except KafkaException as error:
                # A certificate and its key are two files: between the two writes they do not fit.
                log.warning("certificate_refused", path=self._settings.kafka_ca, reason=error.args[0].name())
                return
            self._swap_by = time.monotonic() + _MAX_QUIET_WAIT_SECONDS
        if self._next is not None:
            self._on_loop(self._swap)
        while self._retired:
            self._retired.pop().flush(self._settings.delivery_timeout.total_seconds())

    def _on_loop(self, act: Any, *arguments: Any) -> None:
        # The loop is closed only when a process goes down without having closed its producer.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(act, *arguments)

    # Below: on the event loop.

    def _swap(self) -> None:
        if self._next is not None and (not len(self._client) or time.monotonic() > self._swap_by):
            self._retired.append(self._client)
            self._client, self._next = self._next, None
            log.info("producer_certificates_renewed")

    def _complete(self, reports: list[_Report]) -> None:
        failed = 0
        for future, size, error, result in reports:
            self._waiting_bytes -= size
            if error is not None:
                failed += 1
                self._handle_failure(error)
            if future.done():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(_failure(error))
        self._sent.add(len(reports) - failed, {"outcome": "delivered"})
        self._sent.add(failed, {"outcome": "failed"})

    def _handle_failure(self, error: KafkaError) -> None:
        if error.code() == MSG_TIMED_OUT and not self._stopping.is_set():
            self._is_refusing = True
            self._must_probe = True
            self._mark_down(absence_of(error))

    def _mark_up(self) -> None:
        self._is_refusing = False
        if self._dependency is not None:
            self._dependency.up()

    def _mark_down(self, reason: str) -> None:
        if self._dependency is not None:
            self._dependency.down(reason)

    def _observe(self) -> None:
        meter = telemetry.meter(__name__)
        self._sent = meter.create_counter(
            "tocsin.kafka.producer.records", description="Records sent to Kafka, by outcome."
        )
        meter.create_observable_gauge(
            "tocsin.kafka.producer.waiting",
            [self._observe_waiting],
            unit="By",
            description="Bytes that Kafka has not confirmed yet.",
        )

    def _observe_waiting(self, _: CallbackOptions) -> list[Observation]:
        return [Observation(self._waiting_bytes)]


@asynccontextmanager
async def producer(
    settings: KafkaSettings,
    client_id: str,
    *,
    dependency: Dependency | None = None,
    max_bytes: int = 64 * 1024 * 1024,
    **overrides: Any,
) -> AsyncIterator[Producer]:
    """Open a producer; on the way out wait for unconfirmed records, within the delivery timeout."""
    opened = Producer(settings, producer_config(settings, client_id, **overrides), dependency, max_bytes)
    opened.start()
    try:
        yield opened
    finally:
        await opened.close()


def _failure(error: KafkaError) -> Failure:
    if error.code() in {MSG_SIZE_TOO_LARGE, INVALID_ARG}:
        return RequestTooLarge("the record is larger than Kafka takes")
    return StreamUnavailable("Kafka has not confirmed the record in time")
