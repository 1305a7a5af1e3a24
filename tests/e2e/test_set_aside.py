"""A rule that the evaluator cannot evaluate is shown where people look; its alert stays, and the others go on."""

import asyncio
import json
from typing import Any

import asyncpg

from tests.e2e.event_times import at_one_time
from tests.e2e.world import World, wait_until


def rule(name: str) -> dict[str, object]:
    return {
        "name": name,
        "type": "CUSTOM",
        "filter": f'service == "{name}"',
        "condition": "count > threshold",
        "threshold": 1,
        "windowMinutes": 5,
        "severity": "LOW",
    }


def send(world: World, service: str) -> None:
    events = at_one_time([{"service": service, "level": "ERROR", "message": "no"}] * 3)
    assert world.request("POST", "/api/logs/batch", events)[0] == 200


def open_alerts(world: World, rule_id: str) -> list[Any]:
    return [one for one in world.alerts(f"&ruleId={rule_id}") if one["state"] == "FIRING"]


async def break_rule(world: World, rule_id: str) -> None:
    """Store what another release of the manager may have allowed."""
    connection = await asyncpg.connect(world.system.wiring.addresses.postgres)
    try:
        async with connection.transaction():
            revision = await connection.fetchval(
                "UPDATE manager.rule_revision SET revision = revision + 1 RETURNING revision"
            )
            await connection.execute(
                "UPDATE manager.alert_rules SET condition = 'count >> 1', revision = $2 WHERE id = $1",
                rule_id,
                revision,
            )
    finally:
        await connection.close()


def test_a_rule_that_cannot_be_evaluated_is_shown_and_its_alert_stays(world: World) -> None:
    broken = world.create_rule(rule("broken-by-release"))
    other = world.create_rule(rule("goes-on"))
    send(world, "broken-by-release")
    (alert,) = wait_until(lambda: open_alerts(world, broken), what="the alert fires")
    asyncio.run(break_rule(world, broken))

    def problems() -> Any:
        return world.edge.get(f"/api/alert-rules/{broken}")["alertRule"]["problems"]

    (problem,) = wait_until(problems, what="the evaluator has reported")
    assert problem["reason"] == "COMPILE_FAILED"
    assert problem["description"].startswith("condition: line 1, column 8")
    listed = world.command("rules", "list").stdout
    assert "SET ASIDE" in listed
    assert 'rule "broken-by-release" is set aside' in listed
    shown = json.loads(world.command("rules", "show", "broken-by-release", "-o", "json").stdout)
    assert [entry["kind"] for entry in shown["history"]] == ["SET_ASIDE", "CREATED"]
    send(world, "goes-on")
    wait_until(lambda: open_alerts(world, other), what="the other rule fires")
    assert [one["id"] for one in open_alerts(world, broken)] == [alert["id"]]

    status, _ = world.request("PATCH", f"/api/alert-rules/{broken}", {"condition": "count > 1"})
    assert status == 200
    wait_until(lambda: not problems(), what="the edited rule is evaluated")
    for rule_id in (broken, other):
        assert world.request("DELETE", f"/api/alert-rules/{rule_id}")[0] == 200
