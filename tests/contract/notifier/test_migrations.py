"""What an upgrade makes of rows of an older notifier, and of those that it writes on beside this one."""

import runpy
from datetime import UTC, datetime

import asyncpg
import pytest

from services.notifier.adapters.postgres.outcomes import _SUPERSEDE
from services.notifier.app import MIGRATIONS

pytestmark = pytest.mark.integration

_NOTIFICATION = """
INSERT INTO notifications (id, alert_id, kind, record, traceparent, created_at)
VALUES (gen_random_uuid(), $1, $2, '', '', now()) RETURNING id
"""
_DELIVERY = """
INSERT INTO deliveries (id, notification_id, alert_id, kind, channel, state, due_at, created_at, updated_at)
VALUES (gen_random_uuid(), $1, $2, $3, 'slack', 'PENDING', now(), now(), now())
"""

_UPDATES = """
WITH notified AS (
    INSERT INTO notifications (id, subject_id, sequence, alert_id, kind, record, traceparent, created_at)
    SELECT gen_random_uuid(), 'incident', n, 'alert', 4, '', '', now() FROM generate_series(1, 3003) AS n
    RETURNING *
)
INSERT INTO deliveries (id, notification_id, subject_id, sequence, alert_id, kind, channel, state, due_at, created_at,
                        updated_at)
SELECT gen_random_uuid(), id, subject_id, sequence, alert_id, kind, 'slack',
       CASE WHEN sequence <= 3000 THEN 'DELIVERED' ELSE 'PENDING' END, now(), now(), now()
FROM notified
"""


async def upgrade(connection: asyncpg.Connection, *versions: str) -> None:
    for version in versions:
        (path,) = (MIGRATIONS / "versions").glob(f"{version}_*.py")
        for statement in runpy.run_path(str(path))["_STATEMENTS"]:
            await connection.execute(statement)


async def write_as_before(connection: asyncpg.Connection, alert: str, kind: int) -> None:
    await connection.execute(_DELIVERY, await connection.fetchval(_NOTIFICATION, alert, kind), alert, kind)


async def test_the_subject_of_an_older_notification_is_its_alert_and_the_kind_its_place(empty_database: str) -> None:
    connection = await asyncpg.connect(empty_database)
    try:
        await upgrade(connection, "0001")
        await write_as_before(connection, "before", 1)
        await upgrade(connection, "0006")
        await write_as_before(connection, "beside", 3)
        for table in ("notifications", "deliveries"):
            rows = await connection.fetch(f"SELECT subject_id, sequence, incident_id FROM {table} ORDER BY sequence")  # noqa: S608
            assert [tuple(row) for row in rows] == [("before", 1, ""), ("beside", 3, "")]
    finally:
        await connection.close()


async def test_of_an_incident_with_thousands_of_updates_only_what_is_on_its_way_is_read(database: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        await connection.execute("SET search_path TO notifier")
        await connection.execute(_UPDATES)
        await connection.execute("ANALYZE deliveries")
        arguments = (["incident"], ["slack"], [3004], [datetime.now(UTC)])
        rows = await connection.fetch(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, BUFFERS OFF) {_SUPERSEDE}", *arguments)
        plan = "\n".join(row[0] for row in rows)
        assert "using deliveries_open_of_subject" in plan
        assert "Rows Removed by Filter" not in plan
        assert await connection.fetchval("SELECT count(*) FROM deliveries WHERE state = 'SUPERSEDED'") == 3
    finally:
        await connection.close()
