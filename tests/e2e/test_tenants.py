"""Two tenants with real keys, through Envoy: over all rpcs and paths neither sees or touches what the other has."""

import contextlib
import dataclasses
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.json_format import MessageToDict, ParseDict

from services.access.methods import own_methods
from services.domain.roles import Role
from stack.first_key import create_first_key
from stack.secure_files import SecureFiles
from stack.servers import Addresses
from stack.testing import isolated_wiring, temporary_system
from tests.e2e.secure_world import SecureSystem
from tests.e2e.world import wait_until
from tests.tenant_walk import CREATING, NEEDED, RULE, names_one, request_of, rest_call, shown

METHODS: dict[str, MethodDescriptor] = {
    path.rpartition("/")[2]: descriptor_pool.Default().FindMethodByName(path[1:].replace("/", "."))
    for path, needed in own_methods().items()
    if path.startswith("/tocsin.") and not path.startswith("/tocsin.edge.") and needed.role is not Role.SERVICE
}
STREAMS = {name for name, method in METHODS.items() if method.server_streaming}
# In everything that the one tenant has and nobody else may see.
SECRET = "zebra"
EVENT = {"level": "ERROR", "message": f"{SECRET} went wrong"}
TOMORROW = (datetime.now(UTC) + timedelta(days=1)).isoformat()
ROUTES = """
channels:
  zebra-hook: {kind: webhook, tenant: acme, url: "http://127.0.0.1:1/", signing_key_file: SIGNING, allow_private: true}
  own-hook: {kind: webhook, tenant: other, url: "http://127.0.0.1:1/", signing_key_file: SIGNING, allow_private: true}
receivers:
  zebra-duty: [zebra-hook]
  own-duty: [own-hook]
"""
NO_RETRY = {"NOTIFIER_MAX_ATTEMPTS": "1", "NOTIFIER_BREAKER_RESET": "1h", "NOTIFIER_BREAKER_FIRST_RESET": "1h"}
LAYER = {"name": "always", "people": ["zebra-ann"], "rotation": "DAILY", "startTime": "2026-01-01T09:00:00"}
# What changes by itself.
MOVING = {"evaluateTime", "matchedEventCount", "statistics", "updateTime", "nextPageToken", "etag", "timeline"}
# What another tenant does with these is its own: an rpc that is neither among them nor about one thing fails the test.
OWN: Mapping[str, Mapping[str, Any]] = {
    "Ingest": {"event": {"service": "own-web", "level": "INFO", "message": "m"}},
    "IngestBatch": {"events": [{"service": "own-web", "level": "INFO", "message": "m"}]},
    "CreateAlertRule": {"alertRule": RULE | {"name": "another"}},
    "ValidateAlertRule": {"alertRule": RULE | {"name": "third"}},
    "ApplyServices": {"services": [{"name": "own-web"}]},
    "RecordChange": {"change": {"service": "own-web", "kind": "DEPLOYMENT"}},
    "CreateSilence": {"silence": {"matchers": ['x="1"'], "endTime": TOMORROW, "author": "a", "comment": "c"}},
    # It matches every alert.
    "PreviewSilence": {"silence": {"matchers": ['service=~".*"'], "endTime": TOMORROW, "author": "a", "comment": "c"}},
    "ApplyOnCall": {"people": [{"name": "own-ann", "receivers": ["own-duty"]}]},
    "SetRouting": {"tree": {"root": {"receivers": ["own-duty"]}}, "author": "a"},
    "ExplainRouting": {"labels": {"severity": "LOW"}},
    "GetAlertReport": {},
    "GetIncidentReport": {},
    "GetNotificationReport": {},
    "GetServiceGraph": {},
    "GetRouting": {},
    "RollbackRouting": {"version": 1},
    "ListCircuitBreakers": {},
    "CreateKey": {"key": {"name": "mine", "role": "VIEWER"}},
}
# Bodies that are no message of ours, so their JSON is sent as REST below.
RAW = {"IngestColumns", "IngestJson", "IngestJsonBatch"}


