"""What a person reads of a failed start: why, before everything else, and nothing of earlier starts."""

import json
import sys
from pathlib import Path

import pytest

from stack.log_reason import find_reason, show_start
from stack.processes import Processes
from stack.program import ProgramSpec, StartError
from stack.starter import Starter

TRACEBACK = "Traceback (most recent call last):\n  File x\nasyncpg.InvalidPasswordError: password is wrong\n"


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["{}", "notifier: A is required", "notifier: B must be host:port"], ["A is required", "B must be host:port"]),
        (
            [json.dumps({"event": "service_crashed", "level": "error", "exception": TRACEBACK}), '{"level": "info"}'],
            ["service_crashed: asyncpg.InvalidPasswordError: password is wrong"],
        ),
        (['{"event": "late", "level": "warning"}', "starting", "[1] FATAL: no space"], ["[1] FATAL: no space"]),
        (["Traceback (most recent call last):", "ImportError: no module"], ["ImportError: no module"]),
        (["all is well", "7", "[]"], []),
    ],
)
def test_the_reason_is_found_among_the_lines(lines: list[str], reason: list[str]) -> None:
    assert find_reason("notifier", lines) == reason


def test_the_reason_comes_before_the_last_lines() -> None:
    shown = show_start("redis", "redis ended", ["a", "FATAL: b", "c", "d"], "redis.log", max_lines=2).splitlines()
    assert shown == ["redis ended", "  FATAL: b", "lines of this start in redis.log:", "  c", "  d"]


def test_only_the_lines_of_the_new_start_are_shown(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    processes.log("broken").write_text("FATAL: of an earlier start\n")

    def refuse() -> None:
        raise ConnectionError("not yet")

    command = (sys.executable, "-c", "print('FATAL: of this start'); print('the end')")
    program = ProgramSpec(name="broken", command=command, check_ready=refuse)
    with pytest.raises(StartError) as failed:
        Starter(processes, print).start([lambda: program])
    lines = str(failed.value).splitlines()
    assert lines[1] == "  FATAL: of this start"
    assert lines[-1] == "  the end"
    assert "earlier" not in str(failed.value)
