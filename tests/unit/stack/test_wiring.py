"""Each program gets the settings that it knows."""

import importlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from services.chassis.settings import describe_settings
from stack.envoy import PREFIX, EnvoySettings
from stack.ports import Ports
from stack.processes import Processes
from stack.servers import local_addresses
from stack.system import system_program
from stack.wiring import SERVICES, Wiring, gateway_environ, python_environ, service_environ, sockets_folder

WIRING = Wiring(
    addresses=local_addresses(Ports()),
    ports=Ports(),
    otlp="127.0.0.1:4317",
    sockets=sockets_folder(Path("/run/tocsin")),
)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_gets_every_setting_that_it_requires_and_none_that_it_does_not_know(service: str) -> None:
    settings = importlib.import_module(f"services.{service}.settings").Settings
    known = describe_settings(settings, f"{service.upper()}_")
    passed = set(service_environ(service, WIRING, Path("data")))
    assert passed <= {one.name for one in known}
    assert {one.name for one in known if one.required} <= passed


def test_envoy_gets_only_settings_that_it_knows() -> None:
    known = {one.name for one in describe_settings(EnvoySettings, PREFIX)}
    assert set(gateway_environ(WIRING, Path("access.log"))) <= known


def test_services_keep_their_compiled_modules_whatever_the_starter_does() -> None:
    environ = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | python_environ()
    command = [sys.executable, "-c", "import sys; print(sys.dont_write_bytecode)"]
    assert subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout == "False\n"


def test_envoy_and_ingest_meet_at_a_socket_where_its_path_is_not_too_long() -> None:
    path = service_environ("ingest", WIRING, Path("data"))["INGEST_GATEWAY_SOCKET"]
    assert gateway_environ(WIRING, Path("access.log"))["GATEWAY_INGEST_SOCKET"] == path
    assert path == f"/run/tocsin/sockets/ingest-{Ports().ingest}.sock"
    assert sockets_folder(Path("/" + "d" * 80)) is not None
    assert sockets_folder(Path("/" + "d" * 81)) is None
    without = replace(WIRING, sockets=None)
    assert "INGEST_GATEWAY_SOCKET" not in service_environ("ingest", without, Path("data"))
    assert "GATEWAY_INGEST_SOCKET" not in gateway_environ(without, Path("access.log"))


def test_the_sockets_are_for_this_user_alone(tmp_path: Path) -> None:
    wiring = replace(WIRING, sockets=sockets_folder(tmp_path))
    system_program("ingest", Processes(tmp_path), wiring)
    assert (tmp_path / "sockets").stat().st_mode & 0o777 == 0o700