@dataclass(frozen=True)
class Tenant:
    """The calls of one tenant's administrator, by gRPC and REST."""

    secure: SecureSystem
    name: str
    key: str
    channel: grpc.Channel

    def call(self, name: str, request: Mapping[str, Any], *, timeout: float | None = 20) -> Any:
        method = METHODS[name]
        sent = ParseDict(dict(request), message_factory.GetMessageClass(method.input_type)())
        kind = self.channel.unary_stream if method.server_streaming else self.channel.unary_unary
        rpc: Any = kind(
            f"/{method.containing_service.full_name}/{method.name}",
            type(sent).SerializeToString,
            message_factory.GetMessageClass(method.output_type).FromString,
        )
        return rpc(sent, metadata=[("authorization", f"Bearer {self.key}")], timeout=timeout)

    def code(self, name: str, request: Mapping[str, Any]) -> tuple[grpc.StatusCode, str]:
        """Return the status of a call, and what it answers as text."""
        try:
            return grpc.StatusCode.OK, json.dumps(shown(self.call(name, request)))
        except grpc.RpcError as error:
            return error.code(), str(error.details())

    def rest(self, name: str, request: Mapping[str, Any]) -> tuple[int, str] | None:
        sent = rest_call(METHODS[name], request)
        if sent is None:
            return None
        status, answer = self.secure.call(*sent, key=self.key)
        return status, json.dumps(answer)

    def send(self, service: str) -> None:
        status, _ = self.secure.call("POST", "/api/logs", EVENT | {"service": service}, key=self.key)
        assert status == 200


@pytest.fixture(scope="module")
def tenants(
    kafka: str, postgres: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Tenant, Tenant]]:
    folder = tmp_path_factory.mktemp("tenants")
    (folder / "signing").write_text("made-up-signing-key")
    (folder / "routes.yaml").write_text(ROUTES.replace("SIGNING", str(folder / "signing")))
    files = SecureFiles(home=folder)
    files.prepare(datetime.now(UTC))
    servers = Addresses(kafka=kafka, postgres=postgres, redis=redis_url)
    with isolated_wiring(servers) as wiring:
        external = dataclasses.asdict(wiring.addresses)
        secured = dataclasses.replace(wiring, secure=files, external=external, routes=folder / "routes.yaml")
        with temporary_system(secured, folder, print, settings=NO_RETRY) as system, contextlib.ExitStack() as stack:
            credentials = grpc.ssl_channel_credentials(files.ca.read_bytes())
            made = []
            for name in ("acme", "other"):
                database = {"MANAGER_DATABASE_URL": wiring.addresses.postgres}
                key = create_first_key(
                    database, name="zebra-admin" if name == "acme" else "own-admin", tenant=name
                ).text
                channel = stack.enter_context(
                    grpc.secure_channel(
                        f"localhost:{system.wiring.ports.edge}", credentials, [("grpc.use_local_subchannel_pool", 1)]
                    )
                )
                # Whose key it is does not matter: each call below has its own.
                made.append(Tenant(SecureSystem(system, files, None, key), name, key, channel))  # type: ignore[arg-type]
            for tenant in made:
                for path in ("/api/alert-rules", "/api/circuit-breakers"):
                    wait_until(lambda path=path, own=tenant: own.secure.call("GET", path, key=own.key)[0] == 200)  # type: ignore[misc]
                wait_until(lambda own=tenant: own.code("Ingest", OWN["Ingest"])[0] is grpc.StatusCode.OK)  # type: ignore[misc]
            yield made[0], made[1]


