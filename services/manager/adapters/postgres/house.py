"""Counting and sweeping in the manager's schema."""

from services.chassis.postgres import Database
from services.manager.ports.housekeeping import Cutoffs, Figures

# Rows of a table that one statement removes.
_PORTION = 500

# Their history goes with them.
_ALERTS = """
    delete from alerts where id in (
        select id from alerts where state = 'RESOLVED' and resolve_time < $1 order by resolve_time limit $2
        for update skip locked)
    returning true
"""
# What a rule is now stays known.
_RULE_HISTORY = """
    delete from alert_rule_history where revision in (
        select revision from alert_rule_history as old
        where create_time < $1 and (edit = 'DELETED' or exists (
            select from alert_rule_history where rule_id = old.rule_id and revision > old.revision))
        order by create_time limit $2 for update skip locked)
    returning true
"""
# An episode whose alert is open is kept whole, however long it lasts.
_TRANSITIONS = """
    delete from alert_transitions where (id, fingerprint) in (
        select id, fingerprint from alert_transitions as old
        where create_time < $1
          and not exists (select from alerts where open_key = old.open_key and state <> 'RESOLVED')
        order by create_time limit $2 for update skip locked)
    returning true
"""
_REQUESTS = """
    delete from request_ids where request_id in (
        select request_id from request_ids where create_time < $1 order by create_time limit $2 for update skip locked)
    returning true
"""


class PostgresHouse:
    """See House."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def figures(self) -> Figures:
        """See House."""
        row = await self._database.fetchrow(
            """select (select count(*) from alert_rules) as rules,
                      (select count(*) from alert_rules where enabled) as enabled_rules,
                      (select count(*) from alerts where state <> 'RESOLVED') as open_alerts,
                      (select count(*) from outbox) as outbox"""
        )
        return Figures(**row) if row else Figures()

    async def sweep(self, cutoffs: Cutoffs) -> int:
        """See House."""
        removed = 0
        for statement, before in (
            (_ALERTS, cutoffs.alerts),
            (_RULE_HISTORY, cutoffs.alerts),
            (_TRANSITIONS, cutoffs.transitions),
            (_REQUESTS, cutoffs.requests),
        ):
            removed += len(await self._database.fetch(statement, before, _PORTION))
        return removed
