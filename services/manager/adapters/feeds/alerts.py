"""Changed alerts, read once for all who follow them."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from services.chassis.failures import ShuttingDown
from services.manager.core.alert import Alert
from services.manager.core.queries.filters import AlertFilter
from services.manager.core.queries.following import Follower
from services.manager.ports.queries import AlertReader

# More changed alerts than this at once, and everybody looks at all open ones instead.
_MOST_CHANGED = 10_000


class _Following:
    """A follower and its bell."""

    def __init__(self, hub: "AlertHub", follower: Follower) -> None:
        self.follower = follower
        self.bell = asyncio.Event()
        self._hub = hub

    async def wait(self) -> None:
        """See Following."""
        await self.bell.wait()
        self.bell.clear()
        if self._hub.is_closed:
            raise ShuttingDown("this instance is stopping")


class AlertHub:
    """Hands each changed alert to those who want it; a slow one loses forms in between and blocks nobody."""

    def __init__(self, reader: AlertReader, *, limit: int = 1000) -> None:
        self._reader = reader
        self._limit = limit
        self._followings: set[_Following] = set()
        self._changed: set[str] = set()
        self._said = asyncio.Event()
        self.is_closed = False

    @property
    def followers(self) -> int:
        """How many follow now."""
        return len(self._followings)

    @asynccontextmanager
    async def following(self, wanted: AlertFilter) -> AsyncIterator[_Following]:
        """See AlertFeed."""
        if self.is_closed:
            raise ShuttingDown("this instance is stopping")
        following = _Following(self, Follower(wanted, self._limit))
        self._followings.add(following)
        try:
            yield following
        finally:
            self._followings.discard(following)

    def wake(self, listed: str) -> None:
        """These alerts, named with commas between, have changed."""
        if self._followings:
            self._changed.update(listed.split(","))
            self._said.set()

    def missed(self) -> None:
        """Changes may have gone unheard: everybody looks again."""
        self._changed.clear()
        for following in self._followings:
            following.follower.fall_behind()
            following.bell.set()

    async def turn(self) -> None:
        """Wait for changes and hand them out; when they cannot be read everybody looks again."""
        await self._said.wait()
        self._said.clear()
        changed, self._changed = self._changed, set()
        try:
            await self._hand_out(changed)
        except Exception:
            self.missed()
            raise

    def close(self) -> None:
        """Send everybody away."""
        self.is_closed = True
        self.missed()

    async def _hand_out(self, changed: set[str]) -> None:
        if len(changed) > _MOST_CHANGED:
            self.missed()
            return
        self._offer(await self._reader.named(sorted(changed)))

    def _offer(self, alerts: Iterable[Alert]) -> None:
        found = list(alerts)
        for following in self._followings:
            for alert in found:
                following.follower.offer(alert)
            following.bell.set()
