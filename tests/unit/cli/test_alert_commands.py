"""Alerts and deliveries on the command line."""

import getpass
import json
import os
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from typer.testing import CliRunner

from cli import system
from cli.alerts import SeverityChoice, StateChoice, user_name
from cli.client import default_server
from cli.main import app
from services.chassis.failures import StoreUnavailable
from stack.local_system import StackState
from tests.fakes.edge import Edge
from tests.unit.cli.commands import Command, error_of
from tocsin.alerts.v1.alert_pb2 import Alert, AlertHistoryEntry, WindowResult
from tocsin.notifications.v1.notification_pb2 import FailedNotification
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

IDS = ("01234567-89ab-7def-8123-456789abcdef", "11234567-89ab-7def-8123-456789abcdef")


@pytest.fixture
def two_alerts(edge: Edge) -> Edge:
    states = (Alert.FIRING, Alert.RESOLVED)
    edge.alerts = [
        Alert(
            id=name,
            state=state,
            severity=AlertRule.CRITICAL,
            rule_name="High error count",
            resource="payment-service",
            window=WindowResult(count=101),
            fire_time=Timestamp(seconds=1_767_225_600),
            update_time=Timestamp(seconds=1_767_225_601),
        )
        for name, state in zip(IDS, states, strict=True)
    ]
    return edge


@pytest.fixture
def one_failure(edge: Edge) -> Edge:
    failure = FailedNotification(id=IDS[0], alert_id=IDS[1], channel="slack", status=FailedNotification.RETRYING)
    failure.last_error = "answered 500"
    edge.failed = [failure]
    return edge


@pytest.mark.usefixtures("two_alerts")
def test_alerts_are_watched_with_a_line_for_each_change(tocsin: Command) -> None:
    done = tocsin("alerts", "watch")
    assert done.exit_code == 0, done.output
    first, second = done.stdout.splitlines()
    assert first == (f"2026-01-01 00:00:01  FIRING  CRITICAL  High error count  payment-service  count 101  {IDS[0]}")
    assert "RESOLVED" in second
    lines = tocsin("alerts", "watch", "-o", "json").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == list(IDS)


def test_only_the_chosen_alerts_are_watched(tocsin: Command, two_alerts: Edge) -> None:
    assert tocsin("alerts", "watch", "--severity", "high", "--rule", "r", "--resource", "s").exit_code == 0
    (request,) = two_alerts.requests
    assert (list(request.severities), request.rule_id, request.resource) == ([AlertRule.HIGH], "r", "s")


def test_watching_ends_with_3_when_the_server_goes_away(tocsin: Command, two_alerts: Edge) -> None:
    two_alerts.stream_failure = StoreUnavailable("the database does not answer")
    done = tocsin("alerts", "watch", "-o", "json")
    assert done.exit_code == 3
    assert len(done.stdout.splitlines()) == 2
    assert error_of(done)["code"] == "UNAVAILABLE"


@pytest.mark.usefixtures("two_alerts")
def test_an_alert_that_is_acknowledged_is_one_object(tocsin: Command) -> None:
    assert json.loads(tocsin("alerts", "ack", IDS[0], "-o", "json").stdout)["id"] == IDS[0]
    assert [one["id"] for one in json.loads(tocsin("alerts", "list", "-o", "json").stdout)] == list(IDS)
    gone = tocsin("alerts", "ack", "another", "-o", "json")
    assert (gone.exit_code, error_of(gone)["code"]) == (1, "NOT_FOUND")


def test_the_actor_is_the_user_unless_another_is_named(
    tocsin: Command, two_alerts: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "ann")
    tocsin("alerts", "ack", IDS[0])
    tocsin("alerts", "ack", IDS[0], "--actor", "bob")
    assert [request.actor for request in two_alerts.requests] == ["ann", "bob"]
    assert len({UUID(request.request_id) for request in two_alerts.requests}) == 2


