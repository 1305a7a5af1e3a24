"""Where ports are chosen: each program has its own, and each can be moved."""

import socket
from dataclasses import astuple
from itertools import chain

import pytest

from stack.ports import Ports, free_port, free_ports, is_free
from stack.servers import SERVERS
from stack.start_options import StartOptions
from stack.system import stages


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
    programs = (*SERVERS, *chain.from_iterable(stages(StartOptions())))
    owned = [port for program in programs for port in Ports().of(program)]
    assert sorted(owned) == sorted(astuple(Ports()))


def test_no_two_programs_share_a_port() -> None:
    for ports in (Ports(), Ports.free()):
        values = [getattr(ports, name) for name in Ports.__slots__]
        assert len(set(values)) == len(values)


def test_a_free_port_is_one_on_which_nobody_listens_and_no_outgoing_connection_has() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        assert 20_000 <= port < 32_000
        assert not is_free(port)


def test_ports_that_were_found_shortly_before_are_not_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.ports._FREE_TO", 20_240)
    monkeypatch.setattr("stack.ports.is_free", lambda _: True)
    found = free_ports(60) + free_ports(60)
    assert len(set(found)) == 120
