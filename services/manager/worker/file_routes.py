"""Store the routes of the notifier's file as the routing tree, as long as nobody has set one.

A file that changes changes the tree, so that whoever has only a file can go on to edit it and to restart the notifier.
Once somebody has set a tree, or rolled one back, the file's routes are ignored for ever.
"""

from datetime import datetime, timedelta

import structlog

from services.chassis.clock import Clock
from services.chassis.failures import Failure
from services.manager.core.routing_checks import routing_problems
from services.manager.core.routing_tree import FILE_AUTHOR, RoutingTree, StoredTree
from services.manager.ports.feeds import ReceiverFeed, RoutingFeed
from services.manager.ports.tables import Store

log = structlog.get_logger()

_COMMENT = "the routes of the notifier's file, which are ignored once somebody sets a tree"
_ASK_INTERVAL = timedelta(seconds=3)
# Notifiers with different files, as during a rolling restart, would otherwise change the tree again and again.
_MIN_AGE = timedelta(seconds=15)
_IDLE_INTERVAL = timedelta(minutes=1)


class FileRoutesWorker:
    """Asks the notifier for its routes; of several instances one stores them."""

    def __init__(self, store: Store, feed: RoutingFeed, receivers: ReceiverFeed, clock: Clock) -> None:
        self._store = store
        self._feed = feed
        self._receivers = receivers
        self._clock = clock

    async def turn(self) -> timedelta:
        """Store the routes if they are new; return when to look again."""
        newest, now = self._feed.current, self._clock.now()
        if newest is not None and newest.author != FILE_AUTHOR:
            return _IDLE_INTERVAL
        try:
            found = await self._receivers.receivers()
        except Failure:
            return _ASK_INTERVAL
        tree = found.file_routes
        if tree is None or not _is_due(newest, tree, now):
            return _ASK_INTERVAL
        problems = routing_problems(tree, receivers=found.names, policies=())
        if problems:
            log.warning("file_routes_refused", problems=[f"{field}: {problem}" for field, problem in problems[:10]])
            return _IDLE_INTERVAL
        await self._write(newest, tree, now)
        return _ASK_INTERVAL

    async def _write(self, newest: StoredTree | None, tree: RoutingTree, now: datetime) -> None:
        version = newest.version + 1 if newest else 1
        stored = StoredTree(tree=tree, version=version, author=FILE_AUTHOR, comment=_COMMENT, create_time=now)
        async with self._store.transaction() as transaction:
            # Otherwise another manager has done it, or somebody has set a tree.
            if await transaction.routing.lock() == newest:
                await transaction.routing.insert(stored)
                log.info("file_routes_stored", version=version)
        await self._feed.refresh()


def _is_due(newest: StoredTree | None, tree: RoutingTree, now: datetime) -> bool:
    """Return whether a tree takes the place of the one that the file had before."""
    return newest is None or (newest.tree != tree and now - newest.create_time >= _MIN_AGE)