@pytest.fixture(scope="module")
def known(tenants: tuple[Tenant, Tenant]) -> dict[str, dict[str, str]]:
    """Give a tenant one of everything; return by service the names and ids of what it has."""
    acme, other = tenants
    routed = {"tree": {"root": {"receivers": ["zebra-duty"], "policy": "zebra-policy"}}, "author": SECRET}
    acme.call(
        "ApplyOnCall",
        {
            "people": [{"name": "zebra-ann", "receivers": ["zebra-duty"]}],
            "schedules": [{"name": "zebra-primary", "timeZone": "UTC", "layers": [LAYER]}],
            "policies": [{"name": "zebra-policy", "steps": [{"schedules": ["zebra-primary"]}]}],
        },
    )
    override = {"person": "zebra-ann", "endTime": TOMORROW}
    overridden = acme.call("CreateOverride", {"schedule": "zebra-primary", "override": override}).override.id
    acme.call("SetRouting", routed)
    acme.call("ReplaceService", {"name": "zebra-web", "service": {"dependsOn": ["zebra-db"]}})
    acme.call("RecordChange", {"change": {"service": "zebra-web", "kind": "DEPLOYMENT", "version": SECRET}})
    silence = {"matchers": ['service="zebra-x"'], "endTime": TOMORROW, "author": SECRET, "comment": SECRET}
    silenced = acme.call("CreateSilence", {"silence": silence}).silence.id
    made = acme.call("CreateKey", {"key": {"name": "zebra-viewer", "role": "VIEWER"}}).key.id
    rule = acme.call("CreateAlertRule", {"alertRule": RULE | {"name": "zebra-rule", "windowMinutes": 60}}).alert_rule.id
    other.call("CreateAlertRule", {"alertRule": RULE | {"windowMinutes": 60}})

    def fired() -> Any:
        # The evaluator may not know the rule yet.
        acme.send("zebra-web")
        return acme.call("ListAlerts", {}).alerts

    alert = wait_until(fired, timeout=60)[0].id
    incident = wait_until(lambda: acme.call("ListIncidents", {}).incidents)[0].id
    failed = wait_until(lambda: acme.call("ListFailedNotifications", {}).failed_notifications)[0].id
    assert not other.call("ListAlerts", {}).alerts
    return {
        "AlertRuleService": {"id": rule},
        "RuleStatisticsService": {"id": rule},
        "AlertService": {"id": alert, "ruleId": rule, "idPrefix": alert[:8], "service": "zebra-web"},
        "IncidentService": {"id": incident, "otherId": incident, "alertIds": alert, "alertId": alert},
        "SilenceService": {"id": silenced, "idPrefix": silenced[:8]},
        "CatalogService": {"name": "zebra-web", "service": "zebra-web", "namePrefix": SECRET},
        "LearnedEdgeService": {"service": "zebra-web", "dependsOn": "zebra-db"},
        "ChangeService": {"service": "zebra-web"},
        "OnCallService": {"schedule": "zebra-primary", "id": overridden, "person": "zebra-ann", "namePrefix": SECRET},
        "GetPerson": {"name": "zebra-ann"},
        "DeletePerson": {"name": "zebra-ann"},
        "GetSchedule": {"name": "zebra-primary"},
        "DeleteSchedule": {"name": "zebra-primary"},
        "GetEscalationPolicy": {"name": "zebra-policy"},
        "DeleteEscalationPolicy": {"name": "zebra-policy"},
        "ExplainAlert": {"id": alert},
        "ExplainIncident": {"id": incident},
        "NotificationService": {"id": failed, "alertId": alert, "incidentId": incident, "idPrefix": failed[:8]},
        "ListDeliveries": {"alertId": alert, "incidentId": incident, "channel": "zebra-hook"},
        "ListReceivers": {"tenant": "acme"},
        "AccessService": {"id": made},
        "ListKeys": {"name": "zebra-viewer"},
    }


def unmoved(value: Any) -> Any:
    """Return a response without what changes by itself."""
    if isinstance(value, dict):
        return {name: unmoved(each) for name, each in value.items() if name not in MOVING}
    return [unmoved(each) for each in value] if isinstance(value, list) else value


