"""What `make up` prints: each endpoint can be tried as it is written."""

import shlex
import shutil

import pytest

from stack.endpoints import endpoints, server_endpoints
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
