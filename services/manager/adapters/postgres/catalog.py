"""Read the catalog of services, and write it in a transaction."""

import json
from collections.abc import Collection, Mapping, Sequence

from asyncpg import Record

from services.chassis.postgres import Connection, Database
from services.chassis.tenants import current_tenant
from services.manager.adapters.postgres import CATALOG_CHANGED
from services.manager.adapters.postgres.alert_rows import columns
from services.manager.core.catalog import CatalogChanges, LearnedDependencies, ServiceEntry, StoredService
from services.manager.core.dependency_graph import DependencyEdge, EdgeOrigin, EdgeState

_ROW = "name, owner, tier, description, links, labels, revision, create_time, update_time"
_SELECT = f"""
SELECT {_ROW}, ARRAY(
    SELECT depends_on FROM service_dependencies AS edge
    WHERE edge.tenant = $1 AND edge.service = name AND edge.origin = 'DECLARED' ORDER BY depends_on
) AS depends_on
FROM catalog_services WHERE tenant = $1
"""  # noqa: S608  (made of our own column names)
_SELECT_NAMED = f"{_SELECT} AND name = ANY($2)"
# Each in one statement, so that the revision and the services belong together.
_SELECT_CHANGES = f"""
SELECT newest.revision AS newest_revision, newest.epoch, newest.deletion, changed.*
FROM catalog_revision AS newest
LEFT JOIN ({_SELECT} AND revision > $2) AS changed ON true
WHERE newest.tenant = $1
"""  # noqa: S608
_SELECT_VERSION = """
SELECT written.epoch, written.revision, learned.revision AS learned_revision
FROM catalog_revision AS written JOIN learned_edge_revision AS learned USING (tenant) WHERE tenant = $1
"""
# In one statement, so that the revision and the edges belong together.
_SELECT_LEARNED = """
SELECT newest.revision, edge.service, edge.depends_on, edge.state
FROM learned_edge_revision AS newest
LEFT JOIN learned_edges AS edge
    ON edge.tenant = newest.tenant AND (edge.is_supported OR edge.state <> 'STATE_UNSPECIFIED')
WHERE newest.tenant = $1
"""
_LOCK = "SELECT revision + 1 FROM catalog_revision WHERE tenant = $1 FOR UPDATE"
_COUNT = "SELECT count(*) FROM catalog_services WHERE tenant = $1"
_SET_REVISION = """
UPDATE catalog_revision SET revision = $2, deletion = CASE WHEN $3 THEN $2 ELSE deletion END WHERE tenant = $1
"""
_UPSERT = f"""
INSERT INTO catalog_services (tenant, {_ROW})
SELECT $1, name, owner, tier, description, links::jsonb, labels::jsonb, revision, create_time, update_time
FROM unnest(
    $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[], $9::timestamptz[],
    $10::timestamptz[]
) AS written ({_ROW})
ON CONFLICT (tenant, name) DO UPDATE SET
    owner = excluded.owner,
    tier = excluded.tier,
    description = excluded.description,
    links = excluded.links,
    labels = excluded.labels,
    revision = excluded.revision,
    update_time = excluded.update_time
"""  # noqa: S608
_DELETE_EDGES = """
DELETE FROM service_dependencies WHERE tenant = $1 AND origin = 'DECLARED' AND service = ANY($2)
"""
_INSERT_EDGES = """
INSERT INTO service_dependencies (tenant, service, depends_on, origin, state)
SELECT $1, service, depends_on, 'DECLARED', 'CONFIRMED'
FROM unnest($2::text[], $3::text[]) AS edge (service, depends_on)
"""


class PostgresCatalog:
    """Tables catalog_services and service_dependencies, in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def lock(self) -> int:
        return int(await self._connection.fetchval(_LOCK, current_tenant()))

    async def count(self) -> int:
        return int(await self._connection.fetchval(_COUNT, current_tenant()))

    async def load(self, names: Collection[str]) -> Mapping[str, StoredService]:
        rows = await self._connection.fetch(_SELECT_NAMED, current_tenant(), list(names))
        return {row["name"]: _service_of(row) for row in rows}

    async def upsert(self, services: Sequence[StoredService]) -> None:
        if not services:
            return
        await self._connection.execute(_UPSERT, current_tenant(), *columns([_row(stored) for stored in services]))
        await self._connection.execute(_DELETE_EDGES, current_tenant(), [stored.entry.name for stored in services])
        edges = [(stored.entry.name, other) for stored in services for other in stored.entry.depends_on]
        if edges:
            await self._connection.execute(_INSERT_EDGES, current_tenant(), *columns(edges))
        await self._set_revision(services[0].revision, is_deletion=False)

    async def delete(self, name: str, revision: int) -> None:
        await self._connection.execute(
            "DELETE FROM catalog_services WHERE tenant = $1 AND name = $2", current_tenant(), name
        )
        await self._connection.execute(_DELETE_EDGES, current_tenant(), [name])
        await self._set_revision(revision, is_deletion=True)

    async def _set_revision(self, revision: int, *, is_deletion: bool) -> None:
        await self._connection.execute(_SET_REVISION, current_tenant(), revision, is_deletion)
        await self._connection.execute("SELECT pg_notify($1, $2)", CATALOG_CHANGED, str(revision))


class PostgresCatalogReader:
    """The same tables, outside of transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def version(self) -> str:
        row = await self._database.fetchrow(_SELECT_VERSION, current_tenant())
        return f"{row['epoch']}.{row['revision']}.{row['learned_revision']}" if row else ""

    async def snapshot(self) -> CatalogChanges:
        return _changes_of(await self._database.fetch(_SELECT_CHANGES, current_tenant(), -1))

    async def changes_since(self, revision: int) -> CatalogChanges | None:
        rows = await self._database.fetch(_SELECT_CHANGES, current_tenant(), revision)
        return None if rows[0]["deletion"] > revision else _changes_of(rows)

    async def learned(self) -> LearnedDependencies:
        rows = await self._database.fetch(_SELECT_LEARNED, current_tenant())
        edges = tuple(
            DependencyEdge(
                service=row["service"],
                depends_on=row["depends_on"],
                origin=EdgeOrigin.LEARNED,
                state=EdgeState(row["state"]),
            )
            for row in rows
            if row["service"] is not None
        )
        return LearnedDependencies(revision=rows[0]["revision"], edges=edges)


def _changes_of(rows: Sequence[Record]) -> CatalogChanges:
    services = tuple(_service_of(row) for row in rows if row["name"] is not None)
    return CatalogChanges(revision=rows[0]["newest_revision"], epoch=rows[0]["epoch"], services=services)


def _service_of(row: Record) -> StoredService:
    entry = ServiceEntry(
        name=row["name"],
        owner=row["owner"],
        tier=row["tier"],
        description=row["description"],
        links=json.loads(row["links"]),
        labels=json.loads(row["labels"]),
        depends_on=tuple(row["depends_on"]),
    )
    return StoredService(
        entry=entry, revision=row["revision"], create_time=row["create_time"], update_time=row["update_time"]
    )


def _row(stored: StoredService) -> tuple[object, ...]:
    """Return the values of _ROW."""
    entry = stored.entry
    return (
        entry.name,
        entry.owner,
        entry.tier,
        entry.description,
        json.dumps(dict(entry.links)),
        json.dumps(dict(entry.labels)),
        stored.revision,
        stored.create_time,
        stored.update_time,
    )
