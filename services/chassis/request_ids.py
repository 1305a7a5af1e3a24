"""Request ids (AIP-155): a call that is repeated with the same request_id is carried out once.

The first call writes its response in the transaction in which it acts; one that repeats it gets that response. A call
that is refused writes nothing, so it may be repeated.
"""

import hashlib
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Protocol, TypeVar
from uuid import UUID

import grpc
from google.protobuf.message import Message

from services.chassis.failures import Failure, InvalidRequest, Violation
from services.chassis.postgres import Connection
from services.chassis.tenants import DEFAULT_TENANT, current_tenant

_Response = TypeVar("_Response", bound=Message)

REQUEST_RETENTION = timedelta(hours=24)
# Of what is no id, so many characters are shown.
_MAX_SHOWN = 60

# A service that uses this creates both in its migrations. `body` is a digest of the request.
TABLE_SQL = """
CREATE TABLE request_ids (
    request_id text PRIMARY KEY,
    body text NOT NULL,
    answer bytea NOT NULL,
    create_time timestamptz NOT NULL
)
"""
INDEX_SQL = "CREATE INDEX request_ids_by_age ON request_ids (create_time)"
# Deletes at most $2 calls from before $1, which is REQUEST_RETENTION ago.
PURGE_SQL = """
DELETE FROM request_ids WHERE request_id IN (
    SELECT request_id FROM request_ids WHERE create_time < $1 ORDER BY create_time LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING true
"""

# Waits for a concurrent call of the same id. A call whose retention has passed is replaced.
_INSERT = """
INSERT INTO request_ids AS stored (request_id, body, answer, create_time) VALUES ($1, $2, '', $3)
ON CONFLICT (request_id) DO UPDATE
SET body = excluded.body, answer = excluded.answer, create_time = excluded.create_time
WHERE stored.create_time < $3 - $4::interval
RETURNING request_id
"""
_SELECT = "SELECT body, answer FROM request_ids WHERE request_id = $1"
_UPDATE_RESPONSE = "UPDATE request_ids SET answer = $2 WHERE request_id = $1"


class RequestIdReused(Failure):
    """The request_id was used before with another body."""

    code = grpc.StatusCode.ALREADY_EXISTS
    reason = "REQUEST_ID_REUSED"


class Requests(Protocol):
    """The calls of the last day, in one transaction."""

    async def insert(self, request_id: str, digest: str, *, now: datetime) -> tuple[str, bytes] | None:
        """Insert a call and return None when it is the first one with its id, else the first one's digest and response.

        Waits for a concurrent call with the same id.
        """
        ...

    async def update_response(self, request_id: str, response: bytes) -> None:
        """Write the response to the first call."""
        ...


async def respond_once(
    request: Message,
    requests: Requests,
    response_type: type[_Response],
    act: Callable[[], Awaitable[_Response]],
    *,
    now: datetime,
) -> _Response:
    """Act, or return the response to the first call with this request_id; in the transaction in which `act` writes.

    Raises RequestIdReused, and InvalidRequest when the request_id is no UUID.
    """
    request_id = request_id_of(request)
    if not request_id:
        return await act()
    digest = _digest_of(request)
    first = await requests.insert(request_id, digest, now=now)
    if first is None:
        response = await act()
        await requests.update_response(request_id, response.SerializeToString())
        return response
    first_digest, first_response = first
    if digest != first_digest:
        raise RequestIdReused("this request_id was used for another request", request_id=request_id)
    return response_type.FromString(first_response)


def request_id_of(request: Message) -> str:
    """Return the request_id in one spelling; empty when there is none. Raises InvalidRequest when it is no UUID."""
    text: str = request.request_id  # type: ignore[attr-defined]  # only for requests that have one
    try:
        return str(UUID(text)) if text else ""
    except ValueError:
        violation = Violation("requestId", f'expected a UUID, found "{text[:_MAX_SHOWN]}"')
        raise InvalidRequest(f"not allowed: {violation.field}", violations=[violation]) from None


def _digest_of(request: Message) -> str:
    """Return a digest of everything but the request_id. Instances of another release compare it with their own."""
    rest = type(request)()
    rest.CopyFrom(request)
    rest.ClearField("request_id")
    parts = (request.DESCRIPTOR.full_name, rest.SerializeToString(deterministic=True).hex())
    return hashlib.sha256("".join(f"{len(part)}:{part}" for part in parts).encode()).hexdigest()[:32]


class PostgresRequests:
    """The table request_ids, in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def insert(self, request_id: str, digest: str, *, now: datetime) -> tuple[str, bytes] | None:
        """See Requests."""
        if await self._connection.fetchrow(_INSERT, _key(request_id), digest, now, REQUEST_RETENTION):
            return None
        row = await self._connection.fetchrow(_SELECT, _key(request_id))
        return (row["body"], row["answer"]) if row else None

    async def update_response(self, request_id: str, response: bytes) -> None:
        """See Requests."""
        await self._connection.execute(_UPDATE_RESPONSE, _key(request_id), response)


def _key(request_id: str) -> str:
    """Return the id among those of all tenants: each tenant has its own ids."""
    tenant = current_tenant()
    return request_id if tenant == DEFAULT_TENANT else f"{tenant}/{request_id}"
