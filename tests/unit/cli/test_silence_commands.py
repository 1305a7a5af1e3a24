"""Silences on the command line, against the real service on a store in memory."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from cli.lookup import complete_silence
from cli.silences import parse_local_time
from services.manager.core.alert_changes import open_alert
from services.manager.core.alert_lifecycle import AlertState, AlertStatus
from tests.fakes.edge import Edge
from tests.fakes.transitions import NOW, a_subject, a_transition
from tests.unit.cli.commands import Command


def added(tocsin: Command, *arguments: str) -> dict[str, object]:
    result = tocsin("silences", "add", *arguments, "-m", "why", "--actor", "ann", "-o", "json")
    assert result.exit_code == 0, result.stderr
    silence: dict[str, object] = json.loads(result.stdout)
    return silence


def put_alert(edge: Edge) -> str:
    status = AlertStatus(state=AlertState.FIRING, last_firing=a_transition().evaluation)
    alert = replace(open_alert(a_subject(), "t", status, now=NOW).alert, fire_time=edge.clock.now())
    edge.store.tables.alerts[alert.id] = alert
    return alert.id


def test_a_silence_is_added_listed_shown_and_ended(tocsin: Command, edge: Edge) -> None:
    edge.clock.advance(datetime.now(UTC) - edge.clock.now())
    silence = added(tocsin, 'service="payments"', "severity!=LOW", "--for", "2h")
    assert (silence["state"], silence["author"], silence["comment"]) == ("ACTIVE", "ann", "why")
    assert silence["matchers"] == ['service="payments"', 'severity!="LOW"']
    name = str(silence["id"])
    table = tocsin("silences", "list").stdout
    assert "ACTIVE" in table
    assert "payments" in table
    assert name in tocsin("silences", "list", "-o", "wide").stdout
    assert json.loads(tocsin("silences", "show", name[:20], "-o", "json").stdout)["id"] == name
    shown = tocsin("silences", "show", name).stdout
    assert 'service="payments", severity!="LOW"' in shown
    assert "Expired" in tocsin("silences", "expire", name).stdout
    assert "It had expired before." in tocsin("silences", "expire", name).stdout
    assert json.loads(tocsin("silences", "list", "-o", "json").stdout) == []
    assert len(json.loads(tocsin("silences", "list", "--state", "expired", "-o", "json").stdout)) == 1
    edge.clock.advance(datetime(2026, 1, 1, tzinfo=UTC) - edge.clock.now())


def test_a_silence_recurs(tocsin: Command) -> None:
    arguments = ("a=b", "--rule", "FREQ=WEEKLY;BYDAY=SU", "--from", "2026-01-04T22:00:00", "--zone", "Europe/Berlin")
    silence = added(tocsin, *arguments, "--for", "4h")
    assert (silence["state"], silence["occurrenceStartTime"]) == ("PENDING", "2026-01-04T21:00:00Z")
    shown = tocsin("silences", "show", str(silence["id"])).stdout
    assert "2026-01-04 21:00:00 to 2026-01-05 01:00:00" in shown
    assert "2026-01-04 21:00:00" in tocsin("silences", "list", "-o", "wide").stdout


def test_alerts_are_silenced_until_they_are_resolved(tocsin: Command, edge: Edge) -> None:
    alert_id = put_alert(edge)
    silence = added(tocsin, "--alert", alert_id)
    assert (silence["alertIds"], silence["state"]) == ([alert_id], "ACTIVE")
    assert alert_id in tocsin("silences", "show", str(silence["id"])).stdout
    assert "is not the id of an alert" in tocsin("silences", "add", "--alert", "0" * 36, "-m", "x").stderr


def test_a_preview_says_what_would_be_silenced(tocsin: Command, edge: Edge) -> None:
    put_alert(edge)
    shown = tocsin("silences", "preview", 'service="payment-service"').stdout
    assert "Open alerts: 1. In the last 7 days: 1." in shown
    assert "payment-service" in shown
    assert json.loads(tocsin("silences", "preview", "service=x", "-o", "json").stdout)["openAlertCount"] == 0
    assert "matchers: is required" in " ".join(tocsin("silences", "preview").stderr.split())


@pytest.mark.parametrize(
    ("arguments", "message", "exit_code"),
    [
        (("a=b",), "expected --for or --until", 2),
        (("a=b", "--for", "2h", "--until", "2027-01-01"), "expected --for or --until", 2),
        (("a=b", "--rule", "FREQ=DAILY"), "--rule needs --from", 2),
        (
            ("a=b", "--rule", "FREQ=DAILY", "--from", "x", "--for", "2h", "--until", "2027-01-01"),
            "--rule has its own",
            2,
        ),
        (("a=b", "--for", "2h", "--from", "2026-01-01T22:00:00"), "--from and --zone belong to --rule", 2),
        (("a=b", "--for", "2h", "--zone", "Europe/Berlin"), "--from and --zone belong to --rule", 2),
        (("--alert", "0" * 36, "--for", "2h"), "endTime: does not go with alertIds", 1),
        (("a=b", "--until", "tomorrow"), 'found "tomorrow"', 2),
        (("a=~(", "--for", "2h"), "is not a regular expression", 2),
        (("a", "--for", "2h"), "line 1, column 2", 2),
        (("a=~.*", "--for", "2h"), "select every alert", 1),
        (("--for", "2h"), "is required, or alertIds", 1),
        (("a=b", "--until", "2020-01-01T00:00Z"), "endTime", 1),
        (("a=b", "--rule", "FREQ=SECONDLY", "--from", "x", "--zone", "Mars", "--for", "2h"), "recurrence.rule", 1),
        (("a=b", "--rule", "FREQ=DAILY", "--from", "x", "--for", "2h"), "expected a time on the wall clock", 1),
        (("a=b", "--rule", "FREQ=DAILY", "--from", "1999-01-01", "--for", "2h"), "must be in the years 2000", 1),
        (("a=b", "--rule", "FREQ=DAILY", "--from", "2026-01-01", "--zone", "Mars", "--for", "2h"), "timeZone", 1),
        (("a=b", "--rule", "FREQ=DAILY", "--zone", "localtime", "--from", "2026-01-01", "--for", "2h"), "timeZone", 1),
        (("a=b", "--rule", "FREQ=DAILY;UNTIL=99991231T235959Z", "--from", "2026-01-01", "--for", "2h"), "UNTIL", 1),
        (("a=b", "--rule", "FREQ=DAILY;UNTIL=00010101", "--from", "2026-01-01", "--for", "2h"), "UNTIL", 1),
        (("a=b", "--rule", "FREQ=DAILY;UNTIL=20251202", "--from", "2025-12-01", "--for", "1h"), "ended at", 1),
        (("a=b", "--rule", "FREQ=DAILY", "--from", "2026-01-01", "--for", "1s"), "recurrence.duration", 1),
        (
            ("a=b", "--rule", "FREQ=DAILY", "--start", "9999-12-31T00:00Z", "--from", "2026-01-01", "--for", "1h"),
            "startTime: is 9999-12-31T00:00:00+00:00, must be in the years",
            1,
        ),
        (
            ("a=b", "--rule", "FREQ=YEARLY;COUNT=1000", "--from", "2026-01-01", "--for", "1h"),
            "does not occur so often",
            1,
        ),
    ],
)
@pytest.mark.usefixtures("edge")
def test_what_cannot_be_is_refused_with_the_field(
    tocsin: Command, arguments: tuple[str, ...], message: str, exit_code: int
) -> None:
    result = tocsin("silences", "add", *arguments, "-m", "why")
    assert message in " ".join(result.stderr.split())
    assert result.exit_code == exit_code


def test_a_comment_is_required(tocsin: Command) -> None:
    assert tocsin("silences", "add", "a=b", "--for", "2h").exit_code == 2


def test_an_id_is_completed(tocsin: Command, edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    name = str(added(tocsin, "a=b", "--until", "2026-01-02T00:00Z")["id"])
    monkeypatch.setenv("TOCSIN_SERVER", edge.address)
    assert complete_silence(name[:4]) == [(name, 'ACTIVE a="b": why')]
    monkeypatch.setenv("TOCSIN_SERVER", "127.0.0.1:1")
    assert complete_silence(name[:4]) == []


def test_a_time_without_a_zone_is_this_machines() -> None:
    assert parse_local_time("2026-01-01T12:00+01:00") == datetime(2026, 1, 1, 11, tzinfo=UTC)
    assert parse_local_time("2026-01-01T12:00") == datetime(2026, 1, 1, 12).astimezone(UTC)
