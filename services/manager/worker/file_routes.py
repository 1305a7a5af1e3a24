"""Store the routes of the notifier's file as the first version of the routing tree, while no tree was ever set."""

from datetime import timedelta

import structlog

from services.chassis.clock import Clock
from services.chassis.failures import Failure
from services.manager.core.routing_checks import routing_problems
from services.manager.core.routing_tree import FILE_AUTHOR, StoredTree
from services.manager.ports.feeds import ReceiverFeed, RoutingFeed
from services.manager.ports.tables import Store

log = structlog.get_logger()

_COMMENT = "the routes of the notifier's file, which are ignored from now on"
# The file may get routes while the notifier restarts.
_ASK_INTERVAL = timedelta(seconds=10)
_IDLE_INTERVAL = timedelta(minutes=1)


class FileRoutesWorker:
    """Asks the notifier until there is a tree. Of several instances one stores the routes."""

    def __init__(self, store: Store, feed: RoutingFeed, receivers: ReceiverFeed, clock: Clock) -> None:
        self._store = store
        self._feed = feed
        self._receivers = receivers
        self._clock = clock

    async def turn(self) -> timedelta:
        """Store the routes if there are some; return when to look again."""
        if self._feed.current is not None:
            return _IDLE_INTERVAL
        try:
            found = await self._receivers.receivers()
        except Failure:
            # Until it answers its file decides.
            return _ASK_INTERVAL
        tree = found.file_routes
        if tree is None:
            return _ASK_INTERVAL
        problems = routing_problems(tree, receivers=found.names, policies=())
        if problems:
            log.warning("file_routes_refused", problems=[f"{field}: {problem}" for field, problem in problems[:10]])
            return _IDLE_INTERVAL
        stored = StoredTree(tree=tree, version=1, author=FILE_AUTHOR, comment=_COMMENT, create_time=self._clock.now())
        async with self._store.transaction() as transaction:
            if await transaction.routing.lock() is None:
                await transaction.routing.insert(stored)
                log.info("file_routes_stored", routes=len(tree.root.routes))
        await self._feed.refresh()
        return _IDLE_INTERVAL
