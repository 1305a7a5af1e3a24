"""The manager's store in memory."""

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from typing import Any

from services.chassis.failures import StoreUnavailable
from services.chassis.tenants import current_tenant
from tests.fakes.access import AccessRows, MemoryApiKeys, MemoryAudit
from tests.fakes.incidents import MemoryIncidents, MemoryNotifications
from tests.fakes.learned_edges import MemoryLearnedEdges, MemoryTraces
from tests.fakes.manager_tables import (
    MemoryAlerts,
    MemoryCatalog,
    MemoryChanges,
    MemoryOnCall,
    MemoryRouting,
    MemoryRuleEndings,
    MemoryRuleProblems,
    MemoryRules,
    MemoryRuleStatistics,
    MemorySeeds,
    MemorySilences,
    MemoryTransitions,
    Tables,
)


class MemoryTransaction:
    def __init__(self, tables: Tables) -> None:
        self.requests = tables.requests
        self.rules = MemoryRules(tables)
        self.rule_statistics = MemoryRuleStatistics(tables)
        self.rule_problems = MemoryRuleProblems(tables)
        self.seeds = MemorySeeds(tables)
        self.transitions = MemoryTransitions(tables)
        self.alerts = MemoryAlerts(tables)
        self.catalog = MemoryCatalog(tables)
        self.changes = MemoryChanges(tables)
        self.learned_edges = MemoryLearnedEdges(tables.learned)
        self.traces = MemoryTraces(tables.learned)
        self.silences = MemorySilences(tables)
        self.api_keys = MemoryApiKeys(tables.access)
        self.audit = MemoryAudit(tables.access)
        self.routing = MemoryRouting(tables)
        self.on_call = MemoryOnCall(tables)
        self.rule_endings = MemoryRuleEndings(tables)
        self.incidents = MemoryIncidents(tables.incidents, tables.alerts, tables.headers)
        self.notifications = MemoryNotifications(tables.outbox, tables.alerts, tables.headers, tables.incidents)


class MemoryStore:
    """Transactions one after the other, each on its tenant's own tables; `fail_commits` are lost at the last moment."""

    def __init__(self) -> None:
        self.tenants = {"default": Tables()}
        # Keys and the audit log are in tables of all tenants.
        self._access = AccessRows()
        self.fail_commits = 0
        self._lock = asyncio.Lock()

    @property
    def tables(self) -> Tables:
        """Return the current tenant's tables."""
        tables = self.tenants.setdefault(current_tenant(), Tables())
        tables.access = self._access
        return tables

    @asynccontextmanager
    async def transaction(self, *, commit: bool = True) -> AsyncIterator[MemoryTransaction]:
        async with self._lock:
            tables = _copied(self.tables)
            yield MemoryTransaction(tables)
            if not commit:
                return
            if self.fail_commits:
                self.fail_commits -= 1
                raise StoreUnavailable("the database does not answer")
            self.tenants[current_tenant()] = tables
            self._access = tables.access


def _copied(rows: Any) -> Any:
    """Return rows that a transaction may change; tuples and frozen values, which nothing changes, are shared."""
    if isinstance(rows, dict):
        return {key: _copied(each) for key, each in rows.items()}
    if isinstance(rows, list):
        return [_copied(each) for each in rows]
    parameters = getattr(rows, "__dataclass_params__", None)
    if parameters is None:
        return rows if isinstance(rows, tuple) else copy.deepcopy(rows)
    if parameters.frozen:
        return rows
    return replace(rows, **{each.name: _copied(getattr(rows, each.name)) for each in fields(rows)})
