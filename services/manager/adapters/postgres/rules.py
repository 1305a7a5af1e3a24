"""Read rules, and write them in a transaction."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from asyncpg import Record, UniqueViolationError

from services.chassis.postgres import Connection, Database
from services.domain.severity import Severity
from services.manager.adapters.postgres import RULES_CHANGED
from services.manager.core.rule import RuleChanges, RuleEdit, RuleSnapshot, RuleStatistics, StoredRule
from services.manager.ports.readers import Page
from services.manager.ports.tables import NameTakenError
from services.rule_language.rule import Rule, RuleType

_COLUMNS = """
    id, name, description, type, scope, filter, group_by, value_field, condition, threshold, time_window, lateness,
    severity, labels, enabled, revision, selection_revision, create_time, update_time
"""

# The database knows whose rule is written.
_READ_COLUMNS = f"tenant, {_COLUMNS}"

# ruff: noqa: S608  (made of our own column names)
_SELECT_ONE = f"SELECT {_READ_COLUMNS} FROM alert_rules WHERE tenant = current_tenant() AND id = $1"
_SELECT_PAGE = f"""
SELECT {_READ_COLUMNS} FROM alert_rules
WHERE tenant = current_tenant() AND ($1::boolean IS NULL OR enabled = $1) AND ($2::text IS NULL OR name > $2)
ORDER BY name LIMIT $3
"""
# Each in one statement, so that the revision and the rules belong together. Evaluators follow those of all tenants.
_SELECT_SNAPSHOT = f"""
SELECT newest.revision AS newest_revision, newest.epoch, rules.*
FROM rule_revision AS newest
LEFT JOIN (SELECT {_READ_COLUMNS} FROM alert_rules WHERE enabled) AS rules ON true
ORDER BY rules.name
"""
_SELECT_CHANGES = f"""
SELECT newest.revision AS newest_revision, newest.epoch, rules.*,
    ARRAY(SELECT ARRAY[rule_id, tenant] FROM alert_rule_history WHERE revision > $1 AND edit = 'DELETED') AS deleted
FROM rule_revision AS newest
LEFT JOIN (SELECT {_READ_COLUMNS} FROM alert_rules WHERE revision > $1) AS rules ON true
ORDER BY rules.name
"""
_UPSERT = f"""
INSERT INTO alert_rules ({_COLUMNS})
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
ON CONFLICT (id) DO UPDATE SET
    name = excluded.name,
    description = excluded.description,
    type = excluded.type,
    scope = excluded.scope,
    filter = excluded.filter,
    group_by = excluded.group_by,
    value_field = excluded.value_field,
    condition = excluded.condition,
    threshold = excluded.threshold,
    time_window = excluded.time_window,
    lateness = excluded.lateness,
    severity = excluded.severity,
    labels = excluded.labels,
    enabled = excluded.enabled,
    revision = excluded.revision,
    selection_revision = excluded.selection_revision,
    create_time = excluded.create_time,
    update_time = excluded.update_time
"""
_INSERT_HISTORY = """
INSERT INTO alert_rule_history (revision, rule_id, edit, rule, create_time) VALUES ($1, $2, $3, $4, $5)
"""
# In the order of the rules, so that reports of several evaluators do not wait for each other in a circle.
_ADD_STATISTICS = """
INSERT INTO rule_statistics AS stored (rule_id, matched, late, beyond_limit, fired, evaluate_time, tenant)
SELECT added.*, tenant
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::timestamptz[])
    AS added (rule_id, matched, late, beyond_limit, fired, evaluate_time)
JOIN alert_rules ON id = added.rule_id
WHERE current_tenant() IN (tenant, '*')
ORDER BY added.rule_id
ON CONFLICT (rule_id) DO UPDATE SET
    matched = stored.matched + excluded.matched,
    late = stored.late + excluded.late,
    beyond_limit = stored.beyond_limit + excluded.beyond_limit,
    fired = stored.fired + excluded.fired,
    evaluate_time = greatest(stored.evaluate_time, excluded.evaluate_time)
"""
_SELECT_STATISTICS = """
SELECT coalesce(matched, 0) AS matched, coalesce(late, 0) AS late, coalesce(beyond_limit, 0) AS beyond_limit,
    coalesce(fired, 0) AS fired, evaluate_time
