"""What a start prints: who reaches the system, and nobody has to read it to the end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stack.console import bring_up
from stack.ports import Ports
from stack.secure_files import SecureFiles
from stack.servers import local_addresses
from stack.start_options import RequestedOptions
from stack.wiring import Wiring


def test_a_start_goes_on_when_nobody_reads_its_steps_any_more(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    steps = "for number in range(3): print_step('kafka answers')"
    end = "import pathlib; pathlib.Path('end').touch()"
    code = f"from stack.console import print_step\n{steps}\n{end}"
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environ, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "end").exists()


@pytest.mark.parametrize(
    ("is_secure", "said"),
    [
        (False, "this machine alone, by everybody on it: no service asks for a key"),
        (True, "Not encrypted, and reached"),
    ],
)
def test_a_start_says_who_reaches_the_system(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, *, is_secure: bool, said: str
) -> None:
    secure = SecureFiles(home=tmp_path) if is_secure else None
    wiring = Wiring(addresses=local_addresses(Ports(), secure=is_secure), ports=Ports(), secure=secure)
    monkeypatch.setattr("stack.console.start_stack", lambda *_, **__: wiring)
    bring_up(RequestedOptions(), servers_only=True)
    assert said in capsys.readouterr().out
