"""The audit log of a service: every command, and every call that was refused for who called.

A command's entry is written before the command is answered. Where that cannot be done, the command is answered all the
same, since it was carried out, and the entry waits in memory until it can be written. A refusal is not worth a write of
its own: whoever is refused could cause as many writes as calls. Its entry waits for the next turn, and equal refusals
are folded.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Protocol

import grpc
import structlog
from opentelemetry import trace

from services.access.authentication import GATEWAY
from services.access.guard import CallRecord
from services.chassis import telemetry
from services.chassis.callers import DEFAULT_TENANT, IncomingCall
from services.chassis.clock import Clock
from services.chassis.failures import Failure
from services.chassis.health import Health
from services.chassis.kafka import OutgoingRecord, Producer, produce_all
from services.chassis.loops import Loop, looping
from services.contract.audit_records import encode_audit_record
from services.contract.topics import AUDIT_LOG
from services.domain.audit_record import MAX_RESOURCE, AuditOutcome, AuditRecord, RefusalFolder

log = structlog.get_logger()

# Entries that could not be written yet; more are dropped, and counted.
_MAX_WAITING = 10_000
_BATCH = 500
_WRITE_INTERVAL = timedelta(seconds=1)
# How long a command waits for its entry.
_MAX_WAIT = timedelta(seconds=1)
_REFUSALS = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)


class AuditSink(Protocol):
    """Where entries are written."""

    async def write(self, records: Sequence[AuditRecord]) -> None:
        """Write entries, each once however often it is written. Raises Failure."""


class TopicAuditSink:
    """Writes to the topic, from which the manager stores them."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    async def write(self, records: Sequence[AuditRecord]) -> None:
        """See AuditSink."""
        await produce_all(
            self._producer,
            [
                OutgoingRecord(topic=AUDIT_LOG, value=encode_audit_record(record), key=record.tenant.encode())
                for record in records
            ],
        )


class AuditLog:
    """Makes entries of calls, and writes them; `auditing` runs it."""

    def __init__(
        self,
        sink: AuditSink,
        service: str,
        clock: Clock,
        new_id: Callable[[], str],
        *,
        max_wait: timedelta = _MAX_WAIT,
    ) -> None:
        self._sink = sink
        self._max_wait = max_wait
        self._service = service
        self._clock = clock
        self._new_id = new_id
        self._folder = RefusalFolder()
        self._waiting: deque[AuditRecord] = deque()
        meter = telemetry.meter(__name__)
        self._dropped = meter.create_counter(
            "tocsin.audit.dropped", description="Entries of the audit log that were never written."
        )
        self._dropped.add(0)

    async def record(self, call: CallRecord) -> None:
        """Keep the entry of a call; it is written on return, if it is that of a command and can be. Raises nothing."""
        record = audit_record_of(call, service=self._service, record_id=self._new_id(), trace_id=_current_trace_id())
        if record.outcome is AuditOutcome.REFUSED:
            self.refuse([record])
            return
        try:
            # Where the store was away for the command, it is for its entry; nothing was carried out.
            is_away = call.outcome.code is grpc.StatusCode.UNAVAILABLE
            reason = "STORE_AWAY" if is_away else await self._try_to_write(record)
        except asyncio.CancelledError:
            # The caller does not wait any more.
            self._wait([record])
            raise
        if reason:
            log.warning("audit_record_delayed", reason=reason, method=record.method)
            self._wait([record])

    def refuse(self, records: Iterable[AuditRecord]) -> None:
        """Keep the entries of refusals; `turn` writes them, and equal ones of a minute as one."""
        self._wait([first for record in records if (first := self._folder.add(record)) is not None])

    async def _try_to_write(self, record: AuditRecord) -> str:
        """Write an entry; return why that was not possible in time, empty when it was."""
        try:
            async with asyncio.timeout(self._max_wait.total_seconds()):
                await self._sink.write([record])
        except TimeoutError:
            return "TIMED_OUT"
        except Failure as failure:
            return failure.reason
        return ""

    async def turn(self) -> None:
        """Write what waits, and what was folded for a minute. Raises Failure."""
        self._wait(self._folder.take_due(self._clock.now()))
        await self._write_waiting()

    async def close(self) -> None:
        """Write all that waits, also what was folded for less than a minute; log what cannot be written."""
        self._wait(self._folder.take_all())
        try:
            await self._write_waiting()
        except Failure as failure:
            self._lose(len(self._waiting), failure.reason)

    async def _write_waiting(self) -> None:
        while self._waiting:
            batch = [self._waiting[n] for n in range(min(_BATCH, len(self._waiting)))]
            await self._sink.write(batch)
            for _ in batch:
                self._waiting.popleft()

    def _wait(self, records: Sequence[AuditRecord]) -> None:
        room = _MAX_WAITING - len(self._waiting)
        self._waiting.extend(records[:room])
        if dropped := len(records[room:]):
            self._lose(dropped, "TOO_MANY_WAIT")

    def _lose(self, records: int, reason: str) -> None:
        log.error("audit_records_lost", records=records, reason=reason)
        self._dropped.add(records)


@asynccontextmanager
async def auditing(audit_log: AuditLog, health: Health) -> AsyncIterator[None]:
    """Write what waits until the end of the block, and the rest then. Enter it before the server that it serves."""
    try:
        async with looping(Loop(audit_log.turn, name="write audit log", health=health, every=_WRITE_INTERVAL)):
            yield
    finally:
        await audit_log.close()


def audit_record_of(call: CallRecord, *, service: str, record_id: str, trace_id: str) -> AuditRecord:
    """Return the entry of a call."""
    caller, outcome = call.caller, call.outcome
    return AuditRecord(
        id=record_id,
        create_time=call.at,
        tenant=caller.tenant if caller else DEFAULT_TENANT,
        actor=caller.name if caller else "",
        actor_kind=caller.kind if caller else "",
        actor_id=caller.id if caller else "",
        role=caller.role if caller else "",
        method=call.call.method.lstrip("/"),
        resource=outcome.resource[:MAX_RESOURCE],
        peer_address=address_of(call.call),
        request_id=call.call.metadata.get("x-request-id", "")[:MAX_RESOURCE],
        trace_id=trace_id,
        outcome=_outcome_of(outcome.code),
        code=outcome.code.name,
        reason=outcome.reason,
        service=service,
    )


def address_of(call: IncomingCall) -> str:
    """Return the address from which a call came, without its port: what Envoy says, where the call came through it."""
    forwarded = call.metadata.get("x-forwarded-for", "").rpartition(",")[2].strip()
    if forwarded and call.peer_identity == GATEWAY:
        return forwarded[:MAX_RESOURCE]
    kind, _, address = call.peer_address.partition(":")
    return address.rpartition(":")[0].removeprefix("%5B").removesuffix("%5D") if kind in {"ipv4", "ipv6"} else kind


def _outcome_of(code: grpc.StatusCode) -> AuditOutcome:
    if code in _REFUSALS:
        return AuditOutcome.REFUSED
    return AuditOutcome.DONE if code is grpc.StatusCode.OK else AuditOutcome.FAILED


def _current_trace_id() -> str:
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""
