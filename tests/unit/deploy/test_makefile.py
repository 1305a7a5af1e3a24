"""`make up` passes on what it is given, also when that is nothing, and nothing else; misspelt names are refused."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def planned(*given: str) -> str:
    """Return the command that `make up` would run."""
    environ = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME"}}
    plan = ["make", "--dry-run", "--assume-old=.venv/ready", "up", *given]
    done = subprocess.run(plan, cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
    (command,) = [line for line in done.stdout.replace("\\\n", " ").splitlines() if "-m stack up" in line]
    return " ".join(command.split("-m stack up", 1)[1].split())


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ([], ""),
        (["ROUTES=r.yaml", "SINKS=1"], '--routes "r.yaml" --sinks'),
        (["OTLP=", "ROUTES=", "SINKS="], '--otlp "" --routes "" --no-sinks'),
        (["SINKS=0"], "--no-sinks"),
        (["SECURE=1"], "--secure"),
        (["SECURE=0"], "--no-secure"),
    ],
)
def test_a_setting_is_passed_on_only_when_it_is_given(given: list[str], options: str) -> None:
    assert planned(*given) == options


@pytest.mark.parametrize(
    "target", ["cover", "test", "demo", "up", "down", "status", "bench", "bench-pair", "bench-peers"]
)
def test_each_target_that_takes_variables_looks_at_their_names(target: str) -> None:
    plan = ["make", "--dry-run", "--assume-old=.venv/ready", target, "FOO=1", "ROUTE=x"]
    done = subprocess.run(plan, cwd=ROOT, capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if "stack.variable_names" in line)
    assert sorted(line.split("stack.variable_names")[1].split()) == ["'FOO'", "'ROUTE'"]
