"""Log files are sent whole by `tocsin send`."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bench.measures import read_counter
from tests.e2e.world import ROOT, World, wait_until

OPENSTACK = ROOT.parent / "shared" / "data" / "OpenStack_2k.log"


@pytest.mark.skipif(not OPENSTACK.is_file(), reason="the real logs are not here")
def test_every_line_of_a_real_log_is_sent_and_evaluated(world: World) -> None:
    port = world.system.wiring.ports.evaluator_admin
    before = read_counter(port, "events_evaluated_total")
    done = world.command("send", str(OPENSTACK), "--times", "arrival", "--output", "json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["format"], report["lines"], report["accepted"], report["refused"]) == ("openstack", 2000, 2000, [])
    assert report["byLevel"] == {"INFO": 1969, "WARN": 31}
    wait_until(lambda: read_counter(port, "events_evaluated_total") - before >= 2000, what="all events are evaluated")


def test_refused_lines_are_listed_and_the_others_sent(world: World, tmp_path: Path) -> None:
    file = tmp_path / "app.log"
    file.write_text(
        '{"message":"fine"}\n{"message":"no time","time":"x"}\n\n{"message":"fine too","traceId":"x"}\n  goes on\n'
        '{"message":"far ahead","time":"2999-01-01T00:00:00Z"}\n'
    )
    done = world.command("send", str(file), "--output", "json", "--service", "file-test")
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert (report["lines"], report["accepted"]) == (6, 2)
    assert [(one["line"], one["field"]) for one in report["refused"]] == [(2, "eventTime"), (6, "eventTime")]


def test_a_file_that_is_too_late_for_every_rule_is_sent_with_a_warning(world: World, tmp_path: Path) -> None:
    file = tmp_path / "app.log"
    # The longest window and lateness of a rule are a day and an hour.
    old = datetime.now(UTC) - timedelta(days=3)
    file.write_text(f"{old:%Y-%m-%d %H:%M:%S} ERROR old\n" * 30)
    done = world.command("send", str(file), "--output", "json", "--service", "late-test")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tooLate"] == 30
    assert "all lines are old" in done.stderr
    assert "30 of 30 events are too late for every rule; --times shift sends them as new" in done.stderr
    assert not world.alerts("&resource=late-test")


def test_a_message_that_is_too_long_is_cut(world: World, tmp_path: Path) -> None:
    file = tmp_path / "app.log"
    file.write_text(f"ERROR: {'x' * 40_000}\n")
    done = world.command("send", str(file), "--output", "json", "--service", "file-test")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["byLevel"] == {"ERROR": 1}


def test_standard_input_takes_json_lines(world: World) -> None:
    line = '{"service":"stdin-test","level":"warn","message":"from a pipe","statusCode":404}\n'
    done = world.command("send", "-", "--output", "json", text=line * 3)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["byLevel"] == {"WARN": 3}
