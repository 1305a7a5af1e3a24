"""What is kept in memory, for each tenant by itself: whoever reads it is shown what the current tenant has."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime

from services.chassis.clock import Clock
from services.chassis.postgres import Database
from services.chassis.tenants import DEFAULT_TENANT, PerTenant, as_tenant
from services.manager.adapters.broadcasters import AlertBroadcaster
from services.manager.adapters.catalog_cache import CatalogCache
from services.manager.adapters.incident_broadcaster import IncidentBroadcaster
from services.manager.adapters.on_call_cache import OnCallCache
from services.manager.adapters.routing_cache import RoutingCache
from services.manager.adapters.silence_cache import SilenceCache
from services.manager.core.alert import AlertFilter
from services.manager.core.catalog import Catalog
from services.manager.core.incident_log import WatchedIncidents
from services.manager.core.on_call import OnCallDirectory
from services.manager.core.on_call_records import OnCallSnapshot
from services.manager.core.routing_tree import StoredTree
from services.manager.core.silence_index import SilenceIndex
from services.manager.ports.feeds import AlertSubscription, IncidentSubscription
from services.manager.ports.readers import CatalogReader, OnCallReader, RoutingReader, SilenceReader


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


class TenantCatalogs:
    """The catalogs of services."""

    def __init__(self, reader: CatalogReader) -> None:
        self._caches = PerTenant(lambda: CatalogCache(reader))

    @property
    def current(self) -> Catalog:
        return self._caches.mine.current

    async def refresh(self) -> None:
        await self._caches.mine.refresh()


class TenantRouting:
    """The routing trees."""

    def __init__(self, reader: RoutingReader) -> None:
        self._caches = PerTenant(lambda: RoutingCache(reader))

    @property
    def current(self) -> StoredTree | None:
        return self._caches.mine.current

    async def refresh(self) -> None:
        await self._caches.mine.refresh()


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


class TenantAlertFeed:
    """The broadcasters of alerts; of tenants whose alerts nobody watches there is nothing to do."""

    def __init__(self, make: Callable[[], AlertBroadcaster]) -> None:
        self._broadcasters = PerTenant(make)
        self._is_closed = False
        self._changed = asyncio.Event()

    @property
    def watchers(self) -> int:
        """Return the number of watchers."""
        return sum(each.watchers for _, each in self._broadcasters.all())

    def subscribe(self, wanted: AlertFilter) -> AbstractAsyncContextManager[AlertSubscription]:
        mine = self._broadcasters.mine
        if self._is_closed:
            mine.close()
        return mine.subscribe(wanted)

    def mark_changed(self, alert_ids: str) -> None:
        """Have these alerts, separated by commas, read in the next turn; whose they are, the database knows."""
        for _, each in self._broadcasters.all():
            each.mark_changed(alert_ids)
        self._changed.set()

    def mark_stale(self) -> None:
        """Have all open alerts read in the next turn, since changes may have been missed."""
        for _, each in self._broadcasters.all():
            each.mark_stale()
        self._changed.set()

    async def turn(self) -> None:
        """Wait for changes and read them."""
        await self._changed.wait()
        self._changed.clear()
        try:
            for tenant, each in self._broadcasters.all():
                with as_tenant(tenant):
                    await each.read_changes()
        except Exception:
            self._changed.set()
            raise

    def close(self) -> None:
        """End all streams."""
        self._is_closed = True
        for _, each in self._broadcasters.all():
            each.close()


class TenantIncidentFeed:
    """The broadcasters of incidents."""

    def __init__(self, make: Callable[[], IncidentBroadcaster]) -> None:
        self._broadcasters = PerTenant(make)
        self._is_closed = False

    @property
    def watchers(self) -> int:
        """Return the number of watchers."""
        return sum(each.watchers for _, each in self._broadcasters.all())

    def subscribe(self, wanted: WatchedIncidents) -> AbstractAsyncContextManager[IncidentSubscription]:
        mine = self._broadcasters.mine
        if self._is_closed:
            mine.close()
        return mine.subscribe(wanted)

    async def turn(self) -> None:
        """Read what has changed, of tenants whose incidents somebody watches."""
        for tenant, each in self._broadcasters.all():
            with as_tenant(tenant):
                await each.turn()

    def close(self) -> None:
        """End all streams."""
        self._is_closed = True
        for _, each in self._broadcasters.all():
            each.close()
