"""Child processes: found again, stopped whole, never mistaken for a stranger."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from socket import create_server

import psutil
import pytest

from stack.ports import Ports
from stack.processes import Processes
from stack.program import ProgramSpec, StartError
from stack.starter import Starter

SAY_READY = "import pathlib, signal; pathlib.Path('ready').touch(); "
WAIT_FOR_EVER = SAY_READY + "signal.pause()"
IGNORE_SIGTERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
HAVE_A_CHILD = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {IGNORE_SIGTERM + WAIT_FOR_EVER!r}]); "
FORK_ON_AND_ON = """
import os, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    os.fork() or (time.sleep(0.1), os._exit(0))
    time.sleep(0.001)
"""

MakeProgram = Callable[..., ProgramSpec]


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    processes = Processes(tmp_path)
    yield processes
    Starter(processes, print).stop(processes.running())
    processes.stop_strays()


@pytest.fixture
def make(tmp_path: Path) -> MakeProgram:
    def is_ready() -> None:
        if not (tmp_path / "ready").exists():
            raise ConnectionError("it is not ready yet")

    def program(code: str, **more: object) -> ProgramSpec:
        command = (sys.executable, "-c", code)
        how: dict[str, object] = {"name": "child", "command": command, "check_ready": is_ready} | more
        return ProgramSpec(start_timeout=timedelta(seconds=20), grace=timedelta(seconds=0.3), **how)  # type: ignore[arg-type]

    return program


def start(processes: Processes, *programs: ProgramSpec) -> list[str]:
    lines: list[str] = []
    Starter(processes, lines.append).start([partial(_itself, program) for program in programs])
    return lines


def _itself(program: ProgramSpec) -> ProgramSpec:
    return program


def has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_what_one_process_started_another_finds_and_stops(processes: Processes, make: MakeProgram) -> None:
    start(processes, make(WAIT_FOR_EVER))
    later = Processes(processes.folder)
    assert [running.name for running in later.running()] == ["child"]
    assert later.stop("child")
    assert later.running() == []
    assert not later.stop("child")


def test_a_stranger_that_got_an_old_pid_is_left_alone(processes: Processes, make: MakeProgram) -> None:
    start(processes, make(WAIT_FOR_EVER))
    record = processes.folder / "pids" / "child.json"
    ours = json.loads(record.read_text())
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as stranger:
        record.write_text(json.dumps(ours | {"pid": stranger.pid}))
        assert processes.find("child") is None
        assert not processes.stop("child")
        assert stranger.poll() is None
        stranger.kill()


def test_children_that_ignore_the_request_end_with_their_parent(processes: Processes, make: MakeProgram) -> None:
    start(processes, make(HAVE_A_CHILD + "import signal; signal.pause()"))
    running = processes.find("child")
    assert running is not None
    family = [running.process, *running.process.children(recursive=True)]
    assert len(family) == 2
    processes.stop("child")
    assert all(has_ended(member) for member in family)


def test_a_killed_program_counts_as_ended_and_starts_again(processes: Processes, make: MakeProgram) -> None:
    start(processes, make(WAIT_FOR_EVER))
    processes.kill("child")
    assert processes.find("child") is None
    assert start(processes, make(WAIT_FOR_EVER)) == ["child answers"]


def test_a_running_program_is_kept_and_with_other_settings_started_anew(
    processes: Processes, make: MakeProgram
) -> None:
    start(processes, make(WAIT_FOR_EVER))
    before = processes.find("child")
    assert start(processes, make(WAIT_FOR_EVER)) == ["child answers, it ran already"]
    start(processes, make(WAIT_FOR_EVER, environ={"LEVEL": "DEBUG"}))
    after = processes.find("child")
    assert before is not None
    assert after is not None
    assert before.pid != after.pid


def test_an_empty_variable_of_the_shell_is_none_of_the_programs(
    processes: Processes, make: MakeProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REMOVED", "")
    monkeypatch.setenv("KEPT", "1")
    start(processes, make(WAIT_FOR_EVER, environ={"GIVEN": ""}))
    running = processes.find("child")
    assert running is not None
    found = running.process.environ()
    assert ("REMOVED" in found, found["KEPT"], found["GIVEN"]) == (False, "1", "")


def test_a_program_that_ends_before_it_answers_is_reported_with_its_last_output(
    processes: Processes, make: MakeProgram
) -> None:
    with pytest.raises(StartError, match=r"ended before it answered(.|\n)*no such setting"):
        start(processes, make("raise SystemExit('no such setting')"))


def test_a_port_that_is_taken_is_reported_with_its_owner(processes: Processes, make: MakeProgram) -> None:
    port = Ports.free().edge
    with create_server(("127.0.0.1", port)), pytest.raises(StartError, match=rf"port {port}: .*pid {os.getpid()}"):
        start(processes, make(WAIT_FOR_EVER, ports=(port,)))


def test_one_failure_cancels_the_others_and_stops_them(processes: Processes, make: MakeProgram) -> None:
    def never() -> None:
        raise ConnectionError("not yet")

    starter = Starter(processes, print)
    slow = make("import signal; signal.pause()", name="slow", check_ready=never)
    with pytest.raises(StartError, match="broken ended"):
        starter.start([lambda: slow, lambda: make("raise SystemExit(1)", name="broken")])
    starter.roll_back()
    assert processes.running() == []


def test_what_was_started_and_not_written_down_is_stopped(processes: Processes, make: MakeProgram) -> None:
    start(processes, make(WAIT_FOR_EVER))
    running = processes.find("child")
    assert running is not None
    assert processes.stop_strays() == 0
    (processes.folder / "pids" / "child.json").unlink()
    assert processes.stop_strays() == 1
    assert has_ended(running.process)


def test_what_is_forked_while_the_table_is_read_is_no_stray(processes: Processes, make: MakeProgram) -> None:
    start(processes, make(SAY_READY + FORK_ON_AND_ON))
    assert [processes.strays() for _ in range(20)] == [[]] * 20


def test_stopping_waits_until_the_program_has_ended(processes: Processes, make: MakeProgram) -> None:
    # The handler first: a program that says it is ready may be stopped at once.
    farewell = (
        "import pathlib, signal; signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path('bye').touch(), exit())); "
    )
    program = make(farewell + WAIT_FOR_EVER)
    start(processes, program)
    processes.stop("child")
    assert (processes.folder / "bye").exists()


def test_later_stages_stop_first(processes: Processes, make: MakeProgram) -> None:
    start(processes, make(WAIT_FOR_EVER, name="below", stage=0), make(WAIT_FOR_EVER, name="above", stage=2))
    lines: list[str] = []
    Starter(processes, lines.append).stop(processes.running())
    assert lines == ["above stopped", "below stopped"]


def test_a_cancelled_start_ends_the_wait_at_once(processes: Processes, make: MakeProgram) -> None:
    def never() -> None:
        raise ConnectionError("not yet")

    program = make("import signal; signal.pause()", check_ready=never)
    processes.start(program)
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(StartError, match="cancelled"):
        processes.wait_until_ready(program, cancelled)
