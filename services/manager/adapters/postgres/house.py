"""Counting and sweeping in the manager's schema."""

from datetime import datetime

from services.chassis.postgres import Connection, Database
from services.manager.ports.housekeeping import Figures


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

    async def sweep(self, *, transitions_before: datetime, requests_before: datetime) -> int:
        """See House. An episode whose alert is open is kept whole, however long it lasts."""

        async def work(connection: Connection) -> int:
            transitions = await connection.execute(
                """delete from alert_transitions as old where create_time < $1 and not exists (
                       select from alerts where open_key = old.open_key and state <> 'RESOLVED')""",
                transitions_before,
            )
            requests = await connection.execute("delete from request_ids where create_time < $1", requests_before)
            return sum(int(told.rpartition(" ")[2]) for told in (transitions, requests))

        return await self._database.once_more(work)
