"""The notifier reads a routes file in a process of its own, before anything is stopped or started."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from stack.local_system import start_stack
from stack.ports import Ports
from stack.processes import Processes
from stack.routes_check import RoutedChannel, RoutesFileError, read_report
from stack.start_options import RequestedOptions
from tests.unit.cli.commands import error_of

ROUTES = """
channels:
  slack: {kind: slack, url: "${SINK_SLACK_WEBHOOK_URL}"}
  payments: {kind: slack, url: "${PAYMENTS_SLACK_URL}", fallback: [slack]}
routes:
- {severity: [HIGH, CRITICAL], labels: {team: payments}, channels: [payments, slack]}
- {severity: [LOW, MEDIUM, HIGH, CRITICAL], channels: [slack]}
"""


@pytest.fixture
def routes(tmp_path: Path) -> Path:
    file = tmp_path / "routes.yaml"
    file.write_text(ROUTES)
    return file


def test_a_report_is_read_from_one_line() -> None:
    report = read_report('{"problems": [], "channels": [{"name": "a", "fallback": ["b"]}]}')
    assert report.channels == (RoutedChannel(name="a", fallback=("b",)),)


def test_variables_that_are_not_set_are_named_before_anything_starts(tmp_path: Path, routes: Path) -> None:
    home = tmp_path / "run"
    lines: list[str] = []
    with pytest.raises(RoutesFileError) as refused:
        start_stack(
            lines.append, folder=home, ports=Ports.free(), requested=RequestedOptions(routes=str(routes)), external={}
        )
    for name in ("SINK_SLACK_WEBHOOK_URL", "PAYMENTS_SLACK_URL"):
        assert f"refers to {name}, which is not set" in str(refused.value)
    assert lines == [f"ROUTES: none → {routes}"]
    assert Processes(home).running() == []
    assert not (home / "system.json").exists()


def test_the_command_shows_which_channels_an_alert_goes_to(routes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["routes", "test", str(routes), "--label", "team=payments", "--severity", "high", "--sinks"]
    refused = CliRunner().invoke(app, [*words, "-o", "json"])
    assert refused.exit_code == 1
    (detail,) = error_of(refused)["details"]
    assert detail == {"field": "channels.payments.url", "description": "refers to PAYMENTS_SLACK_URL, which is not set"}
    monkeypatch.setenv("PAYMENTS_SLACK_URL", "https://hooks.slack.com/services/T/B/x")
    shown = CliRunner().invoke(app, words)
    assert (shown.exit_code, shown.stdout) == (0, "payments  (when it fails: slack)\nslack\n")


def test_without_sinks_the_command_says_how_to_set_their_variables(routes: Path) -> None:
    assert "--sinks sets the variables" in CliRunner().invoke(app, ["routes", "check", str(routes)]).stderr
    assert "--sinks" not in CliRunner().invoke(app, ["routes", "check", str(routes), "--sinks"]).stderr


def test_the_command_refuses_a_label_without_a_value(routes: Path) -> None:
    assert (
        CliRunner().invoke(app, ["routes", "test", str(routes), "--label", "team", "--severity", "LOW"]).exit_code == 2
    )


def test_a_file_may_have_receivers_and_no_routes(routes: Path) -> None:
    channels, _, _ = ROUTES.partition("routes:")
    routes.write_text(
        channels.replace("${PAYMENTS_SLACK_URL}", "${SINK_SLACK_WEBHOOK_URL}") + "receivers: {ops: slack}\n"
    )
    checked = CliRunner().invoke(app, ["routes", "check", str(routes), "--sinks"])
    assert (checked.exit_code, "the notifier takes it" in checked.stdout) == (0, True)
    shown = CliRunner().invoke(app, ["routes", "test", str(routes), "--severity", "LOW", "--sinks"])
    assert shown.stdout == "no channel: the file has no routes\n"
    routes.write_text(routes.read_text().replace("ops: slack", "ops: sms"))
    refused = error_of(CliRunner().invoke(app, ["routes", "check", str(routes), "--sinks", "-o", "json"]))
    assert [detail["field"] for detail in refused["details"]] == ["receivers.ops"]
