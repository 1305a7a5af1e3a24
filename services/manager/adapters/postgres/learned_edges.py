"""Read what was learned of dependencies, and write it, and the traces it is learned from, in a transaction."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from asyncpg import Record

from services.chassis.postgres import Connection, Database
from services.chassis.tenants import current_tenant
from services.manager.adapters.postgres import CATALOG_CHANGED
from services.manager.adapters.postgres.alert_rows import columns
from services.manager.core.dependency_graph import EdgeState
from services.manager.core.learned_edges import LearnedChanges, LearnedEdge, ServicePair, TraceSighting
from services.manager.ports.readers import LearnedEdgeFilter, Page

_COLUMNS = """
service, depends_on, support, forward, count_time, create_time, seen_time, is_supported, state, actor, decide_time
"""
# ruff: noqa: S608  (made of our own column names)
_SELECT_ALL = f"SELECT {_COLUMNS} FROM learned_edges WHERE tenant = $1"
_SELECT_NAMED = f"""
{_SELECT_ALL} AND (service, depends_on) IN (
    SELECT service, depends_on FROM unnest($2::text[], $3::text[]) AS named (service, depends_on))
"""
_SELECT_PAGE = f"""
{_SELECT_ALL} AND ($2 = '' OR service = $2 OR depends_on = $2) AND ($3::text[] = '{{}}' OR state = ANY($3))
  AND ($4 OR is_supported OR state <> 'STATE_UNSPECIFIED') AND (service, depends_on) > ($5, $6)
ORDER BY service, depends_on LIMIT $7
"""
_LOCK = "SELECT revision FROM learned_edge_revision WHERE tenant = $1 FOR UPDATE"
_RAISE_REVISION = "UPDATE learned_edge_revision SET revision = revision + 1 WHERE tenant = $1 RETURNING revision"
_UPSERT = f"""
INSERT INTO learned_edges (tenant, {_COLUMNS})
SELECT $1, {_COLUMNS}
FROM unnest(
    $2::text[], $3::text[], $4::double precision[], $5::double precision[], $6::timestamptz[], $7::timestamptz[],
    $8::timestamptz[], $9::boolean[], $10::text[], $11::text[], $12::timestamptz[]
) AS written ({_COLUMNS})
ON CONFLICT (tenant, service, depends_on) DO UPDATE SET
    support = excluded.support,
    forward = excluded.forward,
    count_time = excluded.count_time,
    seen_time = excluded.seen_time,
    is_supported = excluded.is_supported,
    state = excluded.state,
    actor = excluded.actor,
    decide_time = excluded.decide_time
"""
_DELETE = """
DELETE FROM learned_edges WHERE tenant = $1 AND (service, depends_on) IN (
    SELECT service, depends_on FROM unnest($2::text[], $3::text[]) AS deleted (service, depends_on))
