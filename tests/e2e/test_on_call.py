"""People, schedules and policies through the whole system: files, REST, and a calendar to subscribe to."""

from http.client import HTTPConnection
from pathlib import Path

from tests.e2e.world import World

DOCUMENT = """
people:
- {name: e2e-ann, displayName: "Ann; Ö", receivers: [slack, nobody]}
- {name: e2e-ben, receivers: [webhook]}
schedules:
- name: e2e
  timeZone: Europe/Berlin
  layers:
  - {name: week, people: [e2e-ann], rotation: WEEKLY, startTime: 2026-01-05T09:00:00}
policies:
- {name: e2e, steps: [{schedules: [e2e]}], fallbackReceivers: [slack]}
"""


def test_what_a_file_says_is_on_call_until_somebody_takes_over(world: World, tmp_path: Path) -> None:
    file = tmp_path / "oncall.yaml"
    file.write_text(DOCUMENT)
    applied = world.command("oncall", "apply", str(file))
    assert applied.returncode == 0, applied.stderr
    assert 'people[0].receivers[1] (e2e-ann): the notifier has no receiver or channel "nobody"' in applied.stderr
    status, now = world.request("GET", "/api/schedules/e2e/on-call")
    assert (status, now["shift"]["person"], now["person"]["receivers"]) == (200, "e2e-ann", ["slack", "nobody"])
    override = {"person": "e2e-ben", "endTime": "2026-01-01T00:00:00Z", "actor": "test"}
    status, refused = world.request("POST", "/api/schedules/e2e/overrides", override)
    assert (status, refused["details"][1]["fieldViolations"][0]["field"]) == (400, "endTime")
    added = world.command("oncall", "override", "e2e", "e2e-ben", "--for", "1h", "-o", "json")
    assert added.returncode == 0, added.stderr
    status, listed = world.request("GET", "/api/schedules/e2e/overrides")
    assert [each["person"] for each in listed["overrides"]] == ["e2e-ben"]
    assert world.request("GET", "/api/schedules/e2e/on-call")[1]["shift"]["isOverride"]
    assert "e2e-ben" in world.command("oncall", "who").stdout
    status, refused = world.request("DELETE", "/api/people/e2e-ann")
    assert (status, refused["details"][0]["reason"]) == (400, "STILL_IN_USE")
    for path in ("policies/e2e", "schedules/e2e", "people/e2e-ann", "people/e2e-ben"):
        assert world.request("DELETE", f"/api/{path}") == (200, {})


def test_a_calendar_can_be_subscribed_to(world: World) -> None:
    layer = {"name": "week", "people": ["e2e-cem"], "rotation": "WEEKLY", "startTime": "2026-01-05T09:00:00"}
    document = {
        "people": [{"name": "e2e-cem", "displayName": "Cem; Ö", "receivers": ["slack"]}],
        "schedules": [{"name": "e2e-calendar", "timeZone": "Europe/Berlin", "layers": [layer]}],
    }
    assert world.request("POST", "/api/on-call:apply", document)[0] == 200
    connection = HTTPConnection("127.0.0.1", world.system.wiring.ports.edge, timeout=30)
    connection.request("GET", "/api/schedules/e2e-calendar/calendar")
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    assert (response.status, response.headers["content-type"]) == (200, "text/calendar; charset=utf-8")
    assert text.startswith("BEGIN:VCALENDAR\r\n")
    assert "SUMMARY:Cem\\; Ö on call: e2e-calendar\r\n" in text