FROM alert_rules LEFT JOIN rule_statistics ON rule_id = id
WHERE alert_rules.tenant = current_tenant() AND id = $1
"""


class PostgresRules:
    """Tables alert_rules and alert_rule_history, in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def take_revision(self) -> int:
        revision: int = await self._connection.fetchval(
            "UPDATE rule_revision SET revision = revision + 1 RETURNING revision"
        )
        await self._connection.execute("SELECT pg_notify($1, $2)", RULES_CHANGED, str(revision))
        return revision

    async def count(self) -> int:
        return int(await self._connection.fetchval("SELECT count(*) FROM alert_rules WHERE tenant = current_tenant()"))

    async def get_for_update(self, rule_id: str) -> StoredRule | None:
        row = await self._connection.fetchrow(f"{_SELECT_ONE} FOR UPDATE", rule_id)
        return _rule_of(row) if row else None

    async def upsert(self, stored: StoredRule, edit: RuleEdit) -> None:
        try:
            await self._connection.execute(_UPSERT, *_rule_row(stored).values())
        except UniqueViolationError as error:
            raise NameTakenError(stored.rule.name) from error
        await self._insert_history(stored, stored.rule.revision, edit, stored.update_time)

    async def delete(self, stored: StoredRule, revision: int, now: datetime) -> None:
        await self._connection.execute(
            "DELETE FROM alert_rules WHERE tenant = current_tenant() AND id = $1", stored.rule.id
        )
        await self._insert_history(stored, revision, RuleEdit.DELETED, now)

    async def _insert_history(self, stored: StoredRule, revision: int, edit: RuleEdit, now: datetime) -> None:
        row = _rule_row(stored) | {"labels": dict(stored.rule.labels)}
        rule = json.dumps(row, default=str)
        await self._connection.execute(_INSERT_HISTORY, revision, stored.rule.id, edit.value, rule, now)


class PostgresRuleReader:
    """Table alert_rules, outside of transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def version(self) -> str:
        row = await self._database.fetchrow("SELECT epoch, revision FROM rule_revision")
        return f"{row['epoch']}.{row['revision']}" if row else ""

    async def get(self, rule_id: str) -> StoredRule | None:
        row = await self._database.fetchrow(_SELECT_ONE, rule_id)
        return _rule_of(row) if row else None

    async def list_page(self, page: Page, *, enabled: bool | None = None) -> Sequence[StoredRule]:
        after = page.after[0] if page.after else None
        return [_rule_of(row) for row in await self._database.fetch(_SELECT_PAGE, enabled, after, page.size + 1)]

    async def snapshot(self) -> RuleSnapshot:
        rows = await self._database.fetch(_SELECT_SNAPSHOT)
        rules = tuple(_rule_of(row) for row in rows if row["id"] is not None)
        revision = rows[0]["newest_revision"]
        return RuleSnapshot(revision=revision, epoch=rows[0]["epoch"], rules=rules, since=revision)

    async def changes_since(self, revision: int) -> RuleChanges:
        rows = await self._database.fetch(_SELECT_CHANGES, revision)
        rules = [_rule_of(row) for row in rows if row["id"] is not None]
        removed = dict(rows[0]["deleted"])
        removed |= {stored.rule.id: stored.rule.tenant for stored in rules if not stored.rule.enabled}
        return RuleChanges(
            revision=rows[0]["newest_revision"],
            epoch=rows[0]["epoch"],
            rules=tuple(stored for stored in rules if stored.rule.enabled),
            removed=tuple(removed),
            removed_from=removed,
        )


class PostgresRuleStatistics:
    """Table rule_statistics, in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def add(self, added: Mapping[str, RuleStatistics]) -> None:
        rows = [
            (rule_id, each.matched, each.late, each.beyond_limit, each.fired, each.evaluate_time)
            for rule_id, each in added.items()
        ]
        await self._connection.execute(_ADD_STATISTICS, *map(list, zip(*rows, strict=True)) if rows else [[]] * 6)


class PostgresRuleStatisticsReader:
    """Table rule_statistics, outside of transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, rule_id: str) -> RuleStatistics | None:
        row = await self._database.fetchrow(_SELECT_STATISTICS, rule_id)
        return RuleStatistics(**row) if row else None


def _rule_of(row: Record) -> StoredRule:
    rule = Rule(
        tenant=row["tenant"],
        id=row["id"],
        name=row["name"],
        description=row["description"],
        type=RuleType[row["type"]],
        scope=row["scope"],
        filter=row["filter"],
        group_by=tuple(row["group_by"]),
        value_field=row["value_field"],
        condition=row["condition"],
        threshold=row["threshold"],
        window=row["time_window"],
        lateness=row["lateness"],
        severity=Severity[row["severity"]],
        labels=json.loads(row["labels"]),
        enabled=row["enabled"],
        revision=row["revision"],
        selection_revision=row["selection_revision"],
    )
    return StoredRule(rule=rule, create_time=row["create_time"], update_time=row["update_time"])


def _rule_row(stored: StoredRule) -> dict[str, Any]:
    """Return the values of _COLUMNS, in their order, by name."""
    rule = stored.rule
    return {
        "id": rule.id,
        "name": rule.name,
        "description": rule.description,
        "type": rule.type.name,
        "scope": rule.scope,
        "filter": rule.filter,
        "group_by": list(rule.group_by),
        "value_field": rule.value_field,
        "condition": rule.condition,
        "threshold": rule.threshold,
        "time_window": rule.window,
        "lateness": rule.lateness,
        "severity": rule.severity.name,
        "labels": json.dumps(dict(rule.labels)),
        "enabled": rule.enabled,
        "revision": rule.revision,
        "selection_revision": rule.selection_revision,
        "create_time": stored.create_time,
        "update_time": stored.update_time,
    }
