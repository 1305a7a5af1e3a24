"""What Envoy refuses itself it reports to the manager: who, what, from where, and nothing of what was sent."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2

from services.access.gateway_refusals import refusal_at_gateway
from services.access.methods import GATEWAY_METHODS, rpc_finder
from services.chassis.peers import GATEWAY_NAME
from services.domain.audit_record import AuditRecord
from stack.certificate_requests import CertificateFiles
from stack.envoy import EnvoySettings, render_config
from stack.ports import Ports
from tests.contract.envoy.client import EnvoyClient, wait_until
from tests.contract.envoy.conftest import envoy_settings
from tests.contract.envoy.edge import running_envoy
from tests.contract.envoy.test_access import code_of
from tests.contract.envoy.test_tls import server_context, server_credentials
from tests.contract.envoy.tokens import ISSUER, Issuer
from tests.contract.envoy.upstream import Upstream, admin
from tests.fakes.certificates import Certificates, channel_credentials, client_context
from tests.fakes.clock import FakeClock

LOGS = logs_service_pb2.DESCRIPTOR.services_by_name["LogsService"]
CREATE, LIST = "/tocsin.silences.v1.SilenceService/CreateSilence", "/tocsin.alerts.v1.AlertService/ListAlerts"
GET = "/tocsin.alerts.v1.AlertService/GetAlert"
SNAPSHOT = "/tocsin.access.v1.AccessService/GetKeySnapshot"
DROPPED = "envoy_access_logs_open_telemetry_access_log_refusals_logs_dropped{} 0"
# So many calls without credentials a test may make before they are too many.
CALLS_PER_SECOND = 20


@dataclass(frozen=True)
class World:
    """An Envoy that knows its callers, before a manager."""

    ports: Ports
    certificates: Certificates
    issuer: Issuer
    manager: Upstream

    def rest(
        self, method: str, path: str, *, own: CertificateFiles | None = None, headers: dict[str, str] | None = None
    ) -> int:
        context = client_context(self.certificates.service("gateway").ca, own)
        connection = HTTPSConnection("localhost", self.ports.edge, timeout=10, context=context)
        try:
            body = None if method == "GET" else '{"comment":"hidden"}'
            connection.request(method, path, body, {"content-type": "application/json"} | (headers or {}))
            return connection.getresponse().status
        finally:
            connection.close()

    def rpc(self, port: int, path: str, own: CertificateFiles, **metadata: str) -> grpc.StatusCode:
        target = [("grpc.ssl_target_name_override", GATEWAY_NAME), ("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(f"127.0.0.1:{port}", channel_credentials(own), target) as channel:
            return code_of(channel, path, **metadata)

    def reports(self) -> list[dict[str, str]]:
        return [
            {attribute.key: attribute.value.string_value for attribute in entry.attributes}
            for request in self.manager.requests
            if isinstance(request, logs_service_pb2.ExportLogsServiceRequest)
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for entry in scope.log_records
        ]

    def records(self, number: int) -> list[AuditRecord]:
        """Wait for so many reports; return the entries that the manager would make of them."""
        wait_until(lambda: len(self.reports()) >= number)
        made, now = self.reports(), FakeClock().now()
        return [refusal_at_gateway(each, at=now, record_id="", find_rpc=rpc_finder()) for each in made]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("reported")
    certificates, ports, issuer = Certificates(folder / "certificates"), Ports.free(), Issuer()
    (folder / "jwks.json").write_text(issuer.public_keys)
    with ExitStack() as stack:
        files = certificates.service("manager")
        manager = Upstream("manager", ports.manager, server_credentials(files), also=(LOGS,))
        stack.callback(manager.stop)
        stack.enter_context(admin(ports.manager_admin, "manager", {"db": "UP"}, server_context(files)))
        own = certificates.settings("gateway")
        settings = envoy_settings(
            ports,
            access_log=folder / "access.log",
            authentication="required",
            jwt_issuer=ISSUER,
            jwt_audiences="tocsin",
            jwt_keys=str(folder / "jwks.json"),
            calls_per_second=CALLS_PER_SECOND,
            tls_certificate=own.tls_certificate,
            tls_key=own.tls_key,
            tls_client_ca=own.tls_ca,
            mesh_certificate=own.tls_certificate,
            mesh_key=own.tls_key,
            mesh_ca=own.tls_ca,
        )
        stack.enter_context(running_envoy(settings, ports, folder, "manager"))
        yield World(ports, certificates, issuer, manager)


@pytest.fixture(autouse=True)
def _forget(world: World) -> None:
    world.manager.reset()


def test_a_call_without_credentials_is_reported(world: World) -> None:
    assert world.rest("POST", "/api/silences?requestId=hidden", headers={"x-request-id": "mine"}) == 401

    (record,) = world.records(1)
    assert (record.method, record.code, record.actor) == (CREATE.lstrip("/"), "UNAUTHENTICATED", "")
    assert (record.peer_address, record.request_id, record.service) == ("127.0.0.1", "mine", "gateway")
    assert "\n" + DROPPED in EnvoyClient(world.ports.envoy_admin).get("/stats/prometheus").text


def test_what_a_token_or_a_certificate_does_not_permit_is_reported_with_who_called(world: World) -> None:
    token = world.issuer.token(sub="ann", tocsin_tenant="shop")
    assert world.rest("POST", "/api/silences", headers={"authorization": f"Bearer {token}"}) == 403
    ada = world.certificates.client("ada", role="viewer", tenant="acme")
    assert world.rest("POST", "/api/silences", own=ada) == 403

    ann, known = world.records(2)
    assert (ann.actor, ann.actor_kind, ann.tenant, ann.role) == ("ann", "token", "shop", "viewer")
    assert (known.actor, known.actor_kind, known.tenant, known.code) == (
        "ada",
        "certificate",
        "acme",
        "PERMISSION_DENIED",
    )
    assert {each.method for each in (ann, known)} == {CREATE.lstrip("/")}
    assert token not in str(world.reports())
    assert "hidden" not in str(world.reports())


def test_a_service_that_calls_what_is_not_for_it_is_reported(world: World) -> None:
    notifier = world.certificates.service("notifier")
    code = world.rpc(world.ports.mesh, LIST, notifier, x_request_id="of the service")

    assert code is grpc.StatusCode.PERMISSION_DENIED
    (record,) = world.records(1)
    assert (record.actor, record.actor_kind, record.method) == ("notifier", "service", LIST.lstrip("/"))
    assert record.request_id == ""


def test_who_calls_too_often_is_reported(world: World) -> None:
    codes = [world.rest("GET", f"/api/alerts/{n}") for n in range(3 * CALLS_PER_SECOND)]

    assert set(codes) == {401, 429}
    records = world.records(len(codes))
    often = [each for each in records if each.code == "RESOURCE_EXHAUSTED"]
    assert len(often) == codes.count(429)
    assert (often[0].method, often[0].resource.rpartition("/")[0]) == (GET.lstrip("/"), "/api/alerts")


def test_what_is_let_through_is_not_reported_whatever_becomes_of_it(world: World) -> None:
    def refuse(_: object, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "no")

    ada = world.certificates.client("ada", role="admin")
    world.manager.on("CreateSilence", refuse)
    assert world.rest("GET", "/api/alerts", own=ada) == 200
    assert world.rest("POST", "/api/silences", own=ada) == 403
    assert world.rest("GET", "/api/nothing", own=ada) == 404
    assert world.rest("POST", "/api/silences") == 401

    # Reports come in the order of the calls: the last one alone was refused by Envoy.
    (record,) = world.records(1)
    assert record.code == "UNAUTHENTICATED"


def test_nobody_reaches_the_rpc_of_reports_through_envoy(world: World) -> None:
    (path,) = GATEWAY_METHODS
    ada, ports = world.certificates.client("ada", role="admin"), world.ports
    for port in (ports.edge, ports.edge_manager, ports.edge_notifier, ports.edge_evaluator):
        assert world.rpc(port, path, ada) is grpc.StatusCode.UNIMPLEMENTED
    evaluator = world.certificates.service("evaluator")
    assert world.rpc(ports.mesh, path, evaluator) is grpc.StatusCode.PERMISSION_DENIED

    # What came is Envoy's own report of the last one.
    (record,) = world.records(1)
    assert (record.actor, record.resource) == ("evaluator", path)
    assert all(call.request.resource_logs for call in world.manager.calls)


@pytest.mark.parametrize(
    "settings", [{}, {"authentication": "required"}, {"mesh_certificate": "c", "mesh_key": "k", "mesh_ca": "a"}]
)
def test_reports_need_authentication_and_the_gateways_certificate(settings: dict[str, str]) -> None:
    assert "open_telemetry" not in render_config(EnvoySettings(**settings), Path())  # type: ignore[arg-type]


def test_a_report_names_the_rpc_only_where_one_was_called(world: World) -> None:
    assert world.rest("POST", "/api/silences") == 401
    key = f"tocsin_{'a' * 12}_{'b' * 43}"
    assert world.rpc(
        world.ports.edge, SNAPSHOT, world.certificates.client("ada", role="admin"), authorization=f"Bearer {key}"
    ) in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED)

    assert [each.method for each in world.records(2)] == [CREATE.lstrip("/"), SNAPSHOT.lstrip("/")]
    assert key not in str(world.reports())


def test_reports_wait_for_a_manager_that_is_away(world: World) -> None:
    def tried() -> str:
        return EnvoyClient(world.ports.envoy_admin).get("/stats?filter=cluster.refusals.upstream_rq_retry$").text

    before = tried()
    world.manager.stop()
    assert world.rest("POST", "/api/silences") == 401
    wait_until(lambda: tried() != before)
    world.manager.start()

    (record,) = world.records(1)
    assert record.code == "UNAUTHENTICATED"
