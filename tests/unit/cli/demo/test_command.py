"""The demo as a command."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.demo import command
from cli.demo.report import has_every_line
from cli.demo.steps import SentFile
from cli.main import app
from cli.send.sender import SendSummary
from stack.program import StartError


def test_it_ignores_servers_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
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


def test_it_reports_that_there_is_nothing_to_send(capfd: pytest.CaptureFixture[str]) -> None:
    assert command._have_every_line([]) is False
    assert "--log" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("lines", "is_whole"),
    [pytest.param(4, True, id="all"), pytest.param(3, False, id="one lost"), pytest.param(5, False, id="one twice")],
)
def test_a_lost_line_does_not_pass_for_a_blank_one(*, lines: int, is_whole: bool) -> None:
    summary = SendSummary(accepted=3, lines=lines)
    file = SentFile(name="app.log", format_name="plain", lines=6, blank=2, summary=summary)
    assert has_every_line(file) is is_whole
