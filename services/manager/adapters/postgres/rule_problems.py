"""Rules that evaluators do not evaluate: read what is reported now, and write reports in a transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from datetime import datetime

from asyncpg import Record

from services.chassis.postgres import Connection, Database
from services.domain.problem_reason import ProblemReason
from services.manager.adapters.postgres.alert_rows import columns
from services.manager.core.rule_problems import ProblemChanges, ReportedProblem, RuleHistoryEntry, RuleHistoryKind

# Of each rule so many entries are kept, besides those of its edits.
_MAX_HISTORY = 100

_SELECT_OF_INSTANCE = """
SELECT rule_id, instance, reason, description, set_aside_time, retry_time FROM rule_problems
WHERE current_tenant() IN (tenant, '*') AND instance = $1
FOR UPDATE
"""
# In the order of the rules, so that reports of several evaluators do not wait for each other in a circle.
_UPSERT = """
INSERT INTO rule_problems AS stored
    (rule_id, instance, reason, description, set_aside_time, retry_time, report_time, tenant)
SELECT reported.*, $7, tenant FROM
    unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[])
    AS reported (rule_id, instance, reason, description, set_aside_time, retry_time)
JOIN alert_rules ON id = reported.rule_id
WHERE current_tenant() IN (tenant, '*')
ORDER BY reported.rule_id
ON CONFLICT (tenant, rule_id, instance) DO UPDATE SET
    reason = excluded.reason,
    description = excluded.description,
    set_aside_time = excluded.set_aside_time,
    retry_time = excluded.retry_time,
    report_time = excluded.report_time
"""
_DELETE = "DELETE FROM rule_problems WHERE current_tenant() IN (tenant, '*') AND instance = $1 AND rule_id = ANY($2)"
_INSERT_HISTORY = """
INSERT INTO rule_problem_history (rule_id, kind, create_time, reason, description, instance, tenant)
SELECT added.*, tenant FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::text[])
    AS added (rule_id, kind, create_time, reason, description, instance)
JOIN alert_rules ON id = added.rule_id
WHERE current_tenant() IN (tenant, '*')
"""
_TRIM_HISTORY = """
DELETE FROM rule_problem_history AS old
WHERE current_tenant() IN (tenant, '*') AND old.rule_id = ANY($1::text[]) AND old.position <= (
    SELECT position FROM rule_problem_history WHERE rule_id = old.rule_id ORDER BY position DESC OFFSET $2 LIMIT 1)
"""
_SELECT_CURRENT = """
SELECT rule_id, instance, reason, description, set_aside_time, retry_time FROM rule_problems
WHERE tenant = current_tenant() AND rule_id = ANY($1::text[]) AND report_time > $2
ORDER BY rule_id, instance
"""
_SELECT_BEYOND_LIMIT = """
SELECT rule_id, beyond_limit FROM rule_statistics
WHERE tenant = current_tenant() AND rule_id = ANY($1::text[]) AND beyond_limit > 0
"""
_SELECT_HISTORY = """
SELECT kind, create_time, reason, description, instance FROM (
    SELECT kind, create_time, reason, description, instance, position AS place FROM rule_problem_history
    WHERE tenant = current_tenant() AND rule_id = $1
    UNION ALL
    SELECT edit, create_time, '', '', '', revision FROM alert_rule_history
    WHERE tenant = current_tenant() AND rule_id = $1 AND edit <> 'DELETED') AS entries
ORDER BY create_time DESC, place DESC LIMIT $2
"""


class PostgresRuleProblems:
    """Tables rule_problems and rule_problem_history, in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def load_for_update(self, instance: str) -> Mapping[str, ReportedProblem]:
        rows = await self._connection.fetch(_SELECT_OF_INSTANCE, instance)
        return {row["rule_id"]: _problem_of(row) for row in rows}

    async def save(self, instance: str, changes: ProblemChanges, now: datetime) -> None:
        if changes.current:
            rows = [(rule_id, *astuple(problem)) for rule_id, problem in changes.current.items()]
            await self._connection.execute(_UPSERT, *columns(rows), now)
        if changes.over:
            await self._connection.execute(_DELETE, instance, sorted(changes.over))
        if changes.history:
            entries = [
                (rule_id, each.kind, each.create_time, each.reason or "", each.description, each.instance)
                for rule_id, each in sorted(changes.history.items())
            ]
            await self._connection.execute(_INSERT_HISTORY, *columns(entries))
            await self._connection.execute(_TRIM_HISTORY, sorted(changes.history), _MAX_HISTORY)


class PostgresRuleProblemReader:
    """Tables rule_problems, rule_problem_history and alert_rule_history, outside of transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_current(
        self, rule_ids: Sequence[str], reported_after: datetime
    ) -> Mapping[str, Sequence[ReportedProblem]]:
        problems: dict[str, list[ReportedProblem]] = {}
        for row in await self._database.fetch(_SELECT_CURRENT, list(rule_ids), reported_after):
            problems.setdefault(row["rule_id"], []).append(_problem_of(row))
        return problems

    async def list_beyond_limit(self, rule_ids: Sequence[str]) -> Mapping[str, int]:
        rows = await self._database.fetch(_SELECT_BEYOND_LIMIT, list(rule_ids))
        return {row["rule_id"]: row["beyond_limit"] for row in rows}

    async def history(self, rule_id: str, limit: int) -> Sequence[RuleHistoryEntry]:
        return [
            RuleHistoryEntry(
                kind=RuleHistoryKind(row["kind"]),
                create_time=row["create_time"],
                reason=ProblemReason(row["reason"]) if row["reason"] else None,
                description=row["description"],
                instance=row["instance"],
            )
            for row in await self._database.fetch(_SELECT_HISTORY, rule_id, limit)
        ]


def _problem_of(row: Record) -> ReportedProblem:
    return ReportedProblem(
        instance=row["instance"],
        reason=ProblemReason(row["reason"]),
        description=row["description"],
        set_aside_time=row["set_aside_time"],
        retry_time=row["retry_time"],
    )
