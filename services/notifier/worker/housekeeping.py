"""Forgetting what was delivered long ago."""

import asyncio
from datetime import timedelta

import structlog

from services.chassis.clock import Clock
from services.chassis.failures import Failure
from services.notifier.ports import Archive

log = structlog.get_logger()

_EVERY = timedelta(minutes=10)


async def housekeeping(archive: Archive, clock: Clock, retention: timedelta) -> None:
    """Forget in small portions, again and again, until cancelled."""
    while True:
        try:
            while forgotten := await archive.forget(before=clock.now() - retention):
                log.info("notifications_forgotten", notifications=forgotten)
        except Failure as failure:
            log.warning("housekeeping_waits", reason=failure.reason)
        await asyncio.sleep(_EVERY.total_seconds())
