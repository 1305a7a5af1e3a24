"""What an upgrade makes of rows that an older version wrote."""

import runpy

import asyncpg
import pytest

from services.domain.fingerprint import fingerprint, open_key
from services.domain.severity import Severity
from services.manager.app import MIGRATIONS

pytestmark = pytest.mark.integration

RESOURCE = "service=Zürich,host=\N{SNOWMAN}"


def statements(name: str) -> list[str]:
    (path,) = (MIGRATIONS / "versions").glob(f"{name}_*.py")
    return list(runpy.run_path(str(path))["_STATEMENTS"])


async def test_alerts_of_before_get_their_open_key_and_one_of_a_group_stays_open(database: str) -> None:
    connection = await asyncpg.connect(database)
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
            for heard in (known, f"nobody's {place}"):
                await connection.execute(
                    "insert into alert_transitions values ('t', $1, 'FIRING', now(), 1, now())", heard
                )
        for statement in statements("0004"):
            await connection.execute(statement)
        alerts = await connection.fetch("select id, state, open_key from alerts order by id")
        heard = await connection.fetch("select open_key, severity from alert_transitions order by severity")
    finally:
        await connection.close()
    key = open_key(rule_id="r1", resource=RESOURCE)
    assert [tuple(row) for row in alerts] == [("HIGH", "FIRING", key), ("LOW", "RESOLVED", key)]
    assert [tuple(row) for row in heard][2:] == [(key, "HIGH"), (key, "LOW")]
