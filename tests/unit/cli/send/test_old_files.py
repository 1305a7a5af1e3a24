"""Files whose events come too late for every rule: said before and after, and asked about on a terminal."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from typer.testing import CliRunner

from cli.main import app
from services.chassis.clock import SystemClock
from tests.fakes.ingest_server import IngestServer
from tests.unit.cli.commands import sent
from tests.unit.cli.send.log_texts import OLD
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

NOW = SystemClock().now()


def test_without_a_terminal_old_events_are_sent_with_a_warning_before_and_after(
    old_file: Path, ingest: IngestServer
) -> None:
    done = sent(ingest, str(old_file))
    assert done.exit_code == 0, done.output
    assert "shop.log: all lines are old: the last ones, of 2005-12-04 04:47:54 UTC" in done.stderr
    assert "--times shift moves all times by the same amount" in done.stderr
    assert done.stderr.endswith(
        "shop.log: 3,001 of 3,001 events are older than 5 minutes, too late for most rules; --times shift sends them "
        "as new\n"
    )
    assert {event.event_time.ToDatetime().year for event in ingest.events} == {2005}


def minutes_ago(minutes: float) -> str:
    return f"{SystemClock().now() - timedelta(minutes=minutes):%Y-%m-%d %H:%M:%S} ERROR boom\n"


def rule(*, lateness_s: int = 0, enabled: bool = True) -> AlertRule:
    return AlertRule(window_minutes=1, lateness=Duration(seconds=lateness_s), enabled=enabled)


@pytest.mark.parametrize(
    ("rules", "count"),
    [
        ([rule()], 2),
        ([rule(), rule(lateness_s=600)], 1),
        ([rule(), rule(lateness_s=3600)], 0),
        ([rule(), rule(lateness_s=3600, enabled=False)], 2),
    ],
)
def test_events_are_too_late_when_the_windows_of_all_enabled_rules_are_closed(
    tmp_path: Path, ingest: IngestServer, rules: list[AlertRule], count: int
) -> None:
    ingest.rules = rules
    file = tmp_path / "shop.log"
    file.write_text(minutes_ago(45) + minutes_ago(2.1) + minutes_ago(0))
    done = sent(ingest, str(file), "-o", "json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["tooLate"] == count
    warning = f"{count} of 3 events {'is' if count == 1 else 'are'} too late for every rule; --times shift"
    assert (warning in done.stderr) is (count > 0)


def test_a_long_file_that_was_shifted_is_not_to_be_shifted_again(tmp_path: Path, ingest: IngestServer) -> None:
    ingest.rules = [rule()]
    file = tmp_path / "shop.log"
    file.write_text(minutes_ago(45) + minutes_ago(20))
    done = sent(ingest, str(file), "--times", "shift")
    assert "1 of 2 events is too late for every rule; --times arrival sends all as of now" in done.stderr


def test_a_file_that_is_ten_minutes_old_is_never_sent_in_silence(tmp_path: Path, ingest: IngestServer) -> None:
    ingest.rules = [rule(), rule(lateness_s=30)]
    file = tmp_path / "shop.log"
    file.write_text(minutes_ago(11) * 300)
    for times in ([], ["--times", "log"]):
        done = sent(ingest, str(file), "-o", "json", *times)
        assert done.exit_code == 0, done.output
        assert ("no alert fires, unless Tocsin has had nothing newer." in done.stderr) is (not times)
        assert "300 of 300 events are too late for every rule; --times shift sends them as new" in done.stderr
        assert json.loads(done.stdout)["tooLate"] == 300
    done = sent(ingest, str(file), "-o", "json", "--times", "shift")
    assert (json.loads(done.stdout)["tooLate"], done.stderr) == (0, "")


@pytest.mark.parametrize(("answer", "years"), [("", {NOW.year}), ("n", {2005})])
def test_on_a_terminal_the_user_chooses_how_old_events_are_sent(
    old_file: Path, ingest: IngestServer, monkeypatch: pytest.MonkeyPatch, answer: str, years: set[int]
) -> None:
    monkeypatch.setattr("cli.output.is_interactive", lambda: True)
    arguments = ["send", str(old_file), "--server", ingest.address]
    done = CliRunner().invoke(app, arguments, input=f"{answer}\n")
    assert done.exit_code == 0, done.output
    assert "--times shift" in done.stderr
    assert {event.event_time.ToDatetime().year for event in ingest.events[-1:]} == years
    first, last = ingest.events[0], ingest.events[-1]
    assert last.event_time.seconds - first.event_time.seconds == 10


def test_a_question_without_an_answer_ends_the_command(
    old_file: Path, ingest: IngestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.output.is_interactive", lambda: True)
    done = CliRunner().invoke(app, ["send", str(old_file), "--server", ingest.address], input="")
    assert done.exit_code == 1
    assert done.stderr.endswith("aborted\n")
    assert not ingest.events


@pytest.mark.parametrize("times", ["log", "arrival", "shift"])
def test_with_the_option_times_there_is_no_question(old_file: Path, ingest: IngestServer, times: str) -> None:
    done = sent(ingest, str(old_file), "--times", times)
    assert "all lines are old" not in done.stderr


def test_a_file_whose_last_lines_are_new_is_not_old(tmp_path: Path, ingest: IngestServer) -> None:
    file = tmp_path / "shop.log"
    file.write_text(OLD + minutes_ago(0))
    done = sent(ingest, str(file))
    assert "all lines are old" not in done.stderr
    assert "3,001 of 3,002 events are older than 5 minutes" in done.stderr
