"""Publishing on `log-events`, with never more bytes in flight than memory allows."""

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import Self

from opentelemetry import trace

from services.chassis import telemetry
from services.chassis.clock import Clock
from services.chassis.failures import Overloaded
from services.chassis.tenants import current_tenant
from services.contract.topics import LOG_EVENTS
from services.domain.tenants import write_tenant
from services.domain.trace_context import TraceHeaders
from services.ingest.core.event_rates import EventRates
from services.ingest.metrics import Metrics
from services.ingest.ports import EventProducer
from tocsin.logs.v1.log_event_pb2 import LogBatch

# What a call that waits costs besides its request's bytes: its task, its stream, its place in queues.
_CALL_BYTES = 4096


class InFlightBytes:
    """Counts the bytes of requests that are not answered yet; never more than `limit`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._reserved = 0

    @property
    def reserved(self) -> int:
        """The bytes that are reserved now."""
        return self._reserved

    def reserve(self, size: int) -> bool:
        """Reserve `size` bytes if they fit; False, and nothing reserved, when they do not."""
        if self._reserved + size > self._limit:
            return False
        self._reserved += size
        return True

    def release(self, size: int) -> None:
        """Release what was reserved before."""
        if size > self._reserved:
            raise ValueError(f"{size} bytes released, but only {self._reserved} reserved")
        self._reserved -= size


class Reservation:
    """One call's bytes in flight; released after the block, and after all that it published is confirmed or failed.

    A caller that gives up does not free the bytes that still lie in the producer's queue.
    """

    def __init__(self, in_flight: InFlightBytes, size: int) -> None:
        self._in_flight = in_flight
        self._size = size
        self._holders = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._release()

    def hold_until(self, published: asyncio.Future[None]) -> None:
        """Do not release before the future is done, whatever its outcome."""
        self._holders += 1
        published.add_done_callback(self._release)

    def _release(self, _published: object = None) -> None:
        self._holders -= 1
        if not self._holders:
            self._in_flight.release(self._size)


class Publisher:
    """The way to Kafka of all rpcs."""

    def __init__(
        self,
        producer: EventProducer,
        in_flight: InFlightBytes,
        clock: Clock,
        metrics: Metrics,
        rates: EventRates,
    ) -> None:
        self._rates = rates
        self._producer = producer
        self._in_flight = in_flight
        self._clock = clock
        self._metrics = metrics
        self._tenant_fields: dict[str, bytes] = {}

    def reserve(self, size: int) -> Reservation:
        """Reserve memory for a request of `size` bytes, or raise Overloaded."""
        cost = size + _CALL_BYTES
        if not self._in_flight.reserve(cost):
            raise Overloaded("too many requests wait for Kafka; try again later")
        return Reservation(self._in_flight, cost)

    def charge(self, events: int) -> None:
        """Count events that are published of the current tenant."""
        self._rates.charge(current_tenant(), events, self._clock.monotonic())

    def publish(self, batch: bytes, headers: TraceHeaders) -> asyncio.Future[None]:
        """Publish one batch of the current tenant as a record without a key, so that records spread evenly.

        See EventProducer.
        """
        started = self._clock.monotonic()
        batch += self._tenant_field(current_tenant())
        published = self._producer.enqueue(LOG_EVENTS, batch, headers=headers)
        published.add_done_callback(partial(self._count, len(batch), started))
        return published

    def _tenant_field(self, tenant: str) -> bytes:
        """Return what is appended to a LogBatch to say whose events it has; nothing for the sole tenant."""
        if tenant not in self._tenant_fields:
            self._tenant_fields[tenant] = LogBatch(tenant=write_tenant(tenant)).SerializeToString()
        return self._tenant_fields[tenant]

    def _count(self, size: int, started: float, published: asyncio.Future[None]) -> None:
        if not published.cancelled() and published.exception() is None:
            self._metrics.written(size, self._clock.monotonic() - started)


async def all_published(published: Iterable[asyncio.Future[None]]) -> None:
    """Wait until all are done and raise the first failure; a caller that gives up stops none of them."""
    outcomes = await asyncio.shield(asyncio.gather(*published, return_exceptions=True))
    for outcome in outcomes:
        if outcome is not None:
            raise outcome


def start_flush_span(callers: Sequence[trace.Span]) -> trace.Span:
    """Start the span of a record that has events of several calls; it has one call as its parent, and links to all."""
    # A call whose trace is not recorded would take the others' traces with it.
    recorded = next((each for each in callers if each.get_span_context().trace_flags.sampled), callers[0])
    return telemetry.tracer(__name__).start_span(
        "log-events flush",
        trace.set_span_in_context(recorded),
        trace.SpanKind.PRODUCER,
        links=[trace.Link(each.get_span_context()) for each in callers],
    )


def end_flush_span(span: trace.Span, failure: BaseException | None) -> None:
    """End the span of a record that is confirmed or failed."""
    if failure is not None:
        span.set_status(trace.StatusCode.ERROR, getattr(failure, "reason", type(failure).__name__))
    span.end()