def everything(tenant: Tenant, known: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return what a tenant reads of its own."""
    found = {}
    for name, method in METHODS.items():
        reads = name.startswith(("List", "Get")) and name not in {"GetCalendar", "ListAuditRecords"}
        if reads and "Report" not in name:
            found[name] = unmoved(MessageToDict(tenant.call(name, request_of(method, known))))
    return found


def requests(known: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return each rpc with a request for what the other tenant has, and each list also with a request for all."""
    for name, method in METHODS.items():
        if name not in STREAMS | RAW | CREATING:
            yield name, request_of(method, known)
            if name.startswith("List") and not names_one(method):
                yield name, {}


def is_own(name: str) -> bool:
    """Return whether an rpc acts on what is the caller's, whatever another tenant has."""
    return name in OWN or (name.startswith("List") and not names_one(METHODS[name]))


def expected_of(name: str, request: Mapping[str, Any]) -> tuple[set[grpc.StatusCode], set[int]]:
    """Return the statuses that a call for what another tenant has may end with, by gRPC and by REST."""
    if "tenant" in request and name != "ListReceivers":
        return {grpc.StatusCode.PERMISSION_DENIED}, {403}
    if name == "GetRouting" or not is_own(name):
        return {grpc.StatusCode.NOT_FOUND}, {404}
    # By REST it is made a second time.
    return {grpc.StatusCode.OK}, {200, 409} if name.startswith("Create") else {200}


def problems(
    other: Tenant, known: Mapping[str, Mapping[str, str]], name: str, request: dict[str, Any]
) -> Iterator[str]:
    """Return what is wrong with the answers to a tenant that asks for what another one has."""
    sent = dict(OWN.get(name, request))
    codes, statuses = expected_of(name, sent)
    code, text = other.code(name, sent)
    if code not in codes:
        yield f"{name} {sent}: {code} {text}"
    answer = other.rest(name, sent)
    if answer is not None and answer[0] not in statuses:
        yield f"REST {name} {sent}: {answer}"
    ids = [each["id"] for service, each in known.items() if service in {"AlertService", "IncidentService"}]
    # A request's own texts come back in refusals.
    secrets = [SECRET, *ids] if is_own(name) and SECRET not in json.dumps(sent) else []
    if name == "ListAuditRecords":
        # It has what this caller asked for, and nothing that the other one did.
        secrets = ['"tenant": "acme"', "zebra-admin"]
    for shown_text in (text, answer[1] if answer else ""):
        if any(secret in shown_text for secret in secrets):
            yield f"{name} shows {shown_text}"


def test_over_all_rpcs_and_paths_neither_key_finds_anything_of_the_other_tenant(
    tenants: tuple[Tenant, Tenant], known: dict[str, dict[str, str]]
) -> None:
    acme, other = tenants
    before = everything(acme, known)
    # Statistics are numbers; edges are learned from traces, of which there are none.
    without = [name for name, found in before.items() if SECRET not in json.dumps(found)]
    assert without == ["GetRuleStatistics", "ListLearnedEdges"]
    wrong = [problem for name, request in requests(known) for problem in problems(other, known, name, request)]
    assert wrong == [], "\n".join(wrong)
    assert everything(acme, known) == before


def test_nobody_acts_for_another_tenant_by_naming_it(tenants: tuple[Tenant, Tenant]) -> None:
    _, other = tenants
    for name, request in (
        ("ListKeys", {"tenant": "acme"}),
        ("ListAuditRecords", {"tenant": "acme"}),
        ("RevokeKey", {"id": "x", "tenant": "acme"}),
        ("CreateKey", {"key": {"name": "n", "role": "VIEWER", "tenant": "acme"}}),
    ):
        code, _ = other.code(name, request)
        assert code is grpc.StatusCode.PERMISSION_DENIED, name
    assert other.code("ListReceivers", {"tenant": "acme"})[1].count(SECRET) == 0


def test_what_has_the_other_tenants_name_is_made_for_the_caller(
    tenants: tuple[Tenant, Tenant], known: dict[str, dict[str, str]]
) -> None:
    acme, other = tenants
    before = everything(acme, known)
    bodies = {
        "ReplaceService": {"name": "zebra-web", "service": {"owner": "mine"}},
        "ReplacePerson": {"name": "zebra-ann", "person": {"receivers": ["own-duty"]}},
        "ReplaceSchedule": {"name": "zebra-primary", "schedule": {"timeZone": "UTC", "layers": [LAYER]}},
        "ReplaceEscalationPolicy": {"name": "zebra-policy", "policy": {"steps": [{"people": ["zebra-ann"]}]}},
    }
    assert bodies.keys() == CREATING
    for name, request in bodies.items():
        code, text = other.code(name, request)
        assert code is grpc.StatusCode.OK, (name, text)
        answer = other.rest(name, request)
        assert answer is not None
        assert answer[0] == 200
    assert everything(acme, known) == before


def test_streams_carry_what_is_their_own_tenants(
    tenants: tuple[Tenant, Tenant], known: dict[str, dict[str, str]]
) -> None:
    acme, other = tenants
    seen: dict[str, list[str]] = {name: [] for name in STREAMS}
    calls = {name: other.call(name, {}, timeout=60) for name in STREAMS}

    def read(name: str) -> None:
        with contextlib.suppress(grpc.RpcError):
            for message in calls[name]:
                seen[name].append(json.dumps(MessageToDict(message)))

    threads = [threading.Thread(target=read, args=[name]) for name in STREAMS]
    for thread in threads:
        thread.start()
    try:
        acme.call("AcknowledgeAlert", {"id": known["AlertService"]["id"]})
        acme.call("CommentIncident", {"id": known["IncidentService"]["id"], "comment": SECRET})
        acme.call("UpdateAlertRule", {"id": known["AlertRuleService"]["id"], **NEEDED["UpdateAlertRule"]})
        other.call("CreateAlertRule", {"alertRule": RULE | {"name": "own-late", "windowMinutes": 60}})

        def own_is_seen() -> bool:
            other.send("own-web")
            return all(any("own-" in text for text in texts) for texts in seen.values())

        wait_until(own_is_seen, timeout=50, what=str({name: len(texts) for name, texts in seen.items()}))
    finally:
        for call in calls.values():
            call.cancel()
        for thread in threads:
            thread.join()
    ids = [known[name]["id"] for name in ("AlertService", "IncidentService", "AlertRuleService")]
    # The message of the events is the same in both tenants.
    foreign = [text for texts in seen.values() for text in texts if any(each in text for each in ("zebra-", *ids))]
    assert foreign == []


def test_a_channel_of_a_tenant_is_reached_by_nobody_else(tenants: tuple[Tenant, Tenant]) -> None:
    acme, other = tenants
    foreign = {"tree": {"root": {"receivers": ["zebra-duty"]}}, "author": "a"}
    assert other.code("SetRouting", foreign) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "not allowed: tree.root.receivers[0]",
    )
    # A receiver of a person may be missing yet, so this is a warning only.
    other.call("ApplyOnCall", {"people": [{"name": "own-eve", "receivers": ["zebra-duty"]}]})
    other.call("ApplyOnCall", {"policies": [{"name": "own-policy", "steps": [{"people": ["own-eve"]}]}]})
    other.call("SetRouting", {"tree": {"root": {"receivers": ["own-duty"], "policy": "own-policy"}}, "author": "a"})
    before = acme.call("ListDeliveries", {})

    def reached_nobody() -> list[Any]:
        other.send("own-far")
        alerts = [each.id for each in other.call("ListAlerts", {}).alerts if each.resource == "own-far"]
        histories = [other.call("GetAlert", {"id": each}).history for each in alerts]
        return [entry for history in histories for entry in history if "no such receiver" in entry.comment]

    assert wait_until(reached_nobody, timeout=60)[0].channel == "zebra-duty"
    assert {each.channel for each in other.call("ListDeliveries", {}).deliveries} <= {"own-hook"}
    assert acme.call("ListDeliveries", {}) == before
