"""What Envoy lets through where authentication is required, over all rpcs, with REST and gRPC."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.rpc import error_details_pb2

from services.access.authentication import GATEWAY, authenticate
from services.access.methods import own_methods
from services.chassis.callers import KnownCall, Unauthenticated
from services.domain.roles import Role
from tests.contract.envoy.client import EnvoyClient, Response, status_of, wait_until
from tests.contract.envoy.conftest import Running, guarded
from tests.contract.envoy.tokens import ISSUER, Issuer
from tests.contract.envoy.upstream import CONTRACTS

METHODS = own_methods()
RPCS = {
    f"/{service.full_name}/{method.name}": method
    for services in CONTRACTS.values()
    for service in services
    for method in service.methods
}
CALLERS = [role for role in Role if role is not Role.SERVICE]
KEY = f"tocsin_{'a' * 12}_{'b' * 43}"
OK, UNAUTHENTICATED, DENIED = grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED
NOT_FOUND = grpc.StatusCode.UNIMPLEMENTED
ALERTS = "/tocsin.alerts.v1.AlertService/ListAlerts"


@pytest.fixture(scope="module")
def envoy(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("guarded")
    keys = folder / "keys" / "jwks.json"
    keys.parent.mkdir()
    keys.write_text(issuer.public_keys)
    with guarded(folder, jwt_issuer=ISSUER, jwt_audiences="tocsin,other", jwt_keys=str(keys)) as running:
        yield running


@pytest.fixture(scope="module")
def open_envoy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with guarded(tmp_path_factory.mktemp("anonymous"), anonymous="viewer") as running:
        yield running


@pytest.fixture(autouse=True)
def _forget(envoy: Running, open_envoy: Running) -> None:
    for upstream in (*envoy.upstreams, *open_envoy.upstreams):
        upstream.reset()


def code_of(channel: grpc.Channel, path: str, **metadata: str) -> grpc.StatusCode:
    """Call an rpc with an empty request; return its status."""
    is_stream = path in RPCS and RPCS[path].server_streaming
    kind = channel.unary_stream if is_stream else channel.unary_unary
    call: Any = kind(path, request_serializer=bytes, response_deserializer=bytes)
    sent = [(name.replace("_", "-"), value) for name, value in metadata.items()]
    answer = call(b"", metadata=sent, timeout=10) if is_stream else call.future(b"", metadata=sent, timeout=10)
    if is_stream:
        with suppress(grpc.RpcError):
            list(answer)
    code: grpc.StatusCode = answer.code()
    return code


def rest(client: EnvoyClient, method: MethodDescriptor, headers: dict[str, str]) -> Response | None:
    """Call an rpc's REST path, if it has one."""
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern")
    if verb is None:
        return None
    path = re.sub(r"\{[^}]+\}", "x", getattr(rule, verb))
    return client.send(verb.upper(), path, "{}" if rule.body else None, headers)


