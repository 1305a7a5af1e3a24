"""Forgetting what was delivered long ago."""

from datetime import timedelta

import structlog

from services.chassis.clock import Clock
from services.notifier.ports import Archive

log = structlog.get_logger()

EVERY = timedelta(minutes=10)


async def forget(archive: Archive, clock: Clock, retention: timedelta) -> None:
    """Forget in small portions, until nothing is left to forget."""
    while forgotten := await archive.forget(before=clock.now() - retention):
        log.info("notifications_forgotten", notifications=forgotten)
