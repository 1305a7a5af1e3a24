"""Where ports are chosen: each program has its own, and each can be moved."""

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple
from itertools import chain
from subprocess import PIPE, Popen

import pytest

from stack.ports import (
    _FREE,
    _FREE_WITH_BUS,
    FreePorts,
    Ports,
    free_cluster_ports,
    free_port,
    is_free,
)
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
        assert 20_000 <= port < 32_768
        assert not is_free(port)
        with pytest.raises(OSError, match="reserved"):
            FreePorts(range(port, port + 1)).find(2)


def test_a_free_port_of_a_cluster_has_a_second_one_that_nobody_finds() -> None:
    (port,) = free_cluster_ports(1)
    bus = range(port + 10_000, port + 10_001)
    assert all(bus.start not in ports for ports in (_FREE, _FREE_WITH_BUS, range(32_768, 61_000)))
    with socket.create_server(("127.0.0.1", bus.start)), pytest.raises(OSError, match="reserved"):
        FreePorts(range(port, port + 1), further=(10_000,)).find(1)


def test_no_process_finds_the_ports_that_another_one_has_found() -> None:
    with _finding_ports("print(*free_ports(500), flush=True)") as (one, first):
        with _finding_ports("print(*free_ports(500), flush=True)") as (_, second):
            assert len({*first, *second}) == 1000
        block = range(first[0] // 20 * 20, first[0] // 20 * 20 + 20)
        with pytest.raises(OSError, match=f"reserved all ports from {block.start} to {block.stop - 1}"):
            FreePorts(block).find(1)
        one.kill()
        one.wait()
        assert FreePorts(block).find(1)[0] in block


def test_a_forked_process_finds_other_ports_than_its_parent() -> None:
    fork = "free_port(); child = os.fork(); child and os.waitpid(child, 0)"
    with _finding_ports(f"{fork}; print(free_port(), flush=True); child or os._exit(0)") as (process, first):
        assert process.stdout is not None
        assert process.stdout.readline().split() not in ([], [str(first[0])])


@contextmanager
def _finding_ports(code: str) -> Iterator[tuple["Popen[str]", list[int]]]:
    """Give a process that runs until the end of the block, and the ports that it printed first."""
    program = f"import os, sys\nfrom stack.ports import free_port, free_ports\n{code}\nsys.stdin.read()"
    with Popen([sys.executable, "-c", program], stdin=PIPE, stdout=PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, [int(port) for port in process.stdout.readline().split()]
        finally:
            process.kill()
