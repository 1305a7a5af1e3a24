"""Each program gets the settings that it knows."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.chassis.settings import describe_settings
from stack.envoy import PREFIX, EnvoySettings
from stack.ports import Ports
from stack.servers import local_addresses
from stack.wiring import SERVICES, Wiring, gateway_environ, python_environ, service_environ

WIRING = Wiring(addresses=local_addresses(Ports()), ports=Ports(), otlp="127.0.0.1:4317")


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
