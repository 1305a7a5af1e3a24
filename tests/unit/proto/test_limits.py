"""The contracts say of everything that is listed how much of it there may be, with the numbers that hold."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from services.manager.core.api_keys import MAX_KEYS
from services.manager.core.catalog import MAX_SERVICES
from services.manager.core.incident import MAX_COMMENTS
from services.manager.core.learned_edges import MAX_LEARNED_EDGES
from services.manager.core.on_call_records import MAX_OVERRIDES, MAX_RESOURCES, OnCallKind
from services.manager.core.rule import MAX_RULES
from services.manager.core.service_changes import MAX_CHANGES
from services.manager.core.silence import MAX_SILENCES
from services.manager.settings import AuditSettings, Settings
from services.notifier.settings import Settings as NotifierSettings

PROTO = Path(__file__).resolve().parents[3] / "proto" / "tocsin"
_COMMENTED = re.compile(r"((?:^ *//[^\n]*\n)+)^ *(service|rpc) (\w+)", re.MULTILINE)


def kept(settings: type[Settings | AuditSettings | NotifierSettings], name: str) -> str:
    """Return for how long something is kept by default."""
    default = settings.__dataclass_fields__[name].default
    assert isinstance(default, timedelta)
    return f"for {default.days} days (a setting)"


# By the rpc that lists something, what the comments of the rpc or its service say of its number or age.
LIMITS = {
    "ListAlertRules": f"up to {MAX_RULES:,}.",
    "ListAlerts": kept(Settings, "retention"),
    "ListAuditRecords": kept(AuditSettings, "audit_retention"),
    "ListChanges": f"up to {MAX_CHANGES:,} of a tenant, {kept(Settings, 'change_retention')}",
    "ListCircuitBreakers": "those of the notifier's file, all in one response",
    "ListDeliveries": kept(NotifierSettings, "retention"),
    "ListEscalationPolicies": f"{MAX_RESOURCES[OnCallKind.POLICY]} escalation policies",
    "ListFailedNotifications": kept(NotifierSettings, "retention"),
    "ListIncidents": kept(Settings, "incident_retention"),
    "ListKeys": f"up to {MAX_KEYS:,} that are valid",
    "ListLearnedEdges": f"up to {MAX_LEARNED_EDGES:,} are stored",
    "ListOnCall": f"{MAX_RESOURCES[OnCallKind.SCHEDULE]} schedules",
    "ListOverrides": f"{MAX_OVERRIDES} overrides",
    "ListPeople": f"up to {MAX_RESOURCES[OnCallKind.PERSON]:,} people",
    "ListReceivers": "those of the notifier's file, all in one response",
    "ListRoutingVersions": "the newest 1,000 are kept",
    "ListSchedules": f"{MAX_RESOURCES[OnCallKind.SCHEDULE]} schedules",
    "ListServices": f"up to {MAX_SERVICES:,}.",
    "ListShifts": "1 to 31",
    "ListSilences": f"up to {MAX_SILENCES:,} that have not expired",
}


def listings() -> Iterator[tuple[str, str, str]]:
    """Yield the name of each rpc that lists something, its file, and the comments of its service and itself."""
    for path in sorted(PROTO.rglob("*_service.proto")):
        text, of_service = path.read_text(), ""
        for comment, kind, name in _COMMENTED.findall(text):
            if kind == "service":
                of_service = comment
            elif name.startswith("List"):
                yield name, text, of_service + comment


def test_everything_that_is_listed_has_a_limit() -> None:
    assert {name for name, _, _ in listings()} == LIMITS.keys()


@pytest.mark.parametrize(("name", "text", "comments"), list(listings()), ids=lambda part: part[:30])
def test_the_contract_says_how_much_there_may_be(name: str, text: str, comments: str) -> None:
    (request,) = re.findall(rf"^message {name}Request {{(.*?)^}}", text, re.DOTALL | re.MULTILINE)
    said = " ".join(re.sub(r"^ *//", "", comments + request, flags=re.MULTILINE).split())
    assert LIMITS[name].lower() in said.lower()
    if "page_size" in request:
        assert "1 to 500" in request


def test_the_contract_says_how_many_comments_an_incident_has() -> None:
    assert f"up to {MAX_COMMENTS:,} comments" in (PROTO / "incidents/v1/incident_service.proto").read_text()
