"""Alerts and deliveries on the command line."""

import getpass
import json
import os
from uuid import UUID

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from cli.alerts import user_name
from cli.lookup import complete_alert, complete_rule
from cli.watching import AlertWatch
from services.chassis.failures import StoreUnavailable
from tests.fakes.edge import Edge
from tests.unit.cli.commands import IDS, Command, error_of
from tocsin.alerts.v1.alert_pb2 import Alert, AlertHistoryEntry
from tocsin.rules.v1.alert_rule_pb2 import AlertRule


@pytest.mark.usefixtures("two_alerts")
def test_alerts_are_watched_with_a_line_for_each_change(tocsin: Command) -> None:
    done = tocsin("alerts", "watch")
    assert done.exit_code == 0, done.output
    first, second = done.stdout.splitlines()
    assert first == (f"2026-01-01 00:00:01  FIRING  CRITICAL  High error count  payment-service  count 101  {IDS[0]}")
    assert "RESOLVED" in second
    lines = tocsin("alerts", "watch", "-o", "json").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == list(IDS)


def test_an_alert_that_another_one_supersedes_says_so(tocsin: Command, two_alerts: Edge) -> None:
    two_alerts.alerts[1].superseded_by = IDS[0]
    _, second = tocsin("alerts", "watch").stdout.splitlines()
    assert second.endswith(f"{IDS[1]}  superseded by {IDS[0]}")


def test_only_the_chosen_alerts_are_watched(tocsin: Command, two_alerts: Edge) -> None:
    assert tocsin("alerts", "watch", "--severity", "high", "--rule", IDS[0], "--resource", "s").exit_code == 0
    (request,) = two_alerts.requests
    assert (list(request.severities), request.rule_id, request.resource) == ([AlertRule.HIGH], IDS[0], "s")


def test_watching_says_that_the_connection_broke_and_connects_again(
    tocsin: Command, two_alerts: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AlertWatch, "pause", lambda _self, _delay: None)
    two_alerts.stream_failures = [StoreUnavailable("the database does not answer")]
    done = tocsin("alerts", "watch", "-o", "json")
    assert done.exit_code == 0
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()][:2] == list(IDS)
    first, second = done.stderr.splitlines()
    assert "UNAVAILABLE: the database does not answer; connecting again in" in first
    assert second.endswith("connected again")


def test_watching_ends_with_3_when_there_is_no_server(tocsin: Command, edge: Edge) -> None:
    edge.stream_failures = [StoreUnavailable("the database does not answer")]
    done = tocsin("alerts", "watch", "-o", "json")
    assert (done.exit_code, done.stdout) == (3, "")
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


def test_the_evidence_of_an_alert_has_its_attributes_and_says_where_a_trace_is_missing(
    tocsin: Command, two_alerts: Edge
) -> None:
    two_alerts.alerts[0].samples.add(message="refused", attributes={"user.tier": "silver"})
    two_alerts.alerts[0].samples.add(message="refused", trace_id="ab" * 16)
    shown = tocsin("alerts", "show", IDS[0]).stdout
    assert "no trace id" in shown
    assert "ab" * 16 in shown
    assert ["user.tier", "silver"] in [line.split() for line in shown.splitlines()]
    samples = json.loads(tocsin("alerts", "show", IDS[0], "-o", "json").stdout)["alert"]["samples"]
    assert [(one["attributes"], one["traceId"]) for one in samples] == [({"user.tier": "silver"}, ""), ({}, "ab" * 16)]


def test_a_state_may_be_in_lower_case_and_must_exist(tocsin: Command, two_alerts: Edge) -> None:
    assert tocsin("alerts", "list", "--state", "firing", "--state", "RESOLVED").exit_code == 0
    assert list(two_alerts.requests[0].states) == [Alert.FIRING, Alert.RESOLVED]
    refused = tocsin("alerts", "list", "--state", "burning")
    assert refused.exit_code == 2
    assert "Invalid value for '--state': 'burning' is not one of 'firing', 'acknowledged'" in refused.stderr


def test_events_without_the_field_of_a_group_are_none_of_its_values(tocsin: Command, two_alerts: Edge) -> None:
    two_alerts.alerts[0].resource = ""
    assert "High error count  (none)" in tocsin("alerts", "list").stdout
    assert "High error count  (none)  count" in tocsin("alerts", "watch").stdout
    assert json.loads(tocsin("alerts", "list", "-o", "json").stdout)[0]["resource"] == ""


@pytest.mark.parametrize("label", ["team", "=payments"])
def test_a_label_is_a_name_and_a_value(tocsin: Command, two_alerts: Edge, label: str) -> None:
    done = tocsin("alerts", "list", "--label", label)
    assert done.exit_code == 2
    assert f"Invalid value for --label: expected NAME=VALUE, found '{label}'" in done.stderr
    assert two_alerts.requests == []


def test_an_alert_is_named_by_the_beginning_of_its_id(tocsin: Command, two_alerts: Edge) -> None:
    done = tocsin("alerts", "show", "0123", "-o", "json")
    assert json.loads(done.stdout)["alert"]["id"] == IDS[0]
    listing, call = two_alerts.requests
    assert (listing.id_prefix, call.id) == ("0123", IDS[0])
    two_alerts.alerts[1].id = IDS[0].replace("89ab", "89ac")
    done = tocsin("alerts", "ack", "0123", "-o", "json")
    assert done.exit_code == 1
    assert [detail["field"] for detail in error_of(done)["details"]] == [IDS[0], two_alerts.alerts[1].id]
    assert "FIRING High error count on payment-service" in done.stderr


