"""What `make up` prints: each endpoint can be tried as it is written."""

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from stack.endpoints import endpoints, server_endpoints, stored_rules
from stack.ports import Ports
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
