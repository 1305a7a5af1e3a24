"""When a program that ended by itself is started again, and what a person sees of it."""

import sys
from pathlib import Path

import pytest

from stack import supervisor
from stack.ports import Ports
from stack.processes import Processes
from stack.program import ProgramSpec
from stack.secure_files import SecureFiles
from stack.servers import SERVERS, local_addresses
from stack.supervisor import Restarts, Supervisor, _factory, read_restarts
from stack.wiring import Wiring


def lives(*spans: float) -> tuple[Restarts, list[float]]:
    """Let a program run for these spans, one after the other; give how long it was away after each."""
    now, found, pauses = 1000.0, Restarts(), []
    for span in spans:
        now += span
        found = found.ended(now)
        assert found.due is not None
        pauses.append(found.due - now)
        now = found.due
        found = found.restarted(now)
    return found, pauses


def test_a_program_that_stayed_up_is_started_again_at_once() -> None:
    assert lives(1000, 1000, 10)[1] == [0, 0, 0]


def test_one_that_ends_again_and_again_is_started_less_and_less_often() -> None:
    assert lives(1000, 1, 1, 1, 1, 1, 1, 9)[1] == [0, 1, 2, 4, 8, 16, 30, 30]
    assert lives(1000, 1, 1, 100, 1)[1] == [0, 1, 2, 0, 1]


def test_what_was_done_is_said_in_words() -> None:
    found, _ = lives(1000)
    assert str(Restarts()) == ""
    assert str(found).startswith("started again once, last at ")
    assert str(lives(1000, 1)[0].ended(2005.0)).startswith("ended 3 times, starts again at ")


def test_a_server_is_started_again_with_the_passwords_and_certificates_that_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secure, asked = SecureFiles(home=tmp_path), []
    monkeypatch.setattr(supervisor, "server_program", lambda *_, **options: asked.append(options["secure"]))
    Wiring(addresses=local_addresses(Ports()), ports=Ports(), secure=secure).write(tmp_path)
    for name in SERVERS:
        _factory(name, Processes(tmp_path), Wiring.read(tmp_path))()
    assert asked == [secure] * 3


def test_a_crash_loop_is_shown_and_slowed_down(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    program = ProgramSpec(
        name="broken", command=(sys.executable, "-c", "raise SystemExit('no such setting')"), check_ready=print
    )
    supervisor = Supervisor(processes, {"broken": lambda: program})
    for now in (1000.0, 1000.1, 1000.9, 1001.2):
        supervisor.restart_ended(now)
        if running := processes.find("broken"):
            running.process.wait(10)
    assert read_restarts(tmp_path)["broken"].count == 2
    supervisor.restart_ended(1001.3)
    assert str(read_restarts(tmp_path)["broken"]).startswith("ended 3 times, starts again at ")
