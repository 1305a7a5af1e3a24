"""Events that name traces teach a dependency, which people then confirm."""

import random
from datetime import UTC, datetime, timedelta

from tests.e2e.world import World, wait_until

CALLER, CALLED = "learned-web", "learned-pay"
# One of 64 is sampled, and 20 are needed.
TRACES = 3000
_BATCH = 500


def test_a_dependency_is_learned_from_traces_and_confirmed(world: World) -> None:
    chance = random.Random(3)  # noqa: S311  (the same traces each time)
    began = datetime.now(UTC)
    later = began + timedelta(milliseconds=7)
    traces = [f"{chance.getrandbits(128):032x}" for _ in range(TRACES)]
    for first in range(0, TRACES, _BATCH):
        # The order in which events come says nothing.
        events = [
            {"service": service, "level": "INFO", "message": "m", "traceId": trace, "eventTime": time.isoformat()}
            for service, time in ((CALLED, later), (CALLER, began))
            for trace in traces[first : first + _BATCH]
        ]
        status, answer = world.request("POST", "/api/logs/batch", events)
        assert status == 200, answer
    path = f"/api/catalog/edges?service={CALLED}"
    (edge,) = wait_until(lambda: world.edge.get(path)["edges"], what="the dependency is learned")
    assert (edge["service"], edge["dependsOn"], edge["state"]) == (CALLER, CALLED, "STATE_UNSPECIFIED")
    assert edge["isSupported"]
    assert edge["confidence"] == 1
    (shown,) = world.edge.get(f"/api/catalog/graph?service={CALLER}")["edges"]
    assert (shown["dependsOn"], shown["origin"], shown["state"]) == (CALLED, "LEARNED", "STATE_UNSPECIFIED")
    assert f"{CALLED}  (unknown)  (learned)" in world.command("catalog", "graph", CALLER).stdout
    confirmed = world.command("catalog", "edges", "confirm", CALLER, CALLED)
    assert confirmed.returncode == 0, confirmed.stderr
    (shown,) = world.edge.get(f"/api/catalog/graph?service={CALLER}")["edges"]
    assert (shown["origin"], shown["state"]) == ("LEARNED", "CONFIRMED")
    status, refused = world.request("POST", "/api/catalog/edges:ignore", {"service": CALLED, "dependsOn": CALLER})
    assert (status, refused["details"][0]["reason"]) == (404, "LEARNED_EDGE_NOT_FOUND")
