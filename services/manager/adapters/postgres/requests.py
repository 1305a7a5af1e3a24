"""Calls that were answered within the last day."""

from datetime import datetime, timedelta

from services.chassis.postgres import Connection
from services.manager.ports.commands import Answered, Request

KEPT_FOR = timedelta(hours=24)


class PostgresRequests:
    """Table request_ids, in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def first(self, request: Request, now: datetime) -> Answered | None:
        """See RequestTable. The insert waits for a concurrent call of the same id and then finds its answer."""
        is_first = await self._connection.fetchval(
            """insert into request_ids as kept (request_id, body, answer, create_time) values ($1, $2, '', $3)
               on conflict (request_id) do update
                   set body = excluded.body, answer = excluded.answer, create_time = excluded.create_time
                   where kept.create_time < $3 - $4::interval
               returning true""",
            request.id,
            request.body,
            now,
            KEPT_FOR,
        )
        if is_first:
            return None
        row = await self._connection.fetchrow("select body, answer from request_ids where request_id = $1", request.id)
        return Answered(body=row["body"], answer=row["answer"]) if row else None

    async def answer(self, request: Request, answer: bytes) -> None:
        """See RequestTable."""
        await self._connection.execute("update request_ids set answer = $2 where request_id = $1", request.id, answer)
