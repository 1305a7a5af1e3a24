"""Deliveries and failed notifications on the command line."""

import json
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from tests.fakes.edge import Edge
from tests.unit.cli.commands import IDS, Command, error_of
from tocsin.notifications.v1.notification_pb2 import Delivery, Notification, Receiver


def test_a_failed_delivery_is_retried(tocsin: Command, one_failure: Edge) -> None:
    done = tocsin("notifications", "retry", IDS[0])
    assert done.exit_code == 0, done.output
    assert IDS[0][:8] in done.stdout
    assert "RETRYING" in done.stdout
    assert [request.id for request in one_failure.requests] == [IDS[0]]
    assert json.loads(tocsin("notifications", "retry", IDS[0], "-o", "json").stdout)["lastError"] == "answered 500"
    assert [one["id"] for one in json.loads(tocsin("notifications", "failed", "-o", "json").stdout)] == [IDS[0]]


def test_a_delivery_that_cannot_be_retried_now_is_an_error_after_repetitions_of_one_request(
    tocsin: Command, edge: Edge
) -> None:
    done = tocsin("notifications", "retry", IDS[1], "-o", "json")
    assert (done.exit_code, done.stdout) == (3, "")
    assert error_of(done)["message"] == "the database does not answer"
    assert len(edge.requests) == 3
    assert len({UUID(request.request_id) for request in edge.requests}) == 1


def test_a_failed_delivery_is_named_by_the_beginning_of_its_id(tocsin: Command, one_failure: Edge) -> None:
    assert tocsin("notifications", "retry", "0123").exit_code == 0
    listing, call = one_failure.requests
    assert (listing.id_prefix, len(listing.statuses), call.id) == ("0123", 4, IDS[0])


def test_what_was_sent_is_listed(tocsin: Command, two_alerts: Edge) -> None:
    two_alerts.deliveries = [
        Delivery(
            id=IDS[1],
            alert_id=IDS[0],
            kind=Notification.FIRING,
            channel="slack",
            recipient="https://hooks.slack.com",
            state=Delivery.DELIVERED,
            attempt_count=1,
            update_time=Timestamp(seconds=1_767_225_600, nanos=5_000_000),
        )
    ]
    row = "2026-01-01 00:00:00.005  FIRING  slack    https://hooks.slack.com  DELIVERED  01234567  1"
    assert row in tocsin("notifications", "list").stdout
    done = tocsin("notifications", "list", "--alert", "0123", "--state", "delivered", "-o", "json")
    assert json.loads(done.stdout)[0]["recipient"] == "https://hooks.slack.com"
    request = two_alerts.requests[-1]
    assert (request.alert_id, list(request.states)) == (IDS[0], [Delivery.DELIVERED])


def test_a_failure_is_shown_with_its_address_and_the_whole_error(tocsin: Command, one_failure: Edge) -> None:
    (failure,) = one_failure.failed
    failure.recipient, failure.last_error = "https://hooks.slack.com", "answered 500: " + "why " * 60 + "end"
    shown = tocsin("notifications", "failed").stdout
    assert f"01234567 to https://hooks.slack.com: {failure.last_error}" in shown.splitlines()


def test_receivers_are_listed_with_their_channels(tocsin: Command, edge: Edge) -> None:
    slack = Receiver.Channel(name="slack", kind="slack", recipient="https://hooks.slack.com", fallback=["email"])
    email = Receiver.Channel(name="email", kind="email")
    edge.receivers = [Receiver(name="ops", channels=[slack, email])]
    lines = [" ".join(line.split()) for line in tocsin("receivers", "list").stdout.splitlines()]
    assert lines[-2:] == ["ops slack slack https://hooks.slack.com email", "ops email email - -"]
    (shown,) = json.loads(tocsin("receivers", "list", "-o", "json").stdout)
    assert [channel["name"] for channel in shown["channels"]] == ["slack", "email"]


def test_what_was_sent_about_one_incident_is_listed(tocsin: Command, edge: Edge) -> None:
    assert tocsin("notifications", "list", "--incident", IDS[0]).exit_code == 0
    assert [request.incident_id for request in edge.requests if hasattr(request, "incident_id")] == [IDS[0]]
