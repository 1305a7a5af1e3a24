"""A REST body is held in memory until it is complete: so nobody sends one who is not known before."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import grpc
import pytest

from tests.contract.envoy.client import EnvoyClient, wait_until
from tests.contract.envoy.conftest import Running, guarded
from tests.contract.envoy.tokens import ISSUER, Issuer
from tests.contract.envoy.upstream import Behaviour

pytestmark = pytest.mark.integration

KEY, OTHER_KEY = (f"Bearer tocsin_{letter * 12}_{'b' * 43}" for letter in "ac")
SECONDS = 10.0
BODY_BYTES = 8 << 20
EVENT = '{"service":"a","level":"ERROR","message":"m"}'
# Room for four bodies; Envoy itself takes less than a third of it.
SMALL_HEAP = {'"max_heap_size_bytes": 536870912': '"max_heap_size_bytes": 100663296'}
ASKED_EACH_TIME = {"ASKED_AGAIN_AFTER_SECONDS = 30": "ASKED_AGAIN_AFTER_SECONDS = 0"}


@pytest.fixture(scope="module")
def envoy(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("bodies")
    (folder / "jwks.json").write_text(issuer.public_keys)
    with guarded(folder, ASKED_EACH_TIME, jwt_issuer=ISSUER, jwt_keys=str(folder / "jwks.json")) as running:
        yield running


@pytest.fixture(autouse=True)
def _forget(envoy: Running) -> None:
    for upstream in envoy.upstreams:
        upstream.reset()


def answer(code: grpc.StatusCode) -> Behaviour:
    def behave(_: object, context: grpc.ServicerContext) -> bytes:
        if code is not grpc.StatusCode.OK:
            context.abort(code, "")
        return b""

    return behave


def say(running: Running, code: grpc.StatusCode) -> None:
    """Let every service say this of every key."""
    for upstream in running.upstreams:
        upstream.on("Check", answer(code))


def know(running: Running, known: str) -> None:
    """Let every service know this key alone."""

    def behave(_: object, context: grpc.ServicerContext) -> bytes:
        if dict(context.invocation_metadata())["authorization"] != known:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "")
        return b""

    for upstream in running.upstreams:
        upstream.on("Check", behave)


def begin(connection: socket.socket, path: str, credentials: str = "", body: bytes = b"[", verb: str = "POST") -> None:
    """Send a request without the end of its body."""
    given = f"Authorization: {credentials}\r\n" if credentials else ""
    head = f"{verb} {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {BODY_BYTES}\r\n"
    connection.sendall(f"{head}{given}\r\n".encode() + body)


def status_of_begun(port: int, path: str, credentials: str = "", verb: str = "POST") -> int:
    """Return how a request is answered whose body does not end."""
    with closing(socket.create_connection(("127.0.0.1", port), timeout=SECONDS)) as connection:
        begin(connection, path, credentials, verb=verb)
        return int(connection.recv(65536).split()[1])


@pytest.mark.parametrize("path", ["/api/logs", "/api/alert-rules", "/api/nothing"])
@pytest.mark.parametrize(
    "credentials",
    ["", "Bearer nonsense", KEY, f"{KEY}\r\nAuthorization: Bearer x", f"Bearer x\r\nAuthorization: {KEY}"],
)
def test_who_is_not_known_is_told_before_the_body_has_come(envoy: Running, path: str, credentials: str) -> None:
    say(envoy, grpc.StatusCode.UNAUTHENTICATED)
    ports = envoy.ports
    for port in (ports.edge, ports.edge_manager, ports.edge_notifier, ports.edge_evaluator):
        for verb in ("POST", "GET"):
            assert status_of_begun(port, path, credentials, verb) == 401


@pytest.mark.parametrize("claims", [{"exp": 1}, {"tocsin_role": None}, {"tocsin_role": "service"}])
def test_so_is_whose_token_says_nothing(envoy: Running, issuer: Issuer, claims: dict[str, object]) -> None:
    token = issuer.token(**claims)
    assert status_of_begun(envoy.ports.edge, "/api/logs", f"Bearer {token}") in (401, 403)


@pytest.mark.parametrize("path", ["/health", "/api/openapi.json"])
def test_what_is_open_to_all_holds_no_body(envoy: Running, path: str) -> None:
    assert status_of_begun(envoy.ports.edge, path, verb="GET") == 200


def test_bodies_of_others_leave_room_for_who_is_known(tmp_path: Path) -> None:
    with guarded(tmp_path, SMALL_HEAP) as running, ExitStack() as opened:
        know(running, KEY)
        for number in range(12):
            connection = opened.enter_context(closing(socket.socket()))
            connection.settimeout(SECONDS)
            connection.connect(("127.0.0.1", running.ports.edge))
            try:
                begin(connection, "/api/logs", [OTHER_KEY, "", "Bearer x"][number % 3], bytes(BODY_BYTES - 1))
            except OSError:
                # Refused, before all of it was sent.
                continue
        found = EnvoyClient(running.ports.edge).post("/api/logs", EVENT, {"authorization": KEY})
    assert found.status == 200, found.text


def test_a_key_that_was_valid_is_not_asked_for_with_each_call(tmp_path: Path) -> None:
    with guarded(tmp_path) as running:
        know(running, KEY)
        edge = EnvoyClient(running.ports.edge)
        for _ in range(3):
            assert edge.post("/api/logs", EVENT, {"authorization": KEY}).status == 200
            assert edge.post("/api/logs", EVENT, {"authorization": OTHER_KEY}).status == 401
        asked = [credentials for upstream in running.upstreams for credentials in upstream.asked_about]
    assert (asked.count(KEY), asked.count(OTHER_KEY)) == (1, 3)


def test_what_is_longer_than_a_key_fills_no_memory_though_it_may_be_valid(tmp_path: Path) -> None:
    with guarded(tmp_path) as running:
        say(running, grpc.StatusCode.OK)
        edge = EnvoyClient(running.ports.edge)
        longer = f"{KEY} -"
        for _ in range(2):
            assert edge.post("/api/logs", EVENT, {"authorization": longer}).status == 200
        asked = [credentials for upstream in running.upstreams for credentials in upstream.asked_about]
    assert asked == [longer, longer]


def test_a_key_that_is_revoked_is_refused_and_never_taken_for_valid_again(envoy: Running) -> None:
    edge = EnvoyClient(envoy.ports.edge)

    def status() -> int:
        return edge.post("/api/logs", EVENT, {"authorization": KEY}).status

    found = []
    for code in (grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE):
        say(envoy, code)
        found.append(status())
    assert found == [200, 401, 503]


def test_while_nobody_can_tell_a_key_that_was_valid_is_let_on_and_others_are_told_to_try_again(envoy: Running) -> None:
    edge = EnvoyClient(envoy.ports.edge)
    say(envoy, grpc.StatusCode.OK)
    assert edge.post("/api/logs", EVENT, {"authorization": KEY}).status == 200

    say(envoy, grpc.StatusCode.UNAVAILABLE)
    assert edge.post("/api/logs", EVENT, {"authorization": KEY}).status == 200
    refused = edge.post("/api/logs", EVENT, {"authorization": OTHER_KEY})
    assert (refused.status, refused.json["code"], refused.headers["retry-after"]) == (503, 14, "1")


def test_another_service_is_asked_while_the_manager_is_away(tmp_path: Path) -> None:
    with guarded(tmp_path) as running:
        ingest, manager, _ = running.upstreams
        know(running, KEY)
        manager.stop()
        edge = EnvoyClient(running.ports.edge)
        wait_until(lambda: edge.post("/api/logs", EVENT, {"authorization": KEY}).status == 200)
        assert edge.post("/api/logs", EVENT, {"authorization": OTHER_KEY}).status == 401
        assert set(ingest.asked_about) == {KEY, OTHER_KEY}


def test_services_of_the_former_release_do_not_know_the_question(envoy: Running) -> None:
    say(envoy, grpc.StatusCode.UNIMPLEMENTED)
    assert EnvoyClient(envoy.ports.edge).post("/api/logs", EVENT, {"authorization": KEY}).status == 200
