"""What a service needs to know its callers and to record what they do, from its start to its end."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from uuid_utils import uuid7

from services.access.audit import AuditLog, AuditSink, auditing
from services.access.guard import chosen_guard
from services.access.key_snapshot import KEY_REFRESH_BACKOFF, KEY_REFRESH_INTERVAL, KeySnapshots
from services.access.key_uses import KEY_USE_INTERVAL
from services.chassis.callers import Guard
from services.chassis.clock import Clock
from services.chassis.health import Health
from services.chassis.loops import Loop, looping
from services.chassis.settings import ProcessSettings


@asynccontextmanager
async def guarding(
    process: ProcessSettings, keys: KeySnapshots, sink: AuditSink, clock: Clock, health: Health
) -> AsyncIterator[Guard]:
    """Keep the keys new where callers need them, and write the audit log, until the end of the block.

    Enter it before the server that takes the guard.
    """
    audit_log = AuditLog(sink, health.service, clock, lambda: str(uuid7()))
    async with AsyncExitStack() as stack:
        if process.authentication == "required":
            refresh = Loop(
                keys.refresh,
                name="refresh keys",
                health=health,
                every=KEY_REFRESH_INTERVAL,
                backoff=KEY_REFRESH_BACKOFF,
            )
            await stack.enter_async_context(looping(refresh))
            report = Loop(
                lambda: keys.report_uses(clock.now()), name="report key uses", health=health, every=KEY_USE_INTERVAL
            )
            await stack.enter_async_context(looping(report))
        await stack.enter_async_context(auditing(audit_log, health))
        yield chosen_guard(process.authentication, keys.keys, clock, audit_log.record, keys.note_use)