@contextmanager
def served(text: str) -> Iterator[str]:
    """Serve the text over HTTP; yield its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/jwks.json"
        server.shutdown()


def routed(path: str) -> bool:
    return METHODS[path].role is not Role.SERVICE


def calls(running: Running) -> list[Any]:
    return [call for upstream in running.upstreams for call in upstream.calls]


def metadata_of(running: Running) -> dict[str, str]:
    (call,) = calls(running)
    sent: dict[str, str] = call.metadata
    return sent


@pytest.mark.parametrize("role", CALLERS)
def test_over_all_rpcs_a_token_opens_exactly_what_its_role_permits(envoy: Running, issuer: Issuer, role: Role) -> None:
    authorization = f"Bearer {issuer.token(tocsin_role=role.value)}"
    client, wrong = EnvoyClient(envoy.ports.edge), list[tuple[str, object]]()
    with client.channel() as channel:
        for path, method in RPCS.items():
            permitted = routed(path) and role.permits(METHODS[path].role)
            expected = OK if permitted else DENIED if routed(path) else None
            found = code_of(channel, path, authorization=authorization)
            if found is not expected and not (expected is None and found in (NOT_FOUND, DENIED)):
                wrong.append((path, found))
            response = rest(client, method, {"authorization": authorization})
            if response is not None and (response.status == 403) == permitted:
                wrong.append((path, response.status))

    assert wrong == []
    assert {call.rpc for call in calls(envoy)} == {
        path.rpartition("/")[2] for path in RPCS if routed(path) and role.permits(METHODS[path].role)
    }


def test_over_all_rpcs_nobody_without_credentials_is_let_in(envoy: Running) -> None:
    client, wrong = EnvoyClient(envoy.ports.edge), list[tuple[str, object]]()
    with client.channel() as channel:
        for path, method in RPCS.items():
            if (found := code_of(channel, path)) is not UNAUTHENTICATED:
                wrong.append((path, found))
            response = rest(client, method, {})
            if response is not None and response.status != 401:
                wrong.append((path, response.status))

    assert wrong == []
    assert calls(envoy) == []


@pytest.mark.parametrize("port", ["edge_manager", "edge_notifier", "edge_evaluator", "mesh"])
def test_nobody_is_let_in_at_the_other_ports_either(envoy: Running, port: str) -> None:
    with EnvoyClient(getattr(envoy.ports, port)).channel() as channel:
        found = {code_of(channel, path) for path in RPCS}
        forged = {code_of(channel, path, x_tocsin_caller_role="admin") for path in RPCS}

    assert found == forged == {UNAUTHENTICATED}
    assert calls(envoy) == []


def test_the_mesh_takes_neither_keys_nor_tokens(envoy: Running, issuer: Issuer) -> None:
    with EnvoyClient(envoy.ports.mesh).channel() as channel:
        for text in (KEY, issuer.token(tocsin_role="admin")):
            assert {code_of(channel, path, authorization=f"Bearer {text}") for path in RPCS} == {UNAUTHENTICATED}
    assert EnvoyClient(envoy.ports.mesh).get("/stats/prometheus").status == 401
    assert calls(envoy) == []


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_what_has_the_form_of_a_key_is_left_to_the_services(envoy: Running, scheme: str) -> None:
    with EnvoyClient(envoy.ports.edge).channel() as channel:
        assert code_of(channel, ALERTS, authorization=f"{scheme} {KEY}") is OK

    sent = metadata_of(envoy)
    assert sent["authorization"] == f"{scheme} {KEY}"
    assert not {name for name in sent if name.startswith("x-tocsin-caller")}


@pytest.mark.parametrize("method", [path for path in RPCS if METHODS[path].role is Role.SERVICE])
def test_a_key_does_not_open_what_only_services_call(envoy: Running, method: str) -> None:
    with EnvoyClient(envoy.ports.edge).channel() as channel:
        code_of(channel, method, authorization=f"Bearer {KEY}")

    assert calls(envoy) == []


def test_a_tokens_claims_reach_the_service(envoy: Running, issuer: Issuer) -> None:
    token = issuer.token(sub="ann@example.org", tocsin_role="editor", tocsin_tenant="acme")
    with EnvoyClient(envoy.ports.edge).channel() as channel:
        assert code_of(channel, ALERTS, authorization=f"Bearer {token}") is OK

    sent = metadata_of(envoy)
    assert sent["x-tocsin-caller-name"] == "ann@example.org"
    assert sent["x-tocsin-caller-role"] == "editor"
    assert sent["x-tocsin-caller-tenant"] == "acme"


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": 1},
        {"exp": None},
        {"iss": "https://elsewhere.example"},
        {"aud": "another"},
        {"tocsin_role": None},
    ],
)
def test_a_token_that_is_not_valid_or_has_no_role_is_refused(
    envoy: Running, issuer: Issuer, claims: dict[str, Any]
) -> None:
    with EnvoyClient(envoy.ports.edge).channel() as channel:
        assert code_of(channel, ALERTS, authorization=f"Bearer {issuer.token(**claims)}") is UNAUTHENTICATED


def test_a_token_of_another_key_is_refused(envoy: Running) -> None:
    with EnvoyClient(envoy.ports.edge).channel() as channel:
        assert code_of(channel, ALERTS, authorization=f"Bearer {Issuer().token()}") is UNAUTHENTICATED


def test_a_token_in_the_query_is_none(envoy: Running, issuer: Issuer) -> None:
    with EnvoyClient(envoy.ports.edge).channel() as channel:
        assert code_of(channel, f"{ALERTS}?access_token={issuer.token()}") is UNAUTHENTICATED


def test_a_token_that_is_not_the_only_one_is_not_taken_for_another_one(envoy: Running, issuer: Issuer) -> None:
    # Envoy looks for a token anywhere in the header, and forwards the header as it is.
    authorization = f"bearer {Issuer().token(exp=9_000_000_000)} Bearer {issuer.token()}"
    with EnvoyClient(envoy.ports.edge).channel() as channel:
        assert code_of(channel, ALERTS, authorization=authorization) is OK

    call = KnownCall(method=ALERTS, metadata=metadata_of(envoy), peer_identity=GATEWAY)
    with pytest.raises(Unauthenticated):
        authenticate(call, {}, datetime.now(UTC))


def test_a_token_cannot_be_of_a_service(envoy: Running, issuer: Issuer) -> None:
    authorization = f"Bearer {issuer.token(tocsin_role='service')}"
    with EnvoyClient(envoy.ports.edge).channel() as channel:
        assert {code_of(channel, path, authorization=authorization) for path in RPCS} == {DENIED}


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer x", "Basic YTpi", f"Basic {KEY}", KEY])
def test_other_credentials_are_refused(envoy: Running, authorization: str) -> None:
    with EnvoyClient(envoy.ports.edge).channel() as channel:
        assert code_of(channel, ALERTS, authorization=authorization) is UNAUTHENTICATED


@pytest.mark.parametrize(
    "forged",
    [
        {"x-tocsin-caller-role": "admin"},
        {"x-tocsin-caller-role": "admin", "x-tocsin-caller-name": "eve"},
        {"x-forwarded-client-cert": "URI=spiffe://tocsin/client/default/admin/eve"},
        {"x-forwarded-client-cert": "URI=spiffe://tocsin/service/evaluator", "x-tocsin-caller-role": "admin"},
    ],
)
def test_what_clients_say_of_themselves_is_removed(envoy: Running, issuer: Issuer, forged: dict[str, str]) -> None:
    client = EnvoyClient(envoy.ports.edge)
    assert client.get("/api/alerts", forged).status == 401
    assert client.post("/api/silences", "{}", {**forged, "authorization": f"Bearer {issuer.token()}"}).status == 403

    assert client.get("/api/alerts", {**forged, "authorization": f"Bearer {KEY}"}).status == 200
    sent = metadata_of(envoy)
    assert not set(sent) & {
        "x-forwarded-client-cert",
        *(f"x-tocsin-caller-{one}" for one in ("name", "role", "tenant")),
    }


def test_refusals_say_what_is_expected(envoy: Running, issuer: Issuer) -> None:
    client = EnvoyClient(envoy.ports.edge)
    unknown = client.get("/api/alerts")
    denied = client.post("/api/silences", "{}", {"authorization": f"Bearer {issuer.token()}"})

    assert (unknown.status, unknown.json["code"], unknown.reason) == (401, 16, "UNAUTHENTICATED")
    assert "authorization: Bearer" in unknown.json["message"]
    assert unknown.headers["www-authenticate"] == 'Bearer realm="tocsin"'
    assert (denied.status, denied.json["code"], denied.reason) == (403, 7, "PERMISSION_DENIED")
    with client.channel() as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(ALERTS, request_serializer=bytes, response_deserializer=bytes)(b"", timeout=10)
    status, info = status_of(refused.value), error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (status.code, status.message, info.reason) == (16, unknown.json["message"], "UNAUTHENTICATED")


def test_health_is_open_and_says_states_only(envoy: Running) -> None:
    found = EnvoyClient(envoy.ports.edge).get("/health")

    assert found.status == 200
    assert set(found.json) == {"service", "status", "dependencies"}


def test_a_path_that_leads_nowhere_is_answered_so(envoy: Running) -> None:
    # Who is not known learns nothing of paths of REST.
    assert EnvoyClient(envoy.ports.edge).get("/api/nothing").status == 401
    assert EnvoyClient(envoy.ports.edge).get("/api/nothing", {"authorization": f"Bearer {KEY}"}).status == 404
    with EnvoyClient(envoy.ports.edge).channel() as channel:
        assert code_of(channel, "/tocsin.alerts.v1.AlertService/Nothing") is NOT_FOUND


def test_reflection_needs_a_viewer(envoy: Running, issuer: Issuer) -> None:
    path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    with EnvoyClient(envoy.ports.edge).channel() as channel:
        assert code_of(channel, path) is UNAUTHENTICATED
        assert code_of(channel, path, authorization=f"Bearer {issuer.token(tocsin_role='ingest')}") is DENIED
        assert code_of(channel, path, authorization=f"Bearer {issuer.token()}") is OK


def test_the_issuers_keys_may_be_fetched_from_it(tmp_path: Path, issuer: Issuer) -> None:
    with served(issuer.public_keys) as url, guarded(tmp_path, jwt_issuer=ISSUER, jwt_keys=url) as running:
        client, authorization = EnvoyClient(running.ports.edge), f"Bearer {issuer.token()}"

        wait_until(lambda: client.get("/api/alerts", {"authorization": authorization}).status == 200)
        assert client.get("/api/alerts", {"authorization": f"Bearer {Issuer().token()}"}).status == 401


def test_callers_without_credentials_may_do_what_the_setting_says(open_envoy: Running) -> None:
    client = EnvoyClient(open_envoy.ports.edge)

    assert client.get("/api/alerts").status == 200
    assert metadata_of(open_envoy)["x-tocsin-caller-role"] == "viewer"
    assert client.post("/api/silences", "{}").status == 403
    assert client.get("/api/alerts", {"authorization": "Bearer nonsense"}).status == 401
    assert client.post("/api/logs", "{}", {"x-tocsin-caller-role": "admin"}).status == 403


def test_what_is_said_of_anonymous_callers_says_nothing_of_a_key(open_envoy: Running) -> None:
    client = EnvoyClient(open_envoy.ports.edge)

    assert client.get("/api/alerts", {"authorization": f"Bearer {KEY}"}).status == 200
    assert "x-tocsin-caller-role" not in metadata_of(open_envoy)


def test_a_caller_that_calls_too_often_is_told_when_to_try_again(tmp_path: Path) -> None:
    key, other = (f"tocsin_{letter * 12}_{'b' * 43}" for letter in "ac")
    with guarded(tmp_path, calls_per_second=3) as running:
        client = EnvoyClient(running.ports.edge)

        def alerts(text: str) -> Response:
            return client.get("/api/alerts", {"authorization": f"Bearer {text}"})

        answers = [alerts(key) for _ in range(20)]
        refused = [answer for answer in answers if answer.status == 429]
        assert {answer.status for answer in answers} == {200, 429}
        assert refused[0].json["code"] == 8
        assert refused[0].headers["retry-after"] == "1"
        assert "more often" in refused[0].json["message"]
        # The limit is each caller's own, also of those without credentials.
        assert alerts(other).status == 200
        without = {client.get("/api/alerts").status for _ in range(20)}
        assert without == {401, 429}
        with client.channel() as channel:
            codes = {code_of(channel, ALERTS, authorization=f"Bearer {key}") for _ in range(20)}
            assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes


def test_who_sends_another_key_with_each_call_is_limited_by_the_address(tmp_path: Path) -> None:
    with guarded(tmp_path, calls_per_second=1) as running:
        client = EnvoyClient(running.ports.edge)
        keys = (f"tocsin_{number:012}_{'b' * 43}" for number in range(200))
        answers = [client.get("/api/alerts", {"authorization": f"Bearer {key}"}).status for key in keys]
    # Ten callers with keys may call from one address.
    assert set(answers[:10]) == {200}
    assert set(answers) == {200, 429}
