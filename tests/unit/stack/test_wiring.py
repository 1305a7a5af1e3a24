"""What the stack tells each program is what that program asks for."""

import importlib
import shlex
import shutil
from dataclasses import astuple
from itertools import chain
from pathlib import Path

import pytest

from services.chassis.settings import describe_settings
from stack.endpoints import endpoints, server_endpoints
from stack.envoy import PREFIX, EnvoySettings
from stack.ports import Ports
from stack.postgres import with_database
from stack.servers import SERVERS, external_addresses, local_addresses
from stack.system import stages
from stack.wiring import SERVICES, Wiring, gateway_environ, service_environ

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


def test_the_design_ports_are_the_default_and_each_can_be_moved() -> None:
    assert Ports.read({}) == Ports()
    assert Ports.read({"TOCSIN_PORT_EDGE": "18080"}).edge == 18080


@pytest.mark.parametrize("text", ["http", "0", "65536", "-1"])
def test_a_port_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="TOCSIN_PORT_KAFKA"):
        Ports.read({"TOCSIN_PORT_KAFKA": text})


def test_two_ports_that_are_the_same_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="TOCSIN_PORT_EDGE and TOCSIN_PORT_MESH are the same port: 8080"):
        Ports.read({"TOCSIN_PORT_MESH": "8080"})


def test_every_port_is_one_programs_own() -> None:
    programs = (*SERVERS, *chain.from_iterable(stages(None)))
    owned = [port for program in programs for port in Ports().of(program)]
    assert sorted(owned) == sorted(astuple(Ports()))


def test_no_two_programs_share_a_port() -> None:
    for ports in (Ports(), Ports.free()):
        values = [getattr(ports, name) for name in Ports.__slots__]
        assert len(set(values)) == len(values)


def test_an_empty_address_means_that_the_server_is_started_here() -> None:
    assert external_addresses({"TOCSIN_KAFKA": "", "TOCSIN_REDIS": "redis://cache:6379/1"}) == {
        "redis": "redis://cache:6379/1"
    }


def test_another_database_keeps_the_rest_of_the_address() -> None:
    address = "postgresql://user:secret@db:5433/one?sslmode=require"
    assert with_database(address, "two") == "postgresql://user:secret@db:5433/two?sslmode=require"


def test_every_door_has_an_address_and_a_line_to_try_it_with() -> None:
    found = {door.name: door for door in endpoints(WIRING)}
    assert {"REST", "gRPC", "database", "metrics"} <= set(found)
    assert found["REST"].address == "http://127.0.0.1:8080"
    assert all(door.address and door.example for door in found.values())


@pytest.mark.parametrize("name", ["database", "Kafka", "Redis"])
def test_a_server_is_tried_with_a_program_that_came_with_the_system(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    (door,) = [door for door in server_endpoints(WIRING) if door.name == name]
    program, *arguments = shlex.split(door.example)
    assert shutil.which(program)
    assert any(door.address in argument for argument in arguments)
