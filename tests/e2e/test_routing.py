"""The routing tree through the whole system, whose notifier has a file with routes."""

from pathlib import Path
from typing import Any

from tests.e2e.world import World, wait_until


def explained(world: World, **labels: str) -> Any:
    status, body = world.request("POST", "/api/routing:explain", {"labels": labels})
    assert status == 200, body
    return body


def test_the_files_routes_decide_and_can_be_tried(world: World, tmp_path: Path) -> None:
    found = wait_until(
        lambda: [each for each in [explained(world, severity="CRITICAL")] if not each["isDecidedByFile"]],
        what="the file's routes are stored",
    )
    assert found[0]["routes"][0]["receivers"] == ["pagerduty", "slack", "email"]
    stored = world.edge.get("/api/routing/versions")["versions"][-1]
    assert (stored["version"], stored["author"]) == (1, "notifier's file")
    assert "severity" in world.command("routing", "show", "--version", "1").stdout
    shown = world.command("routing", "test", "severity=LOW", "team=x").stdout
    assert "webhook" in shown
    tree = {"root": {"receivers": ["slack", "nobody"], "routes": [{"matchers": ["a=~("]}]}}
    status, refused = world.request("PUT", "/api/routing?", {"tree": tree})
    fields = [each["field"] for each in refused["details"][1]["fieldViolations"]]
    assert (status, fields) == (400, ["tree.root.routes[0].matchers[0]", "tree.root.receivers[1]"]), refused
    status, refused = world.request("PUT", "/api/routing", {"tree": {"root": {"receiver": ["slack"]}}})
    assert (status, refused["details"][1]["fieldViolations"][0]["field"]) == (400, "tree.root.receiver")
    file = tmp_path / "routing.yaml"
    file.write_text("{receivers: [slack], routes: [{matchers: team=shop, receivers: [webhook]}]}")
    checked = world.command("routing", "check", str(file))
    assert (checked.returncode, checked.stderr) == (0, "")
    tried = world.command("routing", "test", "team=shop", "--file", str(file))
    assert (tried.returncode, "webhook" in tried.stdout) == (0, True)
