"""Transactions over the manager's tables, and the short table of rule endings."""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime

from services.chassis.failures import StoreUnavailable
from services.chassis.postgres import Connection, Database
from services.chassis.request_ids import PostgresRequests
from services.manager.adapters.postgres import RULE_ENDED
from services.manager.adapters.postgres.alerts import PostgresAlerts, PostgresTransitions
from services.manager.adapters.postgres.api_keys import PostgresApiKeys
from services.manager.adapters.postgres.audit import PostgresAudit
from services.manager.adapters.postgres.catalog import PostgresCatalog
from services.manager.adapters.postgres.incidents import PostgresIncidents
from services.manager.adapters.postgres.learned_edges import PostgresLearnedEdges, PostgresTraces
from services.manager.adapters.postgres.notifications import PostgresNotifications
from services.manager.adapters.postgres.on_call import PostgresOnCall
from services.manager.adapters.postgres.routing import PostgresRouting
from services.manager.adapters.postgres.rule_problems import PostgresRuleProblems
from services.manager.adapters.postgres.rules import PostgresRules, PostgresRuleStatistics
from services.manager.adapters.postgres.service_changes import PostgresChanges
from services.manager.adapters.postgres.silences import PostgresSilences
from services.manager.core.rule_edits import RuleEnding
from services.manager.ports.feeds import CatalogFeed

_INSERT_SEED = "INSERT INTO seeds (name) VALUES ($1) ON CONFLICT DO NOTHING RETURNING true"
_INSERT_ENDING = """
INSERT INTO rule_endings (revision, rule_id, comment, traceparent, create_time) VALUES ($1, $2, $3, $4, $5)
"""
_SELECT_ENDING = """
SELECT revision, rule_id, comment, traceparent FROM rule_endings WHERE tenant = current_tenant()
ORDER BY revision LIMIT 1 FOR UPDATE SKIP LOCKED
"""
# The newest of each rule comes last.
_SELECT_ENDINGS = """
SELECT revision, rule_id, comment, traceparent FROM rule_endings
WHERE tenant = current_tenant() AND rule_id = ANY($1) ORDER BY revision
"""


class PostgresSeeds:
    """Table seeds, in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def insert(self, name: str) -> bool:
        return bool(await self._connection.fetchval(_INSERT_SEED, name))


class PostgresRuleEndings:
    """Table rule_endings, in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def insert(self, ending: RuleEnding, now: datetime) -> None:
        await self._connection.execute(
            _INSERT_ENDING, ending.revision, ending.rule_id, ending.comment, ending.traceparent, now
        )
        await self._connection.execute("SELECT pg_notify($1, '')", RULE_ENDED)

    async def next_for_update(self) -> RuleEnding | None:
        row = await self._connection.fetchrow(_SELECT_ENDING)
        return RuleEnding(**row) if row else None

    async def load(self, rule_ids: Collection[str]) -> Mapping[str, RuleEnding]:
        rows = await self._connection.fetch(_SELECT_ENDINGS, list(rule_ids)) if rule_ids else []
        return {row["rule_id"]: RuleEnding(**row) for row in rows}

    async def delete(self, ending: RuleEnding) -> None:
        await self._connection.execute("DELETE FROM rule_endings WHERE revision = $1", ending.revision)


class PostgresTransaction:
    """The tables, in one transaction."""

    def __init__(self, connection: Connection, catalog: CatalogFeed | None = None) -> None:
        self.requests = PostgresRequests(connection)
        self.rules = PostgresRules(connection)
        self.rule_statistics = PostgresRuleStatistics(connection)
        self.rule_problems = PostgresRuleProblems(connection)
        self.seeds = PostgresSeeds(connection)
        self.transitions = PostgresTransitions(connection)
        self.changes = PostgresChanges(connection)
        self.alerts = PostgresAlerts(connection)
        self.notifications = PostgresNotifications(connection, catalog)
        self.catalog = PostgresCatalog(connection)
        self.learned_edges = PostgresLearnedEdges(connection)
        self.traces = PostgresTraces(connection)
        self.api_keys = PostgresApiKeys(connection)
        self.audit = PostgresAudit(connection)
        self.silences = PostgresSilences(connection)
        self.routing = PostgresRouting(connection)
        self.on_call = PostgresOnCall(connection)
        self.rule_endings = PostgresRuleEndings(connection)
        self.incidents = PostgresIncidents(connection)


class PostgresStore:
    """Transactions on the manager's schema; notifications say what the catalog has of their alerts' services."""

    def __init__(self, database: Database, catalog: CatalogFeed | None = None) -> None:
        self._database = database
        self._catalog = catalog

    @asynccontextmanager
    async def transaction(self, *, commit: bool = True) -> AsyncIterator[PostgresTransaction]:
        with suppress(_RollbackError):
            async with AsyncExitStack() as stack:
                try:
                    connection = await stack.enter_async_context(self._database.transaction())
                except StoreUnavailable:
                    # Nothing was written yet. Connections from before a restart of the server fail once.
                    connection = await stack.enter_async_context(self._database.transaction())
                yield PostgresTransaction(connection, self._catalog)
                if not commit:
                    raise _RollbackError


class _RollbackError(Exception):
    """Ends a transaction that is not to be committed."""
