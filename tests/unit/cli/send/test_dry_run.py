"""send --explain and --dry-run show what would be sent, and send nothing."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.fakes.ingest_server import IngestServer
from tests.unit.cli.commands import sent
from tests.unit.cli.send.log_texts import MIXED


def test_explain_shows_what_was_recognised_and_sends_nothing(tmp_path: Path, ingest: IngestServer) -> None:
    file = tmp_path / "shop.log"
    file.write_text(MIXED + '{"time":"soon","message":"m"}\n' * 40)
    report = json.loads(sent(ingest, str(file), "--explain", "-o", "json").stdout)
    assert report["format"] == "json"
    assert sum(report["shares"].values()) == pytest.approx(1.0, abs=0.001)
    first, *_, last = report["events"]
    assert first == {
        "line": 1,
        "lastLine": 2,
        "eventTime": "2026-11-27T10:00:00Z",
        "level": "ERROR",
        "service": "shop",
        "message": "boom\n  at f()",
        "fields": [
            {"name": "time", "field": "eventTime", "change": ""},
            {"name": "level", "field": "level", "change": ""},
            {"name": "message", "field": "message", "change": ""},
            {"name": "(no field)", "field": "service", "change": "the default"},
        ],
        "notes": [],
    }
    assert last["line"] == 21
    done = sent(ingest, str(file), "--explain")
    assert done.exit_code == 0, done.output
    assert "read as json. Nothing was sent." in done.stdout
    assert "1 to 2" in done.stdout
    assert "Line 3: events like this have no level" in done.stdout
    assert not ingest.requests


def test_a_time_that_is_not_understood_is_explained(tmp_path: Path, ingest: IngestServer) -> None:
    file = tmp_path / "shop.jsonl"
    file.write_text('{"time":"soon","message":"m"}\n')
    (event,) = json.loads(sent(ingest, str(file), "--explain", "-o", "json").stdout)["events"]
    assert event["refused"]["field"] == "eventTime"
    assert event["refused"]["reason"].startswith('expected a time such as 2026-01-31T12:00:00Z, found "soon"; ')
    assert 'expected a time such as 2026-01-31T12:00:00Z, found "soon"' in sent(ingest, str(file), "--explain").stdout


def test_a_dry_run_counts_the_whole_file_and_sends_nothing(tmp_path: Path, ingest: IngestServer) -> None:
    file = tmp_path / "shop.jsonl"
    slow = '{"time":"2026-11-27T10:00:00Z","level":"warning","message":"slow","duration_ms":12}\n'
    file.write_text(slow * 300 + '{"time":"soon","message":"m"}\n{"time":"2026-11-27T10:00:09Z","a":"\\u001b[2J"}\n')
    done = sent(ingest, str(file), "--dry-run", "-o", "json")
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert (report["dryRun"], report["accepted"], report["events"], report["lines"]) == (True, 0, 301, 302)
    assert (report["oldestTime"], report["newestTime"]) == ("2026-11-27T10:00:00Z", "2026-11-27T10:00:09Z")
    assert report["tooLate"] == 301
    assert [one["line"] for one in report["refused"]] == [301]
    assert {
        "name": "duration_ms",
        "field": "responseTime",
        "change": "",
        "events": 300,
        "firstValue": "12",
    } in report["fields"]
    assert "firstEvents" not in report
    assert "301 of 301 events are older than 5 minutes" in done.stderr
    done = sent(ingest, str(file), "--dry-run", "--explain")
    assert "Nothing was sent; 301 events would be, 1 refused, 0 continuation lines, 0 blank." in done.stdout
    assert "The first events" in done.stdout
    assert "\x1b" not in done.stdout
    assert not ingest.requests


def test_a_dry_run_needs_no_server_and_asks_nothing(
    old_file: Path, ingest: IngestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.output.is_interactive", lambda: True)
    ingest.is_away = lambda _: True
    done = CliRunner().invoke(app, ["send", str(old_file), "--dry-run", "--server", ingest.address], input="")
    assert done.exit_code == 0, done.output
    assert "3,001 events would be" in done.stdout
    assert done.stderr.startswith("shop.log: 3,001 of 3,001 events are older than 5 minutes")


def test_a_dry_run_lists_a_bounded_number_of_fields(tmp_path: Path, ingest: IngestServer) -> None:
    file = tmp_path / "shop.jsonl"
    file.write_text("".join(f'{{"message":"m","a{number}":"{"x" * 100}"}}\n' for number in range(300)))
    fields = json.loads(sent(ingest, str(file), "--dry-run", "-o", "json").stdout)["fields"]
    assert len(fields) == 200
    assert max(len(one["firstValue"]) for one in fields) == 60
    assert "103 events have further fields; 200 are shown." in sent(ingest, str(file), "--dry-run").stdout
