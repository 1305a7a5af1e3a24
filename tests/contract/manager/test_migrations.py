"""What an upgrade makes of rows of an older version."""

import runpy

import asyncpg
import pytest

from services.chassis.migrations import migrate
from services.chassis.postgres import connect
from services.chassis.settings import PostgresSettings, Secret
from services.domain.fingerprint import fingerprint, open_key
from services.domain.severity import Severity
from services.manager.adapters.postgres.alert_reader import PostgresAlertReader
from services.manager.app import MIGRATIONS, SCHEMA

pytestmark = pytest.mark.integration

RESOURCE = "service=Zürich,host=\N{SNOWMAN}"


def statements(name: str) -> list[str]:
    (path,) = (MIGRATIONS / "versions").glob(f"{name}_*.py")
    return list(runpy.run_path(str(path))["_STATEMENTS"])


async def test_older_alerts_get_their_open_key_and_one_of_a_group_stays_open(empty_database: str) -> None:
    connection = await asyncpg.connect(empty_database)
    try:
        for statement in statements("0001"):
            await connection.execute(statement)
        for place, severity in enumerate((Severity.LOW, Severity.HIGH)):
            known = fingerprint(rule_id="r1", resource=RESOURCE, severity=severity)
            await connection.execute(
                """insert into alerts values ($1, $2, 'FIRING', $3, 'r1', '', '', $4, '', now() + $5 * interval '1 s',
                       null, '', null, '', 0, now(), 1, now(), 1, now())""",
                severity.name,
                known,
                severity.name,
                RESOURCE,
                float(place),
            )
            for unknown in (known, f"nobody's {place}"):
                await connection.execute(
                    "insert into alert_transitions values ('t', $1, 'FIRING', now(), 1, now())", unknown
                )
        for statement in statements("0004"):
            await connection.execute(statement)
        alerts = await connection.fetch("select id, state, open_key from alerts order by id")
        transitions = await connection.fetch("select open_key, severity from alert_transitions order by severity")
    finally:
        await connection.close()
    key = open_key(rule_id="r1", resource=RESOURCE)
    assert [tuple(row) for row in alerts] == [("HIGH", "FIRING", key), ("LOW", "RESOLVED", key)]
    assert [tuple(row) for row in transitions][2:] == [(key, "HIGH"), (key, "LOW")]


async def test_a_manager_of_the_former_release_writes_on_beside_this_one(empty_database: str) -> None:
    settings = PostgresSettings(database_url=Secret(empty_database))
    await migrate(settings, schema=SCHEMA, scripts=MIGRATIONS)
    known = fingerprint(rule_id="r1", resource=RESOURCE, severity=Severity.LOW)
    insert = "insert into alert_transitions (id, fingerprint, state, episode, revision, decide_time)"
    async with connect(settings, schema=SCHEMA) as store:
        await store.fetch(f"{insert} values ('t1', $1, 'FIRING', now(), 1, now())", known)
        await store.fetch(
            """insert into alerts (id, fingerprint, state, severity, rule_id, rule_name, description, resource,
                   evidence, fire_time, acknowledged_by, resolved_by, repeat_count, last_episode, last_revision,
                   last_firing_time, version, update_time)
               values ('a', $1, 'FIRING', 'LOW', 'r1', '', '', $2, '', now(), '', '', 0, now(), 1, now(), 1, now())""",
            known,
            RESOURCE,
        )
        await store.fetch(f"{insert} values ('t2', $1, 'RESOLVED', now(), 1, now())", known)
        (alert,) = await PostgresAlertReader(store).list_open()
        transitions = await store.fetch("select open_key, severity, selection from alert_transitions")
    key = open_key(rule_id="r1", resource=RESOURCE)
    assert alert.subject.labels == {"severity": "LOW"}
    assert (alert.subject.open_key, alert.status.last_firing.selection_revision) == (key, 0)
    assert [tuple(row) for row in transitions] == [(key, "LOW", 0)] * 2
