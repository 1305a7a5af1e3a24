"""What holds for the command as a whole: its server, its help, and what runs."""

import json
import os
import subprocess
import sys
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from cli import system
from cli.alerts import SeverityChoice, StateChoice
from cli.client import default_server, error_report_of
from cli.main import app
from cli.notifications import DeliveryStateChoice
from stack.local_system import StackState
from stack.ports import Ports
from stack.servers import local_addresses
from stack.wiring import Wiring
from tests.unit.cli.commands import error_of
from tocsin.alerts.v1.alert_pb2 import Alert
from tocsin.notifications.v1.notification_pb2 import Delivery
from tocsin.rules.v1.alert_rule_pb2 import AlertRule


def test_status_shows_what_runs_and_what_should_and_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Path("logs/ingest.log")
    states = [
        StackState(name="ingest", pid=7, log=log, restarts=""),
        StackState(name="manager", pid=None, log=log, restarts="ended once, starts again at 12:00:00"),
        StackState(name="notifier", pid=None, log=log, restarts=""),
    ]
    monkeypatch.setattr(system, "stack_status", lambda: states)
    done = CliRunner().invoke(app, ["status"])
    assert done.exit_code == 1
    assert [line.split(maxsplit=3) for line in done.stdout.splitlines()] == [
        ["ingest", "7", "logs/ingest.log"],
        ["manager", "-", "logs/ingest.log", "ended once, starts again at 12:00:00"],
        ["notifier", "-", "logs/ingest.log", "does not run; `make up` starts it"],
    ]
    report = json.loads(CliRunner().invoke(app, ["status", "-o", "json"]).stdout)
    sound = {"problem": "", "degradation": ""}
    assert report[0] == {"name": "ingest", "pid": 7, "log": "logs/ingest.log", "restarts": "", **sound}
    assert report[1]["pid"] is None
    del states[1:]
    assert CliRunner().invoke(app, ["status"]).exit_code == 0


def test_status_shows_what_runs_and_does_not_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    down, again = "does not serve: kafka DOWN", "started again once, last at 12:00:00"
    states = [StackState(name="ingest", pid=7, log=Path("ingest.log"), restarts=again, problem=down)]
    monkeypatch.setattr(system, "stack_status", lambda: states)
    done = CliRunner().invoke(app, ["status"])
    assert done.exit_code == 1
    assert done.stdout.endswith(f"7  ingest.log  {down}; {again}\n")


def test_status_ends_with_3_when_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "stack_status", list)
    done = CliRunner().invoke(app, ["status"])
    assert (done.exit_code, done.stdout) == (3, "nothing runs\n")
    assert json.loads(CliRunner().invoke(app, ["status", "-o", "json"]).stdout) == []


@pytest.mark.parametrize(
    ("words", "enum"),
    [
        pytest.param(StateChoice, Alert.State, id="state"),
        pytest.param(SeverityChoice, AlertRule.Severity, id="severity"),
        pytest.param(DeliveryStateChoice, Delivery.State, id="state of a delivery"),
    ],
)
def test_the_choices_are_those_of_the_contract(words: type[StrEnum], enum: Any) -> None:
    assert list(words) == [name for name in enum.DESCRIPTOR.values_by_name if not name.endswith("UNSPECIFIED")]


@pytest.mark.parametrize("server", ["http://127.0.0.1:8080", "https://tocsin.example:443", "localhost"])
def test_a_server_is_a_host_and_a_port(server: str) -> None:
    done = CliRunner().invoke(app, ["alerts", "list", "--server", server])
    assert done.exit_code == 2
    assert f'expected host:port, found "{server}"' in done.stderr


class _TimedOut(grpc.RpcError):
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.DEADLINE_EXCEEDED

    def details(self) -> str:
        return "Deadline Exceeded"


def test_a_server_that_does_not_answer_is_said_in_words() -> None:
    assert error_report_of(_TimedOut()).message == "no answer in time"


def test_a_server_that_nobody_listens_on_is_an_error_with_a_hint() -> None:
    done = CliRunner().invoke(app, ["alerts", "list", "--server", "127.0.0.1:1", "-o", "json"])
    assert done.exit_code == 3
    assert error_of(done)["message"] == (
        "127.0.0.1:1: nothing listens there; `tocsin status` shows what runs on this machine,"
        " --server or TOCSIN_SERVER names another"
    )


