"""The second act of the demo: a database fails, and six services with it; one incident, one page, and who is next.

Pure values, and steps over REST. Everything that must come is counted, and so is what must not.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from cli.demo.steps import RestClient, RestError

FAILED_DATABASE = "orders-database"
DEPENDENTS = ("orders-api", "orders-export", "orders-mobile", "orders-search", "orders-web", "orders-worker")
ERRORS_PER_SERVICE = 120
ACT_EVENTS = ERRORS_PER_SERVICE * (1 + len(DEPENDENTS))
ACTOR = "ann"
# The first step pages; the next one follows when nobody has acknowledged for so long; the third one must never begin.
FIRST, SECOND, NEVER = ("pagerduty",), ("slack", "email"), ("webhook",)
STEP_S = 4
_TIMEOUT_S = 30.0
_POLL_S = 0.1
_SYSTEM = {"system": "orders"}

POLICY = {
    "description": "Of the demo.",
    "steps": [
        {"receivers": list(FIRST)},
        {"delay": f"{STEP_S}s", "receivers": list(SECOND)},
        {"delay": f"{STEP_S}s", "receivers": list(NEVER)},
    ],
}
ROUTE = {"matchers": ['system="orders"'], "withoutReceivers": True, "policy": "orders"}
CATALOG = {
    "services": [
        {
            "name": FAILED_DATABASE,
            "owner": "team-data",
            "labels": _SYSTEM,
            "links": {"runbook": "https://wiki.example/orders"},
        },
        *(
            {"name": name, "owner": "team-orders", "labels": _SYSTEM, "dependsOn": [FAILED_DATABASE]}
            for name in DEPENDENTS
        ),
    ]
}
_Found = TypeVar("_Found")


class ActError(Exception):
    """Something that had to come did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActResult:
    """The incident with its alerts and history, and the deliveries about it that were accepted."""

    incident: Any
    alerts: Sequence[Any]
    history: Sequence[Any]
    deliveries: Sequence[Any]

    @property
    def differences(self) -> list[str]:
        """Return what differs from what must be; nothing when all is as expected."""
        return list(_differences(self))


def events(services: Sequence[str]) -> list[Any]:
    """Return enough errors of each service for the default rule, mixed."""
    return [
        {"service": service, "level": "ERROR", "message": f"orders: connection refused ({number})"}
        for number in range(ERRORS_PER_SERVICE)
        for service in services
    ]


def play(edge: RestClient, sinks: RestClient, on_progress: Callable[[str], None]) -> ActResult:
    """Play the act, and return what came of it. Raises ActError, RestError, or OSError."""
    _prepare(edge, on_progress)
    on_progress(f"{FAILED_DATABASE} fails")
    edge.post("/api/logs/batch", events([FAILED_DATABASE]))
    incident = _until(lambda: _incident_of(edge), "no incident was opened")["id"]
    _until(lambda: _count(sinks, incident, "FIRING", FIRST), "the first step paged nobody")
    on_progress("the services that depend on it fail too")
    edge.post("/api/logs/batch", events(DEPENDENTS))
    everyone = 1 + len(DEPENDENTS)
    _until(lambda: _get(edge, incident)["incident"].get("alertCount") == everyone, "not all alerts joined the incident")
    on_progress(f"nobody acknowledges: the next ones are paged after {STEP_S} s")
    _until(lambda: _count(sinks, incident, "FIRING", SECOND), "the second step paged nobody")
    edge.post(f"/api/incidents/{incident}/acknowledge", {"actor": ACTOR, "comment": "restarting the database"})
    _until(lambda: _count(sinks, incident, "ACKNOWLEDGED", FIRST + SECOND), "not all were told of the acknowledgement")
    on_progress(f"{ACTOR} has acknowledged: nobody else is paged")
    time.sleep(STEP_S + 1)
    edge.post(f"/api/incidents/{incident}/resolve", {"actor": ACTOR, "comment": "the database is back"})
    _until(lambda: _count(sinks, incident, "RESOLVED", FIRST + SECOND), "not all were told of the end")
    found = _get(edge, incident)
    return ActResult(
        incident=found["incident"],
        alerts=found["alerts"],
        history=found["history"],
        deliveries=_deliveries(sinks, incident),
    )


def _prepare(edge: RestClient, on_progress: Callable[[str], None]) -> None:
    """Describe the services, and put a route and a policy for them before the routes of the notifier's file."""
    edge.post("/api/catalog:apply", CATALOG)
    edge.put("/api/policies/orders", POLICY)
    on_progress("waiting for the notifier's routes")
    tree = _until(lambda: _routing(edge), "the notifier's routes were not taken over")["routing"]["tree"]
    tree["root"]["routes"] = [ROUTE, *tree["root"].get("routes", [])]
    edge.put("/api/routing", {"tree": tree, "author": ACTOR, "comment": "orders have a policy of their own"})


def _routing(edge: RestClient) -> Any:
    """Return the routing tree; None while there is none."""
    try:
        return edge.get("/api/routing")
    except RestError:
        return None


def _incident_of(edge: RestClient) -> Any:
    found = edge.get(f"/api/incidents?service={FAILED_DATABASE}")["incidents"]
    return found[0] if found else None


def _get(edge: RestClient, incident: str) -> Any:
    return edge.get(f"/api/incidents/{incident}")


def _deliveries(sinks: RestClient, incident: str) -> list[Any]:
    found = sinks.get("/deliveries?accepted=true")["deliveries"]
    return [one for one in found if one["incident"] == incident or one["alert"] == incident]


def _count(sinks: RestClient, incident: str, kind: str, channels: Sequence[str]) -> bool:
    """Return whether each of these channels has got this kind."""
    got = {one["channel"] for one in _deliveries(sinks, incident) if one["kind"] == kind}
    return got >= set(channels)


def _until(ask: Callable[[], _Found], otherwise: str) -> _Found:
    """Ask until the answer is true, and return it. Raises ActError."""
    deadline = time.monotonic() + _TIMEOUT_S
    while not (found := ask()):
        if time.monotonic() > deadline:
            raise ActError(otherwise)
        time.sleep(_POLL_S)
    return found


def _differences(result: ActResult) -> Iterator[str]:
    services = sorted(alert["service"] for alert in result.alerts)
    if services != sorted([FAILED_DATABASE, *DEPENDENTS]):
        yield f"the incident has alerts of {', '.join(services)}"
    cause = [alert["service"] for alert in result.alerts if alert["alertId"] == result.incident["causeAlertId"]]
    if cause != [FAILED_DATABASE]:
        yield f"the probable cause is {cause}, not {FAILED_DATABASE}"
    if result.incident["state"] != "RESOLVED":
        yield f"the incident is {result.incident['state']}"
    expected = Counter((channel, kind) for channel in FIRST + SECOND for kind in ("FIRING", "ACKNOWLEDGED", "RESOLVED"))
    actual = Counter((one["channel"], one["kind"]) for one in result.deliveries)
    yield from (f"missing: {kind} on {channel}" for channel, kind in (expected - actual).elements())
    yield from (f"not expected: {kind} on {channel}" for channel, kind in (actual - expected).elements())
