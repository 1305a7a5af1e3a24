"""The local system's servers as a person starts and stops them, also when the starter dies."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from socket import create_server

import psutil
import pytest

from stack.local_system import stack_status, start_stack, stop_stack
from stack.ports import Ports
from stack.processes import Processes
from stack.servers import SERVERS, check_server, local_addresses
from stack.wiring import Wiring

pytestmark = pytest.mark.integration

PATIENCE = 60.0


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Give an environment in which `python -m stack` works in a folder and on ports of its own."""
    ports = {f"TOCSIN_PORT_{name.upper()}": str(port) for name, port in dataclasses.asdict(Ports.free()).items()}
    addresses = {"TOCSIN_KAFKA", "TOCSIN_POSTGRES", "TOCSIN_REDIS"}
    kept = {name: value for name, value in os.environ.items() if name not in addresses}
    return kept | ports | {"TOCSIN_RUN": str(tmp_path / "run")}


@pytest.fixture
def folder(environ: dict[str, str]) -> Iterator[Path]:
    found = Path(environ["TOCSIN_RUN"])
    yield found
    stop_stack(print, folder=found, purge=True)


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Let starters receive SIGINT: a test run in a shell's background ignores it, and children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def stack(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stack", *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=PATIENCE)


def begin(environ: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start the servers without waiting for them."""
    return subprocess.Popen(
        [sys.executable, "-m", "stack", "up", "--servers-only"], env=environ, stdout=subprocess.DEVNULL
    )


def await_start(folder: Path, name: str, other_than: int | None = None) -> psutil.Process:
    """Wait until a server's process is there, and give it."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if (found := Processes(folder).find(name)) and found.pid != other_than:
            return found.process
    raise TimeoutError(f"{name} was not started")


def processes_of(folder: Path) -> list[str]:
    """List every process whose command line names the folder."""
    lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return [" ".join(line) for line in lines if any(str(folder) in part for part in line)]


def test_up_leaves_answering_servers_and_down_leaves_nothing(environ: dict[str, str], folder: Path) -> None:
    started = stack(environ, "up", "--servers-only")
    assert started.returncode == 0, started.stdout
    wiring = Wiring.read(folder)
    for name in SERVERS:
        assert getattr(wiring.addresses, name) in started.stdout
        check_server(name, getattr(wiring.addresses, name))
    assert {state.name for state in stack_status(folder=folder)} == {*SERVERS, "supervisor"}
    # What is left running measures itself.
    assert wiring.defaults == {"MANAGER_CANARY_INTERVAL": "15s"}

    again = stack(environ, "up", "--servers-only")
    assert again.stdout.count("it ran already") == len(SERVERS)

    ended = await_start(folder, "redis")
    ended.kill()
    await_start(folder, "redis", other_than=ended.pid)
    status = stack(environ, "status")
    assert "started again once" in status.stdout
    assert status.returncode == 0
    # It runs as `up` would have started it, and does not end with the supervisor that started it.
    again = stack(environ, "up", "--servers-only")
    assert again.stdout.count("it ran already") == len(SERVERS)

    stopped = stack(environ, "down")
    assert stopped.returncode == 0
    assert stopped.stdout.count("stopped") == len(SERVERS)
    assert processes_of(folder) == []
    assert (folder / "data" / "postgres").exists()
    assert "nothing was running" in stack(environ, "down").stdout
    assert stack(environ, "status").returncode == 3

    assert stack(environ, "down", "--purge").returncode == 0
    assert not folder.exists()


def test_after_a_starter_that_was_killed_the_next_one_takes_over(environ: dict[str, str], folder: Path) -> None:
    with begin(environ) as starter:
        broker = await_start(folder, "kafka")
        starter.kill()
    assert broker.is_running()
    assert stack(environ, "up", "--servers-only").returncode == 0
    found = Processes(folder).find("kafka")
    assert found is not None
    assert found.pid == broker.pid
    stop_stack(print, folder=folder)
    assert processes_of(folder) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_starter_stops_what_it_started(
    environ: dict[str, str], folder: Path, number: signal.Signals
) -> None:
    with begin(environ) as starter:
        await_start(folder, "kafka")
        starter.send_signal(number)
        assert starter.wait(PATIENCE) == 130
    assert stack_status(folder=folder) == []
    assert processes_of(folder) == []


def test_down_ends_a_starter_that_is_still_at_work(environ: dict[str, str], folder: Path) -> None:
    with begin(environ) as starter:
        await_start(folder, "kafka")
        assert stop_stack(print, folder=folder) == 0
        assert starter.wait(PATIENCE) == 130
    assert processes_of(folder) == []


def test_two_starters_at_once_do_not_mix(environ: dict[str, str], folder: Path) -> None:
    with begin(environ) as starter:
        await_start(folder, "redis")
        second = stack(environ, "up", "--servers-only")
        assert second.returncode == 1
        assert f"process {starter.pid} is at work" in second.stdout
        assert starter.wait(PATIENCE) == 0
    assert {state.name for state in stack_status(folder=folder)} == {*SERVERS, "supervisor"}


def test_ports_that_are_taken_are_all_named_before_anything_starts(environ: dict[str, str], folder: Path) -> None:
    edge, redis = int(environ["TOCSIN_PORT_EDGE"]), int(environ["TOCSIN_PORT_REDIS"])
    with create_server(("127.0.0.1", edge)), create_server(("127.0.0.1", redis)):
        refused = stack(environ, "up")
    assert refused.returncode == 1
    here = psutil.Process()
    for program, port in (("envoy", edge), ("redis", redis)):
        moved = "TOCSIN_PORT_EDGE" if port == edge else "TOCSIN_PORT_REDIS"
        line = f"{port} for {program}: {here.name()} (pid {here.pid}) listens on it; {moved} moves it"
        assert line in refused.stdout
    assert not (folder / "logs").exists()


def test_a_server_that_is_external_is_used_and_not_started(
    environ: dict[str, str], folder: Path, kafka: str, postgres: str, redis_url: str
) -> None:
    addresses = {"TOCSIN_KAFKA": kafka, "TOCSIN_POSTGRES": postgres, "TOCSIN_REDIS": redis_url}
    started = stack(environ | addresses, "up", "--servers-only")
    assert started.returncode == 0, started.stdout
    assert stack_status(folder=folder) == []
    wiring = Wiring.read(folder)
    assert dataclasses.astuple(wiring.addresses) == (kafka, postgres, redis_url)


def test_servers_in_the_environment_are_left_alone_by_who_wants_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TOCSIN_KAFKA", "TOCSIN_POSTGRES", "TOCSIN_REDIS"):
        monkeypatch.setenv(name, "127.0.0.1:1")
    wiring = start_stack(print, folder=folder, ports=Ports.free(), servers_only=True, external={})
    assert {state.name for state in stack_status(folder=folder)} == set(SERVERS)
    assert wiring.addresses == local_addresses(wiring.ports)
    # What should run and does not is listed until the system is stopped.
    Processes(folder).kill("redis")
    states = {state.name: state.is_missing for state in stack_status(folder=folder)}
    assert states == {"kafka": False, "postgres": False, "redis": True}
    stop_stack(print, folder=folder)
    assert stack_status(folder=folder) == []
