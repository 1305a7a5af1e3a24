"""Nobody has to read to the end what a start prints."""

import os
import subprocess
import sys
from pathlib import Path


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