@pytest.mark.usefixtures("two_alerts")
def test_tables_have_short_ids_and_wide_ones_whole_ids(tocsin: Command) -> None:
    table, wide = tocsin("alerts", "list").stdout, tocsin("alerts", "list", "-o", "wide").stdout
    assert IDS[0][:8] in table
    assert IDS[0] not in table
    assert IDS[0] in wide


def test_alerts_are_filtered_by_the_server(tocsin: Command, two_alerts: Edge) -> None:
    rule_id = "21234567-89ab-7def-8123-456789abcdef"
    arguments = ("--label", "team=a", "-l", "tier=1", "--service", "pay", "--rule", rule_id, "--since", "2h")
    matchers = ("--matcher", 'severity="CRITICAL"', "--matcher", "{service=~pay.*, a!=b}")
    assert tocsin("alerts", "list", *arguments, *matchers, "--older-than", "90s").exit_code == 0
    (request,) = two_alerts.requests
    assert list(request.matchers) == ['severity="CRITICAL"', "{service=~pay.*, a!=b}"]
    assert list(request.labels) == ["team=a", "tier=1"]
    assert (request.service, request.rule_id) == ("pay", rule_id)
    assert request.fired_before.seconds - request.fired_after.seconds in {7109, 7110, 7111}


@pytest.mark.parametrize(("matchers", "where"), [("a", "line 1, column 2"), ("a=~(", "is not a regular expression")])
def test_a_wrong_matcher_is_refused_before_the_server_is_asked(
    tocsin: Command, two_alerts: Edge, matchers: str, where: str
) -> None:
    result = tocsin("alerts", "list", "--matcher", matchers)
    assert result.exit_code == 2
    assert where in " ".join(result.stderr.split())
    assert two_alerts.requests == []


@pytest.mark.parametrize("age", ["", "2", "h", "2w", "-1h", "1.5h", "999999999d"])
def test_an_age_has_a_number_and_a_unit(tocsin: Command, age: str) -> None:
    done = tocsin("alerts", "list", "--since", age)
    assert done.exit_code == 2
    assert "such as 90s, 15m, 2h or 7d" in done.stderr


def test_a_rule_that_does_not_exist_is_no_filter(tocsin: Command, two_alerts: Edge) -> None:
    done = tocsin("alerts", "list", "--rule", "No such rule", "-o", "json")
    assert done.exit_code == 1
    assert two_alerts.requests == []


def test_who_acknowledged_an_alert_before_is_said(tocsin: Command, two_alerts: Edge) -> None:
    alert = two_alerts.alerts[0]
    alert.state, alert.acknowledged_by = Alert.ACKNOWLEDGED, "ann"
    alert.acknowledge_time.seconds = 1_767_225_602
    two_alerts.unchanged = True
    text = "Already acknowledged by ann at 2026-01-01 00:00:02"
    assert f"{text}.\n" in tocsin("alerts", "ack", IDS[0]).stdout
    assert f"{text}; your comment was added to its history.\n" in tocsin("alerts", "ack", IDS[0], "-m", "me too").stdout
    assert json.loads(tocsin("alerts", "ack", IDS[0], "-o", "json").stdout)["acknowledgedBy"] == "ann"
    alert.state, alert.resolve_time.seconds = Alert.RESOLVED, 1_767_225_603
    assert "Already resolved by the system at 2026-01-01 00:00:03." in tocsin("alerts", "resolve", IDS[0]).stdout


def test_an_alert_is_shown_with_whom_it_was_notified_to(tocsin: Command, two_alerts: Edge) -> None:
    alert = two_alerts.alerts[0]
    alert.labels["team"] = "payments"
    alert.match_labels.update({"team": "payments", "user tier": 'silver "s"'})
    alert.group["user.tier"] = "silver"
    alert.samples.add(message="m" * 200, status_code=500)
    two_alerts.history = [
        AlertHistoryEntry(
            kind=AlertHistoryEntry.NOTIFIED,
            create_time=Timestamp(seconds=1_767_225_600, nanos=123_000_000),
            channel="mail",
            recipient="ann@example.com",
            notified_state=Alert.FIRING,
        ),
        AlertHistoryEntry(kind=AlertHistoryEntry.NOTIFICATION_FAILED, channel="slack", comment="FIRING; answered 500"),
        AlertHistoryEntry(kind=AlertHistoryEntry.NOTIFICATION_HELD, channel="slack", comment="FIRING; held"),
    ]
    shown = tocsin("alerts", "show", IDS[0]).stdout
    lines = [line.split() for line in shown.splitlines()]
    assert ["2026-01-01", "00:00:00.123", "FIRING", "mail", "ann@example.com", "delivered"] in lines
    assert ["-", "-", "slack", "-", "failed"] in lines
    assert ["-", "-", "slack", "-", "held"] in lines
    assert ["ID", IDS[0]] in lines
    assert ["Labels", "team=payments"] in lines
    assert ["Matched", "by", 'team="payments",', '"user', 'tier"="silver', '\\"s\\""'] in lines
    assert ["Group", "user.tier=silver"] in lines
    assert shown.count("m") >= 200


@pytest.mark.usefixtures("two_alerts")
def test_names_are_completed_by_the_shell(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN_SERVER", edge.address)
    assert complete_alert("0123") == [(IDS[0], "FIRING High error count on payment-service")]
    assert complete_rule("x") == []
    monkeypatch.setenv("TOCSIN_SERVER", "127.0.0.1:1")
    assert complete_alert("") == []
    assert complete_rule("") == []
