"""Read API keys, and write them in a transaction."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from asyncpg import Record

from services.chassis.postgres import Connection, Database
from services.contract.paging import key_time
from services.domain.roles import Role
from services.manager.core.api_keys import ApiKey, ApiKeyFilter
from services.manager.ports.readers import Page

_COLUMNS = (
    "id, tenant, name, role, services, secret_hash, creator, create_time, expire_time, revoke_time, revoker,"
    " last_use_time"
)
_TAKE_REVISION = "UPDATE api_key_revision SET revision = revision + 1"
_SELECT_VERSION = "SELECT epoch, revision FROM api_key_revision"
# ruff: noqa: S608  (made of our own column names)
_STATE = """
CASE WHEN revoke_time IS NOT NULL THEN 'REVOKED' WHEN expire_time <= {now} THEN 'EXPIRED' ELSE 'ACTIVE' END
"""
_COUNT = f"SELECT count(*) FROM api_keys WHERE {_STATE.format(now='$1')} = 'ACTIVE'"
_SELECT_ONE = f"SELECT {_COLUMNS} FROM api_keys WHERE tenant = $1 AND id = $2 FOR UPDATE"
_UPSERT = f"""
INSERT INTO api_keys ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (id) DO UPDATE SET revoke_time = excluded.revoke_time, revoker = excluded.revoker
"""
# In one order, so that two instances do not wait for each other.
_WRITE_USES = """
WITH used AS (
    SELECT id, time FROM api_keys JOIN unnest($1::text[], $2::timestamptz[]) AS reported (id, time) USING (id)
    WHERE last_use_time IS NULL OR last_use_time < time
    ORDER BY id FOR UPDATE OF api_keys
)
UPDATE api_keys SET last_use_time = greatest(last_use_time, used.time) FROM used WHERE api_keys.id = used.id
"""
# In one statement, so that the revision and the keys belong together.
_SELECT_VALID = f"""
SELECT newest.revision, newest.epoch, valid.*
FROM api_key_revision AS newest
LEFT JOIN (SELECT {_COLUMNS} FROM api_keys WHERE {_STATE.format(now="$1")} = 'ACTIVE') AS valid ON true
"""
_SELECT_PAGE = f"""
SELECT {_COLUMNS} FROM api_keys
WHERE tenant = $1 AND ($2 = '' OR name = $2)
  AND (cardinality($3::text[]) = 0 OR {_STATE.format(now="$4")} = ANY($3))
  AND ($5::timestamptz IS NULL OR (create_time, id) < ($5, $6))
ORDER BY create_time DESC, id DESC LIMIT $7
"""


class PostgresApiKeys:
    """Table api_keys, in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def lock(self) -> None:
        await self._connection.execute(_TAKE_REVISION)

    async def count(self, now: datetime) -> int:
        return int(await self._connection.fetchval(_COUNT, now))

    async def get_for_update(self, tenant: str, key_id: str) -> ApiKey | None:
        row = await self._connection.fetchrow(_SELECT_ONE, tenant, key_id)
        return _key_of(row) if row else None

    async def upsert(self, key: ApiKey) -> None:
        await self._connection.execute(
            _UPSERT,
            key.id,
            key.tenant,
            key.name,
            key.role.value,
            list(key.services),
            key.secret_hash,
            key.creator,
            key.create_time,
            key.expire_time,
            key.revoke_time,
            key.revoker,
            key.last_use_time,
        )

    async def write_uses(self, uses: Mapping[str, datetime]) -> None:
        await self._connection.execute(_WRITE_USES, list(uses), list(uses.values()))


class PostgresApiKeyReader:
    """The same table, outside of transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def version(self) -> str:
        row = await self._database.fetchrow(_SELECT_VERSION)
        return _version_of(row) if row else ""

    async def list_valid(self, now: datetime) -> tuple[str, Sequence[ApiKey]]:
        rows = await self._database.fetch(_SELECT_VALID, now)
        return _version_of(rows[0]), [_key_of(row) for row in rows if row["id"] is not None]

    async def list_page(self, wanted: ApiKeyFilter, page: Page, now: datetime) -> Sequence[ApiKey]:
        after = (key_time(page.after[0]), page.after[1]) if page.after else (None, None)
        states = [state.value for state in wanted.states]
        rows = await self._database.fetch(_SELECT_PAGE, wanted.tenant, wanted.name, states, now, *after, page.size + 1)
        return [_key_of(row) for row in rows]


def _version_of(row: Record) -> str:
    return f"{row['epoch']}.{row['revision']}"


def _key_of(row: Record) -> ApiKey:
    return ApiKey(
        id=row["id"],
        tenant=row["tenant"],
        name=row["name"],
        role=Role(row["role"]),
        services=tuple(row["services"]),
        secret_hash=row["secret_hash"],
        creator=row["creator"],
        create_time=row["create_time"],
        expire_time=row["expire_time"],
        revoke_time=row["revoke_time"],
        revoker=row["revoker"],
        last_use_time=row["last_use_time"],
    )
