"""What the manager keeps in memory or in a cache, and what watches it."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.manager.core.alert import AlertFilter
from services.manager.core.catalog import Catalog
from services.manager.core.incident_log import WatchedIncidents
from services.manager.core.on_call import OnCallDirectory
from services.manager.core.on_call_records import OnCallSnapshot
from services.manager.core.routing_tree import RoutingTree, StoredTree
from services.manager.core.rule import RuleSnapshot
from services.manager.core.silence_index import SilenceIndex


class TenantDirectory(Protocol):
    """Which tenants there are."""

    @property
    def known(self) -> Sequence[str]:
        """Return the names of all tenants, in their order."""

    async def refresh(self) -> None:
        """Make `known` at least as new as this moment. Raises Failure."""


class SilenceFeed(Protocol):
    """The silences, in memory."""

    def index(self, now: datetime) -> SilenceIndex:
        """Return what is silenced now: the same object until a silence begins, ends or is written."""

    def names_alerts(self) -> bool:
        """Return whether a silence that has not expired is one of named alerts."""

    async def refresh(self) -> None:
        """Make what is known at least as new as this moment. Raises Failure."""


class DedupCache(Protocol):
    """A fast guess, and never more than that, at which open keys have an open alert."""

    async def add(self, keys: Sequence[str]) -> frozenset[str]:
        """Add keys; return those that were not in the cache. Returns none when the cache is away."""

    async def remove(self, keys: Sequence[str]) -> None:
        """Remove keys, whose alerts are resolved."""


class ResponseCache(Protocol):
    """Responses that need not be computed again: the response to a key never changes."""

    async def get(self, key: str, compute: Callable[[], Awaitable[bytes]]) -> bytes:
        """Return the cached response, else compute and cache it. A cache that is away is passed over."""


class RuleFeed(Protocol):
    """The enabled rules as they change."""

    @property
    def current(self) -> RuleSnapshot:
        """Return the newest known snapshot."""

    async def after(self, version: str) -> RuleSnapshot:
        """Wait for a snapshot of another version. Raises Failure when the service stops."""

    async def refresh(self) -> None:
        """Make `current` at least as new as this moment. Raises Failure."""


class CatalogFeed(Protocol):
    """The catalog, in memory."""

    @property
    def current(self) -> Catalog:
        """Return the newest known catalog."""

    async def refresh(self) -> None:
        """Make `current` at least as new as this moment. Raises Failure."""


class RoutingFeed(Protocol):
    """The routing tree, in memory."""

    @property
    def current(self) -> StoredTree | None:
        """Return the newest known version; None while none was ever set: then the notifier's file decides."""

    async def refresh(self) -> None:
        """Make `current` at least as new as this moment. Raises Failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifierReceivers:
    """The names of the notifier's receivers, and the routes of its file, if that has some."""

    names: frozenset[str] = frozenset()
    file_routes: RoutingTree | None = None


class ReceiverFeed(Protocol):
    """What the notifier says of its receivers."""

    async def receivers(self) -> NotifierReceivers:
        """Return its receivers as they were at most some seconds ago. Raises Failure when it does not answer."""


class AlertFeed(Protocol):
    """Changes of alerts, as any instance commits them."""

    def subscribe(self, wanted: AlertFilter) -> AbstractAsyncContextManager["AlertSubscription"]:
        """Watch alerts from now on."""


class AlertSubscription(Protocol):
    """What one watcher has yet to be sent."""

    def next(self) -> bytes | None:
        """Return the newest version of the next alert to send, encoded; None when all were sent.

        Raises Failure for a watcher that is too slow.
        """

    async def wait(self) -> None:
        """Wait until there may be something to send. Raises Failure when the service stops."""


class IncidentFeed(Protocol):
    """Changes of incidents, as any instance commits them."""

    def subscribe(self, wanted: WatchedIncidents) -> AbstractAsyncContextManager["IncidentSubscription"]:
        """Watch incidents from now on. Raises Failure."""


class IncidentSubscription(Protocol):
    """What one watcher of incidents has yet to be sent."""

    def take(self) -> Sequence[bytes]:
        """Return the newest versions of the incidents to send, encoded. Raises Failure for a slow watcher."""

    async def wait(self) -> None:
        """Wait until there may be something to send. Raises Failure when the service stops."""


class OnCallFeed(Protocol):
    """People, schedules and escalation policies, in memory."""

    @property
    def current(self) -> OnCallDirectory:
        """Return the newest known directory."""

    @property
    def snapshot(self) -> OnCallSnapshot:
        """Return what the directory is made of."""

    async def refresh(self) -> None:
        """Make `current` at least as new as this moment. Raises Failure."""