@pytest.mark.parametrize(
    ("server", "why"),
    [
        ("nowhere.invalid:80", "this host or port cannot be found"),
        ("127.0.0.1:port", "this host or port cannot be found"),
        ("127.0.0.1:1", "nothing listens there"),
    ],
)
def test_a_wrong_server_is_named_with_what_is_wrong(server: str, why: str) -> None:
    done = CliRunner().invoke(app, ["alerts", "list", "--server", server])
    assert (done.exit_code, done.stderr.partition(";")[0]) == (3, f"{server}: UNAVAILABLE: {why}")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("failed to connect to all addresses; last error: ipv4: Tls handshake failed", "there is no TLS, or a cert"),
        ("failed to connect to all addresses; last error: Failed parsing HTTP/2", "what answers there is not Tocsin"),
        ("Received http2 header with status: 404", "what answers there is not Tocsin"),
        ("failed to connect to all addresses; last error: Socket closed", "the connection was closed; a server with"),
        ("Stream removed (RST_STREAM (Received RST_STREAM with error code 2))", "the connection was closed"),
        ("Method not found!", "what answers there does not know this call"),
    ],
)
def test_what_the_library_says_of_a_connection_is_said_in_words(words: str, why: str) -> None:
    class _Failed(grpc.RpcError):
        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.UNAVAILABLE

        def details(self) -> str:
            return words

    message = error_report_of(_Failed()).message
    assert message.startswith(why)
    assert words not in message


@pytest.mark.parametrize("command", ["up", "status"])
def test_a_folder_that_cannot_be_used_is_named_in_words(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("TOCSIN_RUN", str(file))
    done = CliRunner().invoke(app, [command])
    assert (done.exit_code, done.stderr.startswith(f"{file}")) == (1, True)
    assert "Errno" not in done.stderr


def test_every_command_explains_itself() -> None:
    paths: list[list[str]] = [[]]
    for path in paths:
        command: Any = get_command(app)
        for name in path:
            command = command.commands[name]
        paths += [[*path, name] for name in getattr(command, "commands", {})]
        for option in ("-h", "--help"):
            done = CliRunner().invoke(app, [*path, option])
            assert done.exit_code == 0
            assert " ".join(["Usage: tocsin", *path]) in done.stdout
    assert ["rules", "list"] in paths


def test_the_default_server_is_on_the_port_of_the_edge(tmp_path: Path) -> None:
    home = {"TOCSIN_RUN": str(tmp_path)}
    assert default_server(home) == "127.0.0.1:8080"
    assert default_server(home | {"TOCSIN_PORT_EDGE": ""}) == "127.0.0.1:8080"
    assert default_server(home | {"TOCSIN_PORT_EDGE": "18080"}) == "127.0.0.1:18080"
    ports = Ports(edge=18081)
    Wiring(addresses=local_addresses(ports), ports=ports).write(tmp_path)
    assert default_server(home) == "127.0.0.1:18081"


def test_the_commands_ask_the_default_server() -> None:
    environ = {name: text for name, text in os.environ.items() if name != "TOCSIN_SERVER"}
    command = [sys.executable, "-m", "cli.main", "rules", "list"]
    done = subprocess.run(
        command, env=environ | {"TOCSIN_PORT_EDGE": "1"}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 3
    assert done.stderr.startswith(f"127.0.0.1:1: {grpc.StatusCode.UNAVAILABLE.name}")


def test_the_version_is_printed() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"tocsin {version('tocsin')}\n"


def test_a_choice_that_is_missing_is_named_in_one_line_with_its_words(tmp_path: Path) -> None:
    file = tmp_path / "routes.yaml"
    file.touch()
    done = CliRunner().invoke(app, ["routes", "test", str(file)])
    assert done.exit_code == 2
    assert "Missing option '--severity'. Choose from: low, medium, high, critical" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "--days", "0"], "Invalid value for '--days' / '-d': expected at least 1, found \"0\""),
        (["report", "--days", "93"], "Invalid value for '--days' / '-d': expected at most 92, found \"93\""),
        (["report", "--days", "week"], "Invalid value for '--days' / '-d': expected an integer, found \"week\""),
        (["report", "--days", "1.5"], "Invalid value for '--days' / '-d': expected an integer, found \"1.5\""),
        (["alerts", "list", "--json"], "No such option: --json; -o json prints JSON"),
        (["alerts", "list", "--jsn"], "No such option: --jsn"),
        (["alerts", "list", "--since", "2 h"], 'found "2 h", expected a number with s, m, h or d'),
    ],
)
def test_a_usage_error_says_what_was_found_and_is_expected(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert message in done.stderr


@pytest.mark.parametrize(
    "content", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "é"]
)
def test_a_file_without_an_authority_is_refused_before_any_call(tmp_path: Path, content: str) -> None:
    (tmp_path / "ca.pem").write_text(content)
    done = CliRunner().invoke(app, ["--ca-file", str(tmp_path / "ca.pem"), "alerts", "list"])
    assert done.exit_code == 2
    assert "ca.pem: expected certificates in PEM, found none" in done.stderr


def test_certificates_are_listed_only_where_there_is_an_authority(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["ca", "list", str(tmp_path)])
    assert done.exit_code == 1
    assert "there is no authority" in done.stderr


def test_a_kafka_that_is_not_there_is_named_without_words_of_the_client() -> None:
    done = CliRunner().invoke(app, ["events", "tail", "--kafka", "127.0.0.1:1", "--limit", "1"])
    assert done.exit_code == 3
    assert "127.0.0.1:1: UNAVAILABLE: no broker answers; --kafka or TOCSIN_KAFKA names another Kafka" in done.stderr