@pytest.mark.parametrize("error", [KeyError, OSError])
def test_a_user_without_a_name_has_a_number(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def nobody() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert user_name() == f"user {os.getuid()}"


def test_an_alert_is_shown_with_the_trace_of_each_delivery(tocsin: Command, two_alerts: Edge) -> None:
    traces = ["4bf92f3577b34da6" * 2, "a3ce929d0e0e4736" * 2]
    kinds = [AlertHistoryEntry.FIRED, AlertHistoryEntry.NOTIFIED]
    two_alerts.history = [AlertHistoryEntry(kind=kind, trace_id=one) for kind, one in zip(kinds, traces, strict=True)]
    lines = tocsin("alerts", "show", IDS[0]).stdout.splitlines()
    assert [line.rstrip()[-32:] for line in lines if "FIRED" in line or "NOTIFIED" in line] == traces
    shown = json.loads(tocsin("alerts", "show", IDS[0], "-o", "json").stdout)
    assert [entry["traceId"] for entry in shown["history"]] == traces


def test_a_failed_delivery_is_retried(tocsin: Command, one_failure: Edge) -> None:
    done = tocsin("notifications", "retry", IDS[0])
    assert done.exit_code == 0, done.output
    assert IDS[0] in done.stdout
    assert "RETRYING" in done.stdout
    assert [request.id for request in one_failure.requests] == [IDS[0]]
    assert json.loads(tocsin("notifications", "retry", IDS[0], "-o", "json").stdout)["lastError"] == "answered 500"
    assert [one["id"] for one in json.loads(tocsin("notifications", "failed", "-o", "json").stdout)] == [IDS[0]]


def test_a_delivery_that_cannot_be_retried_now_is_an_error_after_repetitions_of_one_request(
    tocsin: Command, edge: Edge
) -> None:
    done = tocsin("notifications", "retry", "another", "-o", "json")
    assert (done.exit_code, done.stdout) == (3, "")
    assert error_of(done)["message"] == "the database does not answer"
    assert len(edge.requests) == 3
    assert len({UUID(request.request_id) for request in edge.requests}) == 1


def test_the_evidence_of_an_alert_has_its_attributes_and_says_where_a_trace_is_missing(
    tocsin: Command, two_alerts: Edge
) -> None:
    two_alerts.alerts[0].samples.add(message="refused", attributes={"user.tier": "silver"})
    two_alerts.alerts[0].samples.add(message="refused", trace_id="ab" * 16)
    shown = tocsin("alerts", "show", IDS[0]).stdout
    assert "no trace id" in shown
    assert "ab" * 16 in shown
    assert ["1", "user.tier", "silver"] in [line.split() for line in shown.splitlines()]
    samples = json.loads(tocsin("alerts", "show", IDS[0], "-o", "json").stdout)["alert"]["samples"]
    assert [(one["attributes"], one["traceId"]) for one in samples] == [({"user.tier": "silver"}, ""), ({}, "ab" * 16)]


def test_status_shows_what_runs_and_where_its_log_is(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Path("logs/ingest.log")
    states = [
        StackState(name="ingest", pid=7, log=log, restarts=""),
        StackState(name="manager", pid=None, log=log, restarts="ended once, starts again at 12:00:00"),
    ]
    monkeypatch.setattr(system, "stack_status", lambda: states)
    done = CliRunner().invoke(app, ["status"])
    assert done.exit_code == 0
    assert [line.split(maxsplit=3) for line in done.stdout.splitlines()] == [
        ["ingest", "7", "logs/ingest.log"],
        ["manager", "-", "logs/ingest.log", "ended once, starts again at 12:00:00"],
    ]
    report = json.loads(CliRunner().invoke(app, ["status", "-o", "json"]).stdout)
    assert report[0] == {"name": "ingest", "pid": 7, "log": "logs/ingest.log", "restarts": ""}
    assert report[1]["pid"] is None


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
    ],
)
def test_the_choices_are_those_of_the_contract(words: type[StrEnum], enum: Any) -> None:
    assert list(words) == [name for name in enum.DESCRIPTOR.values_by_name if not name.endswith("UNSPECIFIED")]


def test_a_state_may_be_in_lower_case_and_must_exist(tocsin: Command, two_alerts: Edge) -> None:
    assert tocsin("alerts", "list", "--state", "firing", "--state", "RESOLVED").exit_code == 0
    assert list(two_alerts.requests[0].states) == [Alert.FIRING, Alert.RESOLVED]
    assert tocsin("alerts", "list", "--state", "burning").exit_code == 2


def test_the_default_server_is_on_the_port_of_the_edge() -> None:
    assert default_server({}) == "127.0.0.1:8080"
    assert default_server({"TOCSIN_PORT_EDGE": ""}) == "127.0.0.1:8080"
    assert default_server({"TOCSIN_PORT_EDGE": "18080"}) == "127.0.0.1:18080"


def test_the_commands_ask_the_default_server() -> None:
    environ = {name: text for name, text in os.environ.items() if name != "TOCSIN_SERVER"}
    command = [sys.executable, "-m", "cli.main", "rules", "list"]
    done = subprocess.run(
        command, env=environ | {"TOCSIN_PORT_EDGE": "1"}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 3
    assert done.stderr.startswith(f"127.0.0.1:1: {grpc.StatusCode.UNAVAILABLE.name}")
