"""The routing tree in memory: decisions about alerts read it, and ask no database."""

import asyncio

import structlog

from services.manager.core.routing_tree import StoredTree
from services.manager.ports.readers import RoutingReader

log = structlog.get_logger()


class RoutingCache:
    """Holds the newest version of the tree; `refresh` it before the first call."""

    def __init__(self, reader: RoutingReader) -> None:
        self._reader = reader
        self._version = ""
        self._newest: StoredTree | None = None
        self._refreshing = asyncio.Lock()

    @property
    def current(self) -> StoredTree | None:
        return self._newest

    async def refresh(self) -> None:
        async with self._refreshing:
            version = await self._reader.version()
            if version == self._version:
                return
            self._newest = await self._reader.newest()
            self._version = version
        log.info("routing_loaded", version=self._newest.version if self._newest else 0)
