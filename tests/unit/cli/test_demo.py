"""The demo as a command."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.demo import command
from cli.main import app
from stack.program import StartError


def test_it_leaves_somebodys_own_servers_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: dict[str, Any] = {}

    def start(*_: object, **how: object) -> None:
        started.update(how)
        raise StartError("enough seen")

    monkeypatch.setattr(command, "start_stack", start)
    monkeypatch.setenv("TOCSIN_RUN", str(tmp_path / "run"))
    monkeypatch.setenv("TOCSIN_KAFKA", "kafka.example:9092")
    done = CliRunner().invoke(app, ["demo"])
    assert done.exit_code == 1
    assert "enough seen" in done.output
    assert started["external"] == {}
    assert started["folder"] == tmp_path / "run-demo"


def test_it_says_that_there_is_nothing_to_send(capfd: pytest.CaptureFixture[str]) -> None:
    assert command._all_accounted_for([]) is False
    assert "--log" in capfd.readouterr().err
