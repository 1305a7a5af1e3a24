"""Count and purge the rows of the manager's schema."""

from services.chassis import request_ids
from services.chassis.postgres import Database
from services.chassis.tenants import ALL_TENANTS, as_tenant
from services.manager.adapters.postgres.audit import purge_audit_log
from services.manager.ports.readers import RetentionCutoffs, RowCounts

# Rows of a table that one statement deletes.
_BATCH = 500

_COUNT = """
SELECT (SELECT count(*) FROM alert_rules) AS rules,
    (SELECT count(*) FROM alert_rules WHERE enabled) AS enabled_rules,
    (SELECT count(*) FROM alerts WHERE state <> 'RESOLVED') AS open_alerts,
    (SELECT count(*) FROM outbox) AS outbox
"""
# Their history is deleted with them.
_PURGE_ALERTS = """
DELETE FROM alerts WHERE id IN (
    SELECT id FROM alerts WHERE state = 'RESOLVED' AND resolve_time < $1 ORDER BY resolve_time LIMIT $2
    FOR UPDATE SKIP LOCKED)
RETURNING true
"""
# Their alerts in them and their history are deleted with them, which may be thousands of rows for each.
_PURGE_INCIDENTS = """
DELETE FROM incidents WHERE id IN (
    SELECT id FROM incidents WHERE state = 'RESOLVED' AND resolve_time < $1 ORDER BY resolve_time
    LIMIT least($2, 50) FOR UPDATE SKIP LOCKED)
RETURNING true
"""
# The newest entry of a rule that exists is kept.
_PURGE_RULE_HISTORY = """
DELETE FROM alert_rule_history WHERE revision IN (
    SELECT revision FROM alert_rule_history AS old
    WHERE create_time < $1 AND (edit = 'DELETED' OR EXISTS (
        SELECT FROM alert_rule_history WHERE rule_id = old.rule_id AND revision > old.revision))
    ORDER BY create_time LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING true
"""
_PURGE_CHANGES = """
DELETE FROM service_changes WHERE (tenant, id) IN (
    SELECT tenant, id FROM service_changes WHERE change_time < $1 ORDER BY change_time LIMIT $2
    FOR UPDATE SKIP LOCKED)
RETURNING true
"""
# An episode whose alert is open is kept whole, however long it lasts.
_PURGE_TRANSITIONS = """
DELETE FROM alert_transitions WHERE (id, fingerprint) IN (
    SELECT id, fingerprint FROM alert_transitions AS old
    WHERE create_time < $1
      AND NOT EXISTS (SELECT FROM alerts WHERE open_key = old.open_key AND state <> 'RESOLVED')
    ORDER BY create_time LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING true
"""
# An instance that has been silent for a day is gone.
_PURGE_PROBLEMS = """
DELETE FROM rule_problems WHERE (tenant, rule_id, instance) IN (
    SELECT tenant, rule_id, instance FROM rule_problems WHERE report_time < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING true
"""

_PURGE_SILENCES = """
DELETE FROM silences WHERE (tenant, id) IN (
    SELECT tenant, id FROM silences WHERE least(expire_time, end_time) < $1 ORDER BY least(expire_time, end_time)
    LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING true
"""

# As long as entries of the audit log may name them.
_PURGE_KEYS = """
DELETE FROM api_keys WHERE id IN (
    SELECT id FROM api_keys WHERE least(revoke_time, expire_time) < $1 ORDER BY least(revoke_time, expire_time)
    LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING true
"""


class PostgresRetention:
    """All tables whose rows expire."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count(self) -> RowCounts:
        with as_tenant(ALL_TENANTS):
            row = await self._database.fetchrow(_COUNT)
        return RowCounts(**row) if row else RowCounts()

    async def purge(self, cutoffs: RetentionCutoffs) -> int:
        purged = 0
        for statement, cutoff in (
            (_PURGE_ALERTS, cutoffs.alerts),
            (_PURGE_INCIDENTS, cutoffs.incidents),
            (_PURGE_RULE_HISTORY, cutoffs.alerts),
            (_PURGE_TRANSITIONS, cutoffs.transitions),
            (_PURGE_SILENCES, cutoffs.silences),
            (request_ids.PURGE_SQL, cutoffs.requests),
            (_PURGE_PROBLEMS, cutoffs.requests),
            (_PURGE_CHANGES, cutoffs.changes),
            (_PURGE_KEYS, cutoffs.audit),
        ):
            with as_tenant(ALL_TENANTS):
                purged += len(await self._database.fetch(statement, cutoff, _BATCH))
        with as_tenant(ALL_TENANTS):
            return purged + await self._database.run_idempotent(
                lambda connection: purge_audit_log(connection, cutoffs.audit, _BATCH)
            )
