"""A system with SECURE=1: who gets in, who does not, and certificates that change while it is used."""

import dataclasses
import json
import os
import re
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from cryptography import x509

from services.access.methods import GATEWAY_METHODS, MethodAccess, own_methods
from services.domain.roles import Role
from stack.certificate_requests import client_request
from stack.certificates import forget_former_authority, issue, renew_authority, rotate
from stack.first_key import create_first_key
from stack.readiness import http_get
from stack.secure_files import SecureFiles, write_secret
from stack.servers import Addresses
from stack.testing import isolated_wiring, temporary_system
from stack.wiring import SERVICES
from tests.contract.envoy.test_access import RPCS
from tests.contract.envoy.upstream import CONTRACTS
from tests.e2e.secure_world import EVENT, Load, SecureSystem, served
from tests.e2e.world import ROOT, wait_until
from tests.fakes.certificates import Certificates, channel_credentials, client_context
from tests.fakes.otlp import SpanReceiver

METHODS = own_methods() | GATEWAY_METHODS
HEALTH = "/grpc.health.v1.Health/Check"
ALL = [*METHODS, HEALTH]
UNKNOWN_KEY = f"tocsin_{'a' * 12}_{'b' * 43}"
UNAUTHENTICATED, DENIED = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED
RECORD_CHANGE = "tocsin.changes.v1.ChangeService/RecordChange"
LIST_RECEIVERS = "tocsin.notifications.v1.NotificationService/ListReceivers"


@pytest.fixture(scope="module")
def receiver() -> Iterator[SpanReceiver]:
    with SpanReceiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def secure(
    kafka: str, postgres: str, redis_url: str, receiver: SpanReceiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SecureSystem]:
    folder = tmp_path_factory.mktemp("secure")
    files = SecureFiles(home=folder)
    files.prepare(datetime.now(UTC))
    admin = issue(folder / "certificates", client_request("ada", role="admin", tenant="default"), now=datetime.now(UTC))
    servers = Addresses(kafka=kafka, postgres=postgres, redis=redis_url)
    with isolated_wiring(servers) as wiring:
        # The shared servers ask for no password.
        secured = dataclasses.replace(wiring, secure=files, external=dataclasses.asdict(wiring.addresses))
        settings = {"MANAGER_CANARY_INTERVAL": "1s"}
        with temporary_system(secured, folder, print, settings=settings, otlp=receiver.address) as system:
            database = {"MANAGER_DATABASE_URL": wiring.addresses.postgres}
            key = create_first_key(database, name="admin").text
            running = SecureSystem(system, files, admin.files, key, receiver)
            # Each service learns of a key within seconds.
            for path in ("/api/alert-rules", "/api/circuit-breakers"):
                wait_until(lambda path=path: running.call("GET", path, key=running.key)[0] == 200)  # type: ignore[misc]
            wait_until(lambda: running.call("POST", "/api/logs", EVENT, key=running.key)[0] == 200)
            yield running


def test_the_curl_lines_of_the_first_version_need_a_credential(secure: SecureSystem) -> None:
    for method, path, body in (("POST", "/api/logs", EVENT), ("GET", "/api/alert-rules", None)):
        assert secure.call(method, path, body)[0] == 401
        assert secure.call(method, path, body, key="tocsin_unknown")[0] == 401
        assert secure.call(method, path, body, key=secure.key)[0] == 200
        assert secure.call(method, path, body, own=secure.admin)[0] == 200
    issued = client_request("eve", role="viewer", tenant="default")
    viewer = secure.issue(issued)
    assert secure.call("GET", "/api/alert-rules", own=viewer)[0] == 200
    assert secure.call("POST", "/api/logs", EVENT, own=viewer)[0] == 403


def test_who_has_no_valid_key_is_told_before_the_body_has_come(secure: SecureSystem) -> None:
    def status(key: str) -> int:
        with closing(secure.connect()) as connection:
            connection.putrequest("POST", "/api/logs")
            for name, value in (("Authorization", f"Bearer {key}"), ("Content-Length", "8000000")):
                connection.putheader(name, value)
            connection.endheaders(b"[")
            return connection.getresponse().status

    assert status(UNKNOWN_KEY) == 401
    wait_until(lambda: _has_refusal(secure, "tocsin.logs.v1.LogIngestService/IngestJson"))


