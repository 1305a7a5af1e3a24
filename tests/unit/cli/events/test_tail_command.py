"""What is wrong with a call of `tocsin events tail` is said before anything is read."""

import json

import pytest
from typer.testing import CliRunner

from cli.client import ExitCode
from cli.events.command import default_kafka
from cli.main import app
from tests.unit.cli.commands import error_of

# Nobody listens there.
NOWHERE = ("--kafka", "127.0.0.1:1")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOCSIN_KAFKA", raising=False)


def test_a_wrong_filter_gets_the_diagnostic_of_a_rule() -> None:
    done = CliRunner().invoke(app, ["events", "tail", "--filter", 'servce == "a"', *NOWHERE])
    assert done.exit_code == ExitCode.USAGE
    assert done.stderr == (
        "--filter: INVALID_ARGUMENT: not allowed\n"
        '  filter: line 1, column 1: unknown name "servce"; did you mean "service"?\n'
    )


def test_programs_get_the_diagnostic_as_json() -> None:
    done = CliRunner().invoke(app, ["events", "tail", "--filter", "count > 1", "-o", "json", *NOWHERE])
    assert done.exit_code == ExitCode.USAGE
    assert error_of(done)["details"][0]["field"] == "filter"


def test_kafka_away_is_unreachable() -> None:
    done = CliRunner().invoke(app, ["events", "tail", "-o", "json", *NOWHERE])
    assert done.exit_code == ExitCode.UNREACHABLE
    assert json.loads(done.stderr)["error"]["code"] == "UNAVAILABLE"


def test_kafka_is_on_this_machine_unless_said() -> None:
    assert default_kafka({}) == "127.0.0.1:9092"
    assert default_kafka({"TOCSIN_PORT_KAFKA": "19092"}) == "127.0.0.1:19092"
