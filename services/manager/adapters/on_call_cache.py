"""People, schedules and escalation policies in memory: decisions read them, and ask no database."""

import asyncio

import structlog

from services.manager.core.on_call import OnCallDirectory
from services.manager.core.on_call_records import OnCallSnapshot
from services.manager.ports.readers import OnCallReader

log = structlog.get_logger()


class OnCallCache:
    """Holds the newest of all; `refresh` it before the first call."""

    def __init__(self, reader: OnCallReader) -> None:
        self._reader = reader
        self._snapshot = OnCallSnapshot()
        self._directory = OnCallDirectory()
        self._refreshing = asyncio.Lock()

    @property
    def snapshot(self) -> OnCallSnapshot:
        return self._snapshot

    @property
    def current(self) -> OnCallDirectory:
        return self._directory

    async def refresh(self) -> None:
        async with self._refreshing:
            if await self._reader.version() == self._snapshot.version:
                return
            self._snapshot = await self._reader.snapshot()
            self._directory = self._snapshot.directory()
        log.info("on_call_loaded", revision=self._snapshot.revision, resources=len(self._snapshot.records))