def _has_refusal(secure: SecureSystem, method: str) -> bool:
    records = secure.call("GET", f"/api/audit?outcomes=REFUSED&method={method}", key=secure.key)[1]["records"]
    return any(record["service"] == "gateway" and record["method"] == method for record in records)


def test_the_command_calls_with_the_systems_own_key_and_authority(secure: SecureSystem) -> None:
    secure.system.wiring.write(secure.files.home)
    write_secret(secure.files.admin_key, secure.key)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")}
    command = [sys.executable, "-m", "cli", "rules", "list", "-o", "json"]
    listed = subprocess.run(
        command,
        cwd=ROOT,
        env=environ | {"TOCSIN_RUN": str(secure.files.home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert listed.returncode == 0, listed.stderr
    assert {rule["name"] for rule in json.loads(listed.stdout)} >= {"High error count"}


def test_health_is_for_all_and_says_states_only(secure: SecureSystem) -> None:
    status, health = secure.call("GET", "/health")
    assert (status, set(health)) == (200, {"service", "status", "dependencies"})


def get_in_plaintext(port: int) -> None:
    with closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        connection.request("GET", "/health")
        connection.getresponse()


def test_other_users_of_the_machine_read_no_data_logs_or_secrets(secure: SecureSystem) -> None:
    def files_for_others(folder: Path) -> Iterator[Path]:
        for path in folder.iterdir():
            mode = path.stat().st_mode
            if path.is_dir() and mode & stat.S_IXOTH:
                yield from files_for_others(path)
            elif path.is_file() and mode & stat.S_IROTH:
                yield path

    found = {path.relative_to(secure.files.home) for path in files_for_others(secure.files.home)}
    # Who may log in at PostgreSQL, which may run as another user, and what runs.
    assert {path for path in found if path.parts[0] != "pids"} <= {Path("claim"), Path("data/postgres/hba.conf")}


def test_plaintext_is_refused_everywhere(secure: SecureSystem) -> None:
    ports = secure.system.wiring.ports
    own = [getattr(ports, f"{service}{kind}") for service in SERVICES for kind in ("", "_admin")]
    for port in (*ports.gateway, ports.mesh, *own):
        with pytest.raises((OSError, HTTPException)):
            get_in_plaintext(port)
    for service in SERVICES:
        assert secure.call_directly(service, ALL, None) == dict.fromkeys(ALL, grpc.StatusCode.UNAVAILABLE)


def served_by(service: str) -> dict[str, MethodAccess]:
    """What each guarded rpc of a service needs, by its path."""
    own = {f"/{each.full_name}/{rpc.name}" for each in CONTRACTS.get(service, ()) for rpc in each.methods}
    reflected = {path for path in METHODS if path.endswith("/ServerReflectionInfo")}
    reports = set(GATEWAY_METHODS) if service == "manager" else set()
    return {path: needed for path, needed in METHODS.items() if path in own | reflected | reports}


def refused(codes: dict[str, grpc.StatusCode]) -> dict[str, grpc.StatusCode]:
    return {path: code for path, code in codes.items() if code in (UNAUTHENTICATED, DENIED)}


@pytest.mark.parametrize("service", SERVICES)
def test_over_all_rpcs_a_services_own_port_is_closed_without_a_certificate_of_the_system(
    secure: SecureSystem, tmp_path: Path, service: str
) -> None:
    foreign = Certificates(tmp_path).service("gateway")
    pair = foreign.key.read_bytes(), foreign.certificate.read_bytes()
    for shown in ((), pair):
        found = secure.call_directly(service, ALL, grpc.ssl_channel_credentials(secure.files.ca.read_bytes(), *shown))
        assert found == dict.fromkeys(ALL, grpc.StatusCode.UNAVAILABLE)


@pytest.mark.parametrize("service", SERVICES)
def test_over_all_rpcs_the_gateways_certificate_alone_says_nothing_of_a_caller(
    secure: SecureSystem, service: str
) -> None:
    gateway = channel_credentials(secure.files.certificate("gateway"))
    for metadata in ({}, {"authorization": f"Bearer {UNKNOWN_KEY}"}, {"x_forwarded_client_cert": "Hash=ab"}):
        rpcs = [path for path in served_by(service) if path not in GATEWAY_METHODS or metadata]
        assert secure.call_directly(service, rpcs, gateway, **metadata) == dict.fromkeys(rpcs, UNAUTHENTICATED)
    rest = [path for path in METHODS if path not in served_by(service)]
    assert set(secure.call_directly(service, rest, gateway).values()) == {grpc.StatusCode.UNIMPLEMENTED}
    assert secure.call_directly(service, [HEALTH], gateway) == {HEALTH: grpc.StatusCode.OK}


@pytest.mark.parametrize("service", SERVICES)
def test_over_all_rpcs_another_services_certificate_opens_what_lists_it(secure: SecureSystem, service: str) -> None:
    for other in (*SERVICES, "prometheus"):
        own, needed = channel_credentials(secure.files.certificate(other)), served_by(service)
        closed = [path for path, access in needed.items() if other not in access.services]
        assert secure.call_directly(service, closed, own) == dict.fromkeys(closed, DENIED)
        # Streams have no end of their own.
        opened = [path for path in needed if path not in closed and not RPCS[path].server_streaming]
        assert refused(secure.call_directly(service, opened, own)) == {}


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.SERVICE])
def test_over_all_rpcs_a_users_certificate_opens_what_its_role_permits(secure: SecureSystem, role: Role) -> None:
    own = channel_credentials(secure.issue(client_request(f"eve-{role}", role=role, tenant="default")))
    for service in SERVICES:
        needed = served_by(service)
        closed = [
            path for path, access in needed.items() if access.role is Role.SERVICE or not role.permits(access.role)
        ]
        assert secure.call_directly(service, closed, own) == dict.fromkeys(closed, DENIED)
        reads = [path for path in needed if path not in closed and "/List" in path]
        assert refused(secure.call_directly(service, reads, own)) == {}


@pytest.mark.parametrize("service", SERVICES)
def test_an_admin_port_tells_states_to_all_and_the_rest_to_prometheus(
    secure: SecureSystem, tmp_path: Path, service: str
) -> None:
    port, ca = getattr(secure.system.wiring.ports, f"{service}_admin"), secure.files.ca
    prometheus = client_context(ca, secure.files.certificate("prometheus"))
    exposed = http_get(port, "/metrics", prometheus).decode()
    for certificate in ("tls_certificate", "tls_ca"):
        assert f'tocsin_certificate_expiry_timestamp_seconds{{certificate="{certificate}"}}' in exposed
    assert set(json.loads(http_get(port, "/health/reasons", prometheus))) > {"service", "status"}
    others = (None, secure.admin, secure.files.certificate("evaluator"))
    for context in [client_context(ca, own) for own in others]:
        assert set(json.loads(http_get(port, "/health", context))) == {"service", "status", "dependencies"}
        for path, status in (("/metrics", "403"), ("/health/reasons", "403"), ("/debug", "404")):
            with pytest.raises(OSError, match=status):
                http_get(port, path, context)
    with pytest.raises(OSError, match=r"."):
        http_get(port, "/health", client_context(ca, Certificates(tmp_path).service("prometheus")))


def test_canaries_go_through_ingest_to_the_notifier(secure: SecureSystem) -> None:
    prometheus = client_context(secure.files.ca, secure.files.certificate("prometheus"))
    returned = re.compile("^tocsin_notifier_canary_latency_seconds_count.* [1-9]", re.MULTILINE)

    def has_returned() -> bool:
        port = secure.system.wiring.ports.notifier_admin
        return returned.search(http_get(port, "/metrics", prometheus).decode()) is not None

    wait_until(has_returned, what="a canary at the notifier")


def test_what_envoy_refuses_stands_in_the_audit_log(secure: SecureSystem) -> None:
    viewer = secure.issue(client_request("vic", role="viewer", tenant="default"))
    assert secure.call("POST", "/api/changes", {}, own=viewer)[0] == 403
    assert secure.call("GET", "/api/receivers")[0] == 401
    found: dict[str, Any] = {}

    def both_are_there() -> bool:
        _, page = secure.call("GET", "/api/audit?outcomes=REFUSED&pageSize=500", key=secure.key)
        found.update({each["method"]: each for each in page["records"] if each["service"] == "gateway"})
        return found.keys() >= {RECORD_CHANGE, LIST_RECEIVERS}

    wait_until(both_are_there, what="Envoy's refusals are stored")
    known, unknown = found[RECORD_CHANGE], found[LIST_RECEIVERS]
    assert (known["actor"], known["actorKind"], known["code"]) == ("vic", "certificate", "PERMISSION_DENIED")
    assert (unknown["actor"], unknown["code"], unknown["peerAddress"]) == ("", "UNAUTHENTICATED", "127.0.0.1")


def test_no_secret_is_in_a_log_a_metric_a_trace_or_a_command_line(secure: SecureSystem) -> None:
    keys = [secure.files.certificate(name).key.read_text().splitlines()[1] for name in (*SERVICES, "gateway")]
    secrets = [*keys, secure.key, secure.files.redis_password.read_text().strip()]
    reader, ports = secure.files.certificate("prometheus"), secure.system.wiring.ports
    context = client_context(secure.files.ca, reader)
    shown = {f"log of {name}": secure.system.log(name).read_text(errors="replace") for name in (*SERVICES, "envoy")}
    for name in SERVICES:
        shown[f"metrics of {name}"] = http_get(getattr(ports, f"{name}_admin"), "/metrics", context).decode()
    for process in psutil.Process().children(recursive=True):
        shown[f"command line of {process.pid}"] = " ".join(process.cmdline())
    receiver = secure.spans
    assert receiver is not None
    wait_until(lambda: {name for name, _ in receiver.spans} >= {"ingest", "manager"}, what="there are spans")
    shown["spans"] = str(receiver.spans)
    assert any("services.manager" in text for text in shown.values())
    assert [name for name, text in shown.items() if any(secret in text for secret in secrets)] == []


def test_certificates_and_their_authority_change_under_load_and_no_call_fails(secure: SecureSystem) -> None:
    folder, ports = secure.files.home / "certificates", secure.system.wiring.ports
    listening = {"edge": ports.edge, "gateway": ports.mesh} | {
        name: port for name in SERVICES for port in (getattr(ports, name), getattr(ports, f"{name}_admin"))
    }

    def all_serve_their_own() -> bool:
        return all(
            served(secure, port) == ssl.PEM_cert_to_DER_cert(secure.files.certificate(name).certificate.read_text())
            for name, port in listening.items()
        )

    def envoy_trusts(authority: x509.Certificate) -> bool:
        return f"{authority.serial_number:x}" in http_get(ports.envoy_admin, "/certs").decode()

    former = {name: served(secure, port) for name, port in listening.items()}
    with Load(secure) as load:
        load.await_calls(20)
        rotate(folder, now=datetime.now(UTC))
        wait_until(all_serve_their_own, what="the renewed certificates are in use")
        load.await_calls(50)
        renewed = {name: served(secure, port) for name, port in listening.items()}
        assert all(renewed[name] != former[name] for name in listening)
        authority = x509.load_pem_x509_certificates(renew_authority(folder, now=datetime.now(UTC)).read_bytes())[0]
        wait_until(lambda: envoy_trusts(authority), what="Envoy trusts the new authority")
        rotate(folder, now=datetime.now(UTC))
        wait_until(all_serve_their_own, what="the new authority's certificates are in use")
        load.await_calls(50)
        forget_former_authority(folder)
        wait_until(all_serve_their_own, what="the new authority is trusted alone")
        load.await_calls(50)
    assert load.failures == []
