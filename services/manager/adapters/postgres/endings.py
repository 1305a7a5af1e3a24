"""Rules whose alerts have to end."""

from datetime import datetime

from services.chassis.postgres import Connection
from services.manager.adapters.postgres import RULE_ENDED
from services.manager.core.commands.rules import Ending


class PostgresEndings:
    """Table rule_endings, in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def add(self, ending: Ending, now: datetime) -> None:
        """See EndingTable."""
        await self._connection.execute(
            """insert into rule_endings (revision, rule_id, comment, traceparent, create_time)
               values ($1, $2, $3, $4, $5)""",
            ending.revision,
            ending.rule_id,
            ending.comment,
            ending.traceparent,
            now,
        )
        await self._connection.execute("select pg_notify($1, '')", RULE_ENDED)

    async def next(self) -> Ending | None:
        """See EndingTable."""
        row = await self._connection.fetchrow(
            """select revision, rule_id, comment, traceparent from rule_endings
               order by revision limit 1 for update skip locked"""
        )
        return Ending(**row) if row else None

    async def done(self, ending: Ending) -> None:
        """See EndingTable."""
        await self._connection.execute("delete from rule_endings where revision = $1", ending.revision)
