"""Changed alerts, read and encoded once for all who follow them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.chassis.failures import Overloaded, ShuttingDown
from services.manager.core.alert import Alert
from services.manager.core.queries.filters import AlertFilter
from services.manager.core.queries.following import Board, FellBehindError, Follower
from services.manager.ports.queries import AlertReader
from services.manager.wire import alerts as wire
from tocsin.alerts.v1.alert_service_pb2 import WatchAlertsResponse

# More changed alerts than this at once, and all open ones are read instead.
_MOST_CHANGED = 10_000


class _Following:
    """A follower and its bell."""

    def __init__(self, hub: "AlertHub", wanted: AlertFilter) -> None:
        self.bell = asyncio.Event()
        self._hub = hub
        self._board = hub.board
        self._follower = Follower(wanted, began=hub.board.place)

    def take(self) -> bytes | None:
        """See Following."""
        try:
            form = self._follower.take(self._board)
        except FellBehindError:
            raise Overloaded("more alerts ended than could be sent; follow again") from None
        return None if form is None else self._board.encoded(form)

    async def wait(self) -> None:
        """See Following."""
        await self.bell.wait()
        self.bell.clear()
        if self._hub.is_closed:
            raise ShuttingDown("this instance is stopping")


class AlertHub:
    """Holds the board that all who follow are sent from; while nobody follows there is none."""

    def __init__(self, reader: AlertReader, *, limit: int = 10_000) -> None:
        self._reader = reader
        self._limit = limit
        self.board = self._empty()
        self._is_stale = True
        self._reading = asyncio.Lock()
        self._followings: set[_Following] = set()
        self._arriving = 0
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
        self._arriving += 1
        try:
            await self._look()
            following = _Following(self, wanted)
            self._followings.add(following)
            try:
                yield following
            finally:
                self._followings.discard(following)
        finally:
            self._arriving -= 1
            if not self._arriving:
                self.board, self._is_stale = self._empty(), True

    def wake(self, listed: str) -> None:
        """These alerts, named with commas between, have changed."""
        if self._arriving:
            self._changed.update(listed.split(","))
            self._said.set()

    def missed(self) -> None:
        """Changes may have gone unheard: all open alerts are read again."""
        self._is_stale = True
        self._said.set()

    async def turn(self) -> None:
        """Wait for changes and take them in; when they cannot be read, all open alerts are read next time."""
        await self._said.wait()
        self._said.clear()
        changed, self._changed = self._changed, set()
        if not self._arriving:
            return
        try:
            if self._is_stale or len(changed) > _MOST_CHANGED:
                self._is_stale = True
                await self._look()
            else:
                for alert in await self._reader.named(sorted(changed)):
                    self.board.put(alert)
        except Exception:
            self.missed()
            raise
        self._ring()

    def close(self) -> None:
        """Send everybody away."""
        self.is_closed = True
        self._ring()

    async def _look(self) -> None:
        """Read all open alerts, unless the board has them."""
        async with self._reading:
            if not self._is_stale:
                return
            # First the flag: what is missed while we read must be looked for again.
            self._is_stale, board = False, self.board
            try:
                gone = board.put_all_open(await self._reader.open(AlertFilter()))
                ended = {alert.id: alert for alert in (await self._reader.named(gone) if gone else ())}
            except BaseException:
                self._is_stale = True
                raise
            for name in gone:
                if name in ended:
                    board.put(ended[name])
                else:
                    board.remove(name)

    def _ring(self) -> None:
        for following in self._followings:
            following.bell.set()

    def _empty(self) -> Board:
        return Board(_encoded, self._limit)


def _encoded(alert: Alert) -> bytes:
    return WatchAlertsResponse(alert=wire.alert(alert)).SerializeToString()
