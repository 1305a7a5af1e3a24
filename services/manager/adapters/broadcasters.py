"""Changed rules and alerts, read once and sent to everybody who watches them in this instance."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import structlog

from services.chassis.failures import Overloaded, ShuttingDown
from services.chassis.tenants import PerTenant, as_tenant
from services.manager.adapters.subscribers import Subscribers
from services.manager.core.alert import Alert, AlertFilter
from services.manager.core.alert_log import AlertCursor, AlertLog, FellBehindError
from services.manager.core.rule import RuleSnapshot, StoredRule
from services.manager.messages.alerts import alert_message
from services.manager.ports.feeds import AlertSubscription, CatalogFeed
from services.manager.ports.readers import AlertReader, RuleReader
from tocsin.alerts.v1.alert_service_pb2 import WatchAlertsResponse

log = structlog.get_logger()

# A NOTIFY that was lost is made up for after this time.
RULE_REFRESH_INTERVAL = timedelta(seconds=2)
# After more changed alerts than this at once, all open ones are read instead.
_MAX_CHANGED = 10_000


class RuleBroadcaster:
    """Holds the newest snapshot of the enabled rules, and of those in no table; `refresh` it before the first call."""

    def __init__(self, reader: RuleReader, unstored: Sequence[StoredRule] = ()) -> None:
        self._reader = reader
        self._unstored = unstored
        self._newest = self._current = RuleSnapshot(revision=0)
        self._changed = asyncio.Event()
        self._refreshing = asyncio.Lock()
        self._is_closed = False

    @property
    def current(self) -> RuleSnapshot:
        return self._current

    async def after(self, version: str) -> RuleSnapshot:
        while self._current.version == version and not self._is_closed:
            await self._changed.wait()
        if self._is_closed:
            raise ShuttingDown("this instance is stopping")
        return self._current

    async def refresh(self) -> None:
        async with self._refreshing:
            if await self._reader.version() == self._newest.version:
                return
            self._newest = await self._read()
            self._current = self._newest.with_unstored(self._unstored)
        log.info("rules_loaded", revision=self._newest.revision, rules=len(self._newest.rules))
        self._notify()

    def close(self) -> None:
        """End all streams."""
        self._is_closed = True
        self._notify()

    async def _read(self) -> RuleSnapshot:
        if not self._newest.epoch:
            return await self._reader.snapshot()
        changes = await self._reader.changes_since(self._newest.revision)
        # A new database, or one restored from a backup, is read as a whole.
        if self._newest.epoch == changes.epoch and changes.revision > self._newest.revision:
            return self._newest.apply(changes)
        return await self._reader.snapshot()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class AlertBroadcaster:
    """Holds the log that all watchers are sent from; without watchers there is none."""

    def __init__(self, reader: AlertReader, catalog: CatalogFeed | None = None, *, max_resolved: int = 10_000) -> None:
        self._reader = reader
        self._catalog = catalog
        self._max_resolved = max_resolved
        self.log = self._new_log()
        self._is_stale = True
        self._refreshing = asyncio.Lock()
        self._subscribers: Subscribers[_Subscription] = Subscribers(fill=self._refresh, drop=self._drop_log)
        self._changed_ids: set[str] = set()
        self._changed = asyncio.Event()

    @property
    def watchers(self) -> int:
        return len(self._subscribers)

    def subscribe(self, wanted: AlertFilter) -> AbstractAsyncContextManager["_Subscription"]:
        return self._subscribers.subscribe(lambda: _Subscription(self._subscribers, self.log, wanted))

    def mark_changed(self, alert_ids: str) -> None:
        """Have these alerts, separated by commas, read in the next turn."""
        if self._subscribers:
            self._changed_ids.update(alert_ids.split(","))
            self._changed.set()

    def mark_stale(self) -> None:
        """Have all open alerts read in the next turn, since changes may have been missed."""
        self._is_stale = True
        self._changed.set()

    async def turn(self) -> None:
        """Wait for changes and read them."""
        await self._changed.wait()
        await self.read_changes()

    async def read_changes(self) -> None:
        """Read what has changed, if anything; when that cannot be read, all open alerts are read the next time."""
        if not self._changed.is_set():
            return
        self._changed.clear()
        changed, self._changed_ids = self._changed_ids, set()
        if not self._subscribers:
            return
        try:
            if self._is_stale or len(changed) > _MAX_CHANGED:
                self._is_stale = True
                await self._refresh()
            else:
                for alert in await self._reader.list_by_id(sorted(changed)):
                    self.log.put(alert)
        except Exception:
            self.mark_stale()
            raise
        self._subscribers.notify()

    def close(self) -> None:
        """End all streams."""
        self._subscribers.close()

    async def _refresh(self) -> None:
        """Read all open alerts, unless the log is up to date."""
        async with self._refreshing:
            if not self._is_stale:
                return
            # The flag first: what is missed during the read must be read again.
            self._is_stale, alert_log = False, self.log
            try:
                closed = alert_log.put_all_open(await self._reader.list_open())
                stored = {alert.id: alert for alert in (await self._reader.list_by_id(closed) if closed else ())}
            except BaseException:
                self._is_stale = True
                raise
            for alert_id in closed:
                if alert_id in stored:
                    alert_log.put(stored[alert_id])
                else:
                    alert_log.remove(alert_id)

    def _drop_log(self) -> None:
        self.log, self._is_stale = self._new_log(), True

    def _new_log(self) -> AlertLog:
        return AlertLog(self._encode, self._max_resolved)

    def _encode(self, alert: Alert) -> bytes:
        catalog = None if self._catalog is None else self._catalog.current
        return WatchAlertsResponse(alert=alert_message(alert, catalog)).SerializeToString()


class _Subscription:
    """The cursor of one watcher."""

    def __init__(self, subscribers: Subscribers["_Subscription"], alert_log: AlertLog, wanted: AlertFilter) -> None:
        self.notified = asyncio.Event()
        self._subscribers = subscribers
        self._log = alert_log
        self._cursor = AlertCursor(wanted, start=alert_log.position)

    def next(self) -> bytes | None:
        try:
            entry = self._cursor.next(self._log)
        except FellBehindError:
            raise Overloaded("more alerts were resolved than could be sent; watch again") from None
        return None if entry is None else self._log.encoded(entry)

    async def wait(self) -> None:
        await self._subscribers.wait(self)


class TenantAlertFeed:
    """The broadcasters of alerts, one a tenant; of tenants whose alerts nobody watches there is nothing to do."""

    def __init__(self, make: Callable[[], AlertBroadcaster]) -> None:
        self._broadcasters = PerTenant(make)
        self._is_closed = False
        self._changed = asyncio.Event()

    @property
    def watchers(self) -> int:
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
