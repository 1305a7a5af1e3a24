"""What decisions about alerts read in memory, and ask no database for.

It is kept for each tenant by itself: whoever reads it is shown what the current tenant has.
"""

import asyncio
from datetime import datetime

import structlog

from services.chassis.clock import Clock
from services.chassis.postgres import Database
from services.chassis.tenants import DEFAULT_TENANT, PerTenant
from services.manager.core.catalog import Catalog
from services.manager.core.on_call import OnCallDirectory
from services.manager.core.on_call_records import OnCallSnapshot
from services.manager.core.routing_tree import StoredTree
from services.manager.core.silence import Silence, SilenceState
from services.manager.core.silence_index import SilenceIndex
from services.manager.ports.readers import CatalogReader, OnCallReader, RoutingReader, SilenceReader

log = structlog.get_logger()


class TenantNames:
    """The tenants that have or had any rows; `refresh` it before the first call."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: tuple[str, ...] = (DEFAULT_TENANT,)

    @property
    def known(self) -> tuple[str, ...]:
        return self._known

    async def refresh(self) -> None:
        rows = await self._database.fetch("SELECT name FROM tenants ORDER BY name")
        self._known = tuple(row["name"] for row in rows)


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


class TenantCatalogs:
    """The catalogs of services."""

    def __init__(self, reader: CatalogReader) -> None:
        self._caches = PerTenant(lambda: CatalogCache(reader))

    @property
    def current(self) -> Catalog:
        return self._caches.mine.current

    async def refresh(self) -> None:
        await self._caches.mine.refresh()


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


class TenantRouting:
    """The routing trees."""

    def __init__(self, reader: RoutingReader) -> None:
        self._caches = PerTenant(lambda: RoutingCache(reader))

    @property
    def current(self) -> StoredTree | None:
        return self._caches.mine.current

    async def refresh(self) -> None:
        await self._caches.mine.refresh()


class SilenceCache:
    """Holds the newest silences; `refresh` it before the first call."""

    def __init__(self, reader: SilenceReader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock
        self._version = ""
        self._silences: dict[str, Silence] = {}
        self._index: SilenceIndex | None = None
        self._refreshing = asyncio.Lock()

    def index(self, now: datetime) -> SilenceIndex:
        if self._index is None or not self._index.is_valid(now):
            kept = (each for each in self._silences.values() if each.state(now) is not SilenceState.EXPIRED)
            self._silences = {silence.id: silence for silence in kept}
            self._index = SilenceIndex.of(self._silences.values(), now=now)
        return self._index

    def names_alerts(self) -> bool:
        return any(silence.alert_ids for silence in self._silences.values())

    async def refresh(self) -> None:
        async with self._refreshing:
            if await self._reader.version() == self._version:
                return
            changes = await self._reader.changes_since(self._version, self._clock.now())
            if changes.is_whole:
                self._silences = {}
            self._silences |= {silence.id: silence for silence in changes.silences}
            self._version, self._index = changes.version, None
        log.info("silences_loaded", version=self._version, silences=len(self._silences))


class TenantSilences:
    """The silences that have not expired."""

    def __init__(self, reader: SilenceReader, clock: Clock) -> None:
        self._caches = PerTenant(lambda: SilenceCache(reader, clock))

    def index(self, now: datetime) -> SilenceIndex:
        return self._caches.mine.index(now)

    def names_alerts(self) -> bool:
        return self._caches.mine.names_alerts()

    async def refresh(self) -> None:
        await self._caches.mine.refresh()


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


class TenantOnCall:
    """People, schedules and escalation policies."""

    def __init__(self, reader: OnCallReader) -> None:
        self._caches = PerTenant(lambda: OnCallCache(reader))

    @property
    def snapshot(self) -> OnCallSnapshot:
        return self._caches.mine.snapshot

    @property
    def current(self) -> OnCallDirectory:
        return self._caches.mine.current

    async def refresh(self) -> None:
        await self._caches.mine.refresh()
