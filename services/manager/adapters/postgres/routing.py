"""Read the versions of the routing tree, and write them in a transaction."""

from collections.abc import Sequence

from asyncpg import Record
from google.protobuf import json_format

from services.chassis.postgres import Connection, Database
from services.chassis.tenants import current_tenant
from services.manager.adapters.postgres import ROUTING_CHANGED
from services.manager.core.routing_tree import StoredTree, TreeVersion
from services.manager.messages.routing import read_routing_tree, routing_tree_message
from services.manager.ports.readers import Page
from tocsin.routing.v1.routing_tree_pb2 import RoutingTree as TreeMessage

# Of each tenant; the oldest ones are deleted.
_MAX_VERSIONS = 1000
_VERSION = "version, author, comment, create_time"
_COLUMNS = f"{_VERSION}, tree"
# ruff: noqa: S608  (made of our own column names)
_SELECT_ONE = f"SELECT {_COLUMNS} FROM routing_versions WHERE tenant = $1 AND version = $2"
_SELECT_NEWEST = f"SELECT {_COLUMNS} FROM routing_versions WHERE tenant = $1 ORDER BY version DESC LIMIT 1"
_SELECT_PAGE = f"""
SELECT {_VERSION} FROM routing_versions WHERE tenant = $1 AND ($2::integer IS NULL OR version < $2)
ORDER BY version DESC LIMIT $3
"""
# Databases that were restored from a backup have another time at the same version.
_SELECT_VERSION = "SELECT version, create_time FROM routing_versions WHERE tenant = $1 ORDER BY version DESC LIMIT 1"
_LOCK = "SELECT version FROM routing_lock WHERE tenant = $1 FOR UPDATE"
_SET_VERSION = "UPDATE routing_lock SET version = $2 WHERE tenant = $1"
_INSERT = f"INSERT INTO routing_versions (tenant, {_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6)"
_DELETE_OLD = "DELETE FROM routing_versions WHERE tenant = $1 AND version <= $2"


class PostgresRouting:
    """Table routing_versions, in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def lock(self) -> StoredTree | None:
        version: int = await self._connection.fetchval(_LOCK, current_tenant())
        return await self.get(version)

    async def get(self, version: int) -> StoredTree | None:
        row = await self._connection.fetchrow(_SELECT_ONE, current_tenant(), version)
        return _stored_of(row) if row else None

    async def insert(self, stored: StoredTree) -> None:
        tree = json_format.MessageToJson(routing_tree_message(stored.tree))
        await self._connection.execute(
            _INSERT, current_tenant(), stored.version, stored.author, stored.comment, stored.create_time, tree
        )
        await self._connection.execute(_SET_VERSION, current_tenant(), stored.version)
        await self._connection.execute(_DELETE_OLD, current_tenant(), stored.version - _MAX_VERSIONS)
        await self._connection.execute("SELECT pg_notify($1, $2)", ROUTING_CHANGED, str(stored.version))


class PostgresRoutingReader:
    """The same table, outside of transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def version(self) -> str:
        row = await self._database.fetchrow(_SELECT_VERSION, current_tenant())
        return f"{row['version']}.{row['create_time'].isoformat()}" if row else ""

    async def newest(self) -> StoredTree | None:
        row = await self._database.fetchrow(_SELECT_NEWEST, current_tenant())
        return _stored_of(row) if row else None

    async def get(self, version: int) -> StoredTree | None:
        row = await self._database.fetchrow(_SELECT_ONE, current_tenant(), version)
        return _stored_of(row) if row else None

    async def list_page(self, page: Page) -> Sequence[TreeVersion]:
        before = int(page.after[0]) if page.after else None
        rows = await self._database.fetch(_SELECT_PAGE, current_tenant(), before, page.size + 1)
        return [TreeVersion(**row) for row in rows]


def _stored_of(row: Record) -> StoredTree:
    # A newer release may have written fields that this one does not know.
    tree, _ = read_routing_tree(json_format.Parse(row["tree"], TreeMessage(), ignore_unknown_fields=True))
    return StoredTree(
        tree=tree,
        version=row["version"],
        author=row["author"],
        comment=row["comment"],
        create_time=row["create_time"],
    )
