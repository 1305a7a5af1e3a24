"""What `make up` prints: each endpoint can be tried as it is written."""

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from stack.endpoints import endpoints, server_endpoints, stored_rules
from stack.ports import Ports
from stack.secure_files import SecureFiles
from stack.servers import local_addresses
from stack.wiring import Wiring

WIRING = Wiring(addresses=local_addresses(Ports()), ports=Ports(), otlp="127.0.0.1:4317")


def test_every_endpoint_has_an_address_and_a_command_to_try_it_with() -> None:
    by_name = {endpoint.name: endpoint for endpoint in endpoints(WIRING)}
    assert {"REST", "gRPC", "database", "metrics"} <= set(by_name)
    assert by_name["REST"].address == "http://127.0.0.1:8080"
    assert all(endpoint.address and endpoint.example for endpoint in by_name.values())


@pytest.mark.parametrize("name", ["database", "Kafka", "Redis"])
def test_a_server_is_tried_with_a_program_that_came_with_the_system(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    (endpoint,) = [each for each in server_endpoints(WIRING) if each.name == name]
    program, *arguments = shlex.split(endpoint.example)
    assert shutil.which(program)
    assert any(endpoint.address in argument for argument in arguments)


def test_the_sinks_are_shown_with_each_address_and_beside_a_routes_file_with_their_variables() -> None:
    def shown(wiring: Wiring) -> str:
        return "".join(one.address for one in endpoints(wiring) if one.name == "local sinks")

    assert "http://127.0.0.1:9300/slack/services/" in shown(WIRING)
    assert "127.0.0.1:9325" in shown(WIRING)
    assert "SINK_" not in shown(WIRING)
    own = replace(WIRING, routes=Path("routes.yaml"))
    assert shown(own) == ""
    assert "${SINK_SLACK_WEBHOOK_URL}" in shown(replace(own, sinks=True))


def test_rules_are_shown_by_name_and_many_of_them_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = ["b", "a"]
    answer = lambda *_: json.dumps({"alertRules": [{"name": name} for name in names]}).encode()  # noqa: E731
    monkeypatch.setattr("stack.endpoints.http_get", answer)
    assert [one.address for one in stored_rules(WIRING)] == ["a, b"]
    names += ["c", "d", "e", "f"]
    assert [one.address for one in stored_rules(WIRING)] == ["a, b, c, d, e and more"]


def test_without_an_answer_no_rules_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.endpoints.http_get", lambda *_: b"not yet")
    assert stored_rules(WIRING) == []


def test_a_secure_system_is_tried_with_its_authority_key_and_passwords() -> None:
    secure = replace(WIRING, secure=SecureFiles(home=Path("/run")), addresses=local_addresses(Ports(), secure=True))
    by_name = {endpoint.name: endpoint for endpoint in endpoints(secure)}
    authority, key = (
        "--cacert /run/certificates/edge/ca.pem",
        '-H "Authorization: Bearer $(cat /run/secrets/admin.key)"',
    )
    assert by_name["REST"].example == f"curl {authority} {key} https://127.0.0.1:8080/api/alert-rules"
    assert by_name["gRPC"].example == f"grpcurl {authority[1:]} {key} 127.0.0.1:8080 list"
    assert by_name["each service"].example == f"curl {authority} https://127.0.0.1:8081/health"
    assert "--key /run/certificates/prometheus/key.pem https://127.0.0.1:9101/metrics" in by_name["metrics"].example
    assert by_name["database"].example.startswith("PGPASSWORD=$(cat /run/secrets/postgres.password) ")
    assert by_name["Redis"].example.endswith("redis-cli --user tocsin -p 6379")
    # Of servers that others run, their passwords are not known here.
    assert by_name["Kafka"].example.startswith("TOCSIN_KAFKA_CA=/run/certificates/kafka/ca.pem TOCSIN_KAFKA_CERT")
    external = {"kafka": "k", "postgres": "postgresql://u@db/d", "redis": "redis://cache/0"}
    elsewhere = [one.example for one in server_endpoints(replace(secure, external=external))]
    assert not any("/run/" in example for example in elsewhere)
