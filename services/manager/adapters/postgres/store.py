"""Transactions over everything that the manager keeps."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from services.chassis.failures import StoreUnavailable
from services.chassis.postgres import Connection, Database
from services.manager.adapters.postgres.alerts import PostgresAlerts
from services.manager.adapters.postgres.endings import PostgresEndings
from services.manager.adapters.postgres.requests import PostgresRequests
from services.manager.adapters.postgres.rules import PostgresRules


class PostgresWriting:
    """One transaction's tables."""

    def __init__(self, connection: Connection) -> None:
        self.requests = PostgresRequests(connection)
        self.rules = PostgresRules(connection)
        self.alerts = PostgresAlerts(connection)
        self.endings = PostgresEndings(connection)


class PostgresStore:
    """Transactions on the manager's schema."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[PostgresWriting]:
        """See Store."""
        async with AsyncExitStack() as stack:
            try:
                connection = await stack.enter_async_context(self._database.transaction())
            except StoreUnavailable:
                # Nothing was written yet. Connections from before a restart of the server fail once.
                connection = await stack.enter_async_context(self._database.transaction())
            yield PostgresWriting(connection)
