"""Changed incidents, read once and sent to everybody who watches them in this instance."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

from services.chassis.failures import Overloaded, StoreUnavailable
from services.chassis.tenants import PerTenant, as_tenant
from services.manager.adapters.subscribers import Subscribers
from services.manager.core.alert_log import FellBehindError
from services.manager.core.incident import IncidentSummary
from services.manager.core.incident_log import IncidentCursor, IncidentLog, WatchedIncidents
from services.manager.ports.feeds import IncidentSubscription
from services.manager.ports.readers import IncidentReader

# How often a revision is asked for while somebody watches; that reads one row.
INCIDENT_WATCH_INTERVAL = timedelta(milliseconds=500)


class IncidentBroadcaster:
    """Holds the log that all watchers are sent from; without watchers there is none."""

    def __init__(
        self, reader: IncidentReader, encode: Callable[[IncidentSummary], bytes], *, max_resolved: int = 10_000
    ) -> None:
        self._reader = reader
        self._encode = encode
        self._max_resolved = max_resolved
        self.log = self._new_log()
        self._is_filled = False
        self._refreshing = asyncio.Lock()
        self._subscribers: Subscribers[_IncidentSubscription] = Subscribers(fill=self._refresh, drop=self._start_anew)

    @property
    def watchers(self) -> int:
        return len(self._subscribers)

    def subscribe(self, wanted: WatchedIncidents) -> AbstractAsyncContextManager["_IncidentSubscription"]:
        return self._subscribers.subscribe(lambda: _IncidentSubscription(self, self._subscribers, wanted))

    async def turn(self) -> None:
        """Read what has changed, if anybody watches."""
        if self._subscribers:
            await self._refresh()

    def close(self) -> None:
        """End all streams."""
        self._subscribers.close()

    async def _refresh(self) -> None:
        async with self._refreshing:
            revision = await self._reader.revision()
            if revision < self.log.revision:
                # The database was restored from a backup: what watchers were sent is not there any more.
                self._start_anew()
            if self._is_filled and revision == self.log.revision:
                return
            log, open_only = self.log, not self._is_filled
            log.put(await self._reader.list_changed(log.revision, open_only=open_only), revision=revision)
            self._is_filled = log is self.log
        self._subscribers.notify()

    def _start_anew(self) -> None:
        self.log, self._is_filled = self._new_log(), False

    def _new_log(self) -> IncidentLog:
        return IncidentLog(self._encode, self._max_resolved)


class _IncidentSubscription:
    """The cursor of one watcher."""

    def __init__(
        self,
        broadcaster: IncidentBroadcaster,
        subscribers: Subscribers["_IncidentSubscription"],
        wanted: WatchedIncidents,
    ) -> None:
        self.notified = asyncio.Event()
        self._broadcaster = broadcaster
        self._subscribers = subscribers
        self._log = broadcaster.log
        self._cursor = IncidentCursor(wanted, start=broadcaster.log.revision)

    def take(self) -> Sequence[bytes]:
        try:
            return [self._log.encoded(entry) for entry in self._cursor.take(self._log)]
        except FellBehindError:
            raise Overloaded("more incidents were resolved than could be sent; watch again") from None

    async def wait(self) -> None:
        await self._subscribers.wait(self)
        if self._broadcaster.log is not self._log:
            raise StoreUnavailable("the incidents were restored from a backup; watch again")


class TenantIncidentFeed:
    """The broadcasters of incidents, one a tenant."""

    def __init__(self, make: Callable[[], IncidentBroadcaster]) -> None:
        self._broadcasters = PerTenant(make)
        self._is_closed = False

    @property
    def watchers(self) -> int:
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
