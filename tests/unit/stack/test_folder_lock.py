"""Who may start and stop the system of a folder."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stack.folder_lock import FolderLockError, lock_folder, take_over_folder
from stack.process_tree import start_time_of

HOLD = """
import fcntl, json, os, pathlib, signal, sys
from stack.process_tree import start_time_of
file = open(sys.argv[1], "a+")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.readline()
file.truncate(0)
file.write(json.dumps({"pid": os.getpid(), "started": start_time_of(os.getpid())}))
file.flush()
signal.pause()
"""


def test_a_holder_that_writes_itself_down_late_is_asked_all_the_same(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "claim")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        holder.stdout.readline()
        with pytest.raises(FolderLockError, match="process None"), lock_folder(tmp_path):
            pass
        holder.stdin.write("\n")
        holder.stdin.flush()
        with take_over_folder(tmp_path):
            assert holder.wait(10) == -signal.SIGTERM


def test_a_stranger_that_got_the_pid_of_a_holder_is_not_asked(tmp_path: Path) -> None:
    stale = f'{{"pid": {os.getppid()}, "started": "another boot:1"}}'
    (tmp_path / "claim").write_text(stale)
    assert start_time_of(os.getppid()) not in stale
    with take_over_folder(tmp_path):
        assert str(os.getpid()) in (tmp_path / "claim").read_text()


def test_a_folder_of_another_user_is_said_to_be_his(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    # Root, as whom these tests may run, is refused nowhere.
    monkeypatch.setattr(Path, "open", refuse)
    with (
        pytest.raises(FolderLockError, match=rf"{tmp_path.owner()}; TOCSIN_RUN names another"),
        lock_folder(tmp_path / "run"),
    ):
        pass