"""
# A statement of its own before the count, which sees what the transaction before committed.
_LOCK_SIGHTINGS = "SELECT pg_advisory_xact_lock(hashtextextended('trace_sightings ' || $1, 0))"
_COUNT_SIGHTINGS = "SELECT count(*) FROM trace_sightings WHERE tenant = $1"
# All transactions take these rows in one order, so that none waits for another in a circle.
_UPSERT_SIGHTINGS = """
INSERT INTO trace_sightings AS stored (tenant, trace_id, service, first_time, report_time)
SELECT $1, trace_id, service, first_time, $5
FROM unnest($2::text[], $3::text[], $4::timestamptz[]) AS seen (trace_id, service, first_time)
ORDER BY trace_id COLLATE "C", service COLLATE "C"
ON CONFLICT (tenant, trace_id, service) DO UPDATE SET first_time = least(stored.first_time, excluded.first_time)
"""
_TAKE_CLOSED = """
WITH closed AS (
    SELECT DISTINCT trace_id FROM (
        SELECT trace_id FROM trace_sightings WHERE tenant = $1 AND report_time < $2 ORDER BY report_time LIMIT $3
    ) AS oldest
), locked AS (
    SELECT trace_id, service FROM trace_sightings WHERE tenant = $1 AND trace_id IN (SELECT trace_id FROM closed)
    ORDER BY trace_id, service FOR UPDATE
)
DELETE FROM trace_sightings AS taken USING locked
WHERE taken.tenant = $1 AND taken.trace_id = locked.trace_id AND taken.service = locked.service
RETURNING taken.trace_id, taken.service, taken.first_time
"""


class PostgresLearnedEdges:
    """Table learned_edges, in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def lock(self) -> None:
        await self._connection.execute(_LOCK, current_tenant())

    async def count(self) -> int:
        return int(
            await self._connection.fetchval("SELECT count(*) FROM learned_edges WHERE tenant = $1", current_tenant())
        )

    async def load(self, pairs: Collection[ServicePair]) -> Mapping[ServicePair, LearnedEdge]:
        rows = await self._connection.fetch(_SELECT_NAMED, current_tenant(), *columns(list(pairs))) if pairs else ()
        return {edge.pair: edge for edge in map(_edge_of, rows)}

    async def load_all(self) -> Mapping[ServicePair, LearnedEdge]:
        rows = await self._connection.fetch(_SELECT_ALL, current_tenant())
        return {edge.pair: edge for edge in map(_edge_of, rows)}

    async def save(self, changes: LearnedChanges) -> None:
        if changes.written:
            await self._connection.execute(
                _UPSERT, current_tenant(), *columns([_row(edge) for edge in changes.written])
            )
        if changes.deleted:
            await self._connection.execute(_DELETE, current_tenant(), *columns(changes.deleted))
        if changes.is_graph_changed:
            revision = await self._connection.fetchval(_RAISE_REVISION, current_tenant())
            await self._connection.execute("SELECT pg_notify($1, $2)", CATALOG_CHANGED, f"learned {revision}")


class PostgresTraces:
    """Table trace_sightings, in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def count(self) -> int:
        await self._connection.execute(_LOCK_SIGHTINGS, current_tenant())
        return int(await self._connection.fetchval(_COUNT_SIGHTINGS, current_tenant()))

    async def upsert(self, sightings: Sequence[TraceSighting], now: datetime) -> None:
        first: dict[tuple[str, str], datetime] = {}
        for each in sightings:
            key = each.trace_id, each.service
            first[key] = min(each.first_time, first.get(key, each.first_time))
        if first:
            rows = [(*key, time) for key, time in first.items()]
            await self._connection.execute(_UPSERT_SIGHTINGS, current_tenant(), *columns(rows), now)

    async def take_closed(self, before: datetime, limit: int) -> Sequence[TraceSighting]:
        rows = await self._connection.fetch(_TAKE_CLOSED, current_tenant(), before, limit)
        return [TraceSighting(**row) for row in rows]


class PostgresLearnedEdgeReader:
    """Table learned_edges, outside of transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_page(self, wanted: LearnedEdgeFilter, page: Page) -> Sequence[LearnedEdge]:
        states = [state.value for state in wanted.states]
        after = page.after or ("", "")
        rows = await self._database.fetch(
            _SELECT_PAGE, current_tenant(), wanted.service, states, wanted.is_weak_included, *after, page.size + 1
        )
        return [_edge_of(row) for row in rows]


def _edge_of(row: Record) -> LearnedEdge:
    values = dict(row)
    return LearnedEdge(**values | {"state": EdgeState(values["state"])})


def _row(edge: LearnedEdge) -> tuple[object, ...]:
    """Return the values of _COLUMNS."""
    return (
        edge.service,
        edge.depends_on,
        edge.support,
        edge.forward,
        edge.count_time,
        edge.create_time,
        edge.seen_time,
        edge.is_supported,
        edge.state.value,
        edge.actor,
        edge.decide_time,
    )
