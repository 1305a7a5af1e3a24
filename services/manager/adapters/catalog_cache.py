"""The catalog of services in memory: decisions about alerts read it, and ask no database."""

import asyncio

import structlog

from services.manager.core.catalog import Catalog
from services.manager.ports.readers import CatalogReader

log = structlog.get_logger()


class CatalogCache:
    """Holds the newest catalog; `refresh` it before the first call."""

    def __init__(self, reader: CatalogReader) -> None:
        self._reader = reader
        self._newest = Catalog()
        self._refreshing = asyncio.Lock()

    @property
    def current(self) -> Catalog:
        return self._newest

    async def refresh(self) -> None:
        async with self._refreshing:
            if await self._reader.version() == self._newest.version:
                return
            catalog = await self._read_services()
            self._newest = catalog.with_learned(await self._reader.learned())
        log.info(
            "catalog_loaded",
            revision=self._newest.revision,
            services=len(self._newest.services),
            learned_edges=len(self._newest.edges),
        )

    async def _read_services(self) -> Catalog:
        if self._newest.epoch:
            changes = await self._reader.changes_since(self._newest.revision)
            # A new database, or one restored from a backup, is read as a whole; so is one after a deletion.
            if changes and changes.epoch == self._newest.epoch and changes.revision > self._newest.revision:
                return self._newest.apply(changes)
        return Catalog.of(await self._reader.snapshot())
