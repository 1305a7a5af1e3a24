"""What every channel says of an alert, and how texts from elsewhere are made harmless."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from services.notifier.core.channels.email import email_body
from services.notifier.core.channels.pagerduty import pagerduty_body
from services.notifier.core.channels.slack import escape, slack_body
from services.notifier.core.channels.webhook import webhook_body
from services.notifier.core.channels.wording import (
    facts,
    format_attributes,
    format_duration,
    format_time,
    headline,
    multi_line,
    single_line,
    truncate,
)
from services.notifier.core.notification import NotificationKind, NotificationSample
from stack.sinks.schemas import schema_problems
from tests.fakes.notifier import NOW, notification_content
from tests.unit.notifier.contents import DELIVERY, ENVELOPE, read, strings, with_attributes


def test_a_message_says_what_where_and_how_much() -> None:
    notification = notification_content()
    assert headline(notification) == "[CRITICAL] FIRING: High Error Rate on payment-service"
    assert dict(facts(notification)) == {
        "Rule": "High Error Rate",
        "Resource": "payment-service",
        "Severity": "CRITICAL",
        "Count": "101 of 250",
        "Threshold": "100",
        "Window": "5 min from 2026-03-01 11:55:00 UTC",
        "Condition": "count > threshold",
        "Fired": "2026-03-01 12:00:00 UTC",
    }


def test_who_ended_it_is_shown() -> None:
    resolved = notification_content(kind=NotificationKind.RESOLVED)
    assert dict(facts(resolved))["Resolved"] == "2026-03-01 12:02:00 UTC by ada"
    assert dict(facts(replace(resolved, actor="")))["Resolved"] == "2026-03-01 12:02:00 UTC"


def test_an_alert_without_window_or_condition_is_sent_too() -> None:
    bare = replace(notification_content(), window=None, description="", labels={}, samples=())
    assert "Count" not in dict(facts(bare))
    assert schema_problems("slack", slack_body(bare, DELIVERY)) == []
    assert schema_problems("pagerduty", pagerduty_body(bare, "k" * 32)) == []
    assert json.loads(webhook_body(bare, DELIVERY))["alert"]["window"] is None
    assert "Labels" not in read(email_body(bare, DELIVERY, ENVELOPE)).get_content()
    window = notification_content().window
    assert window is not None
    assert "Condition" not in dict(facts(replace(notification_content(), window=replace(window, condition=""))))


@pytest.mark.parametrize(
    ("span", "expected"),
    [(timedelta(hours=2), "2 h"), (timedelta(minutes=5), "5 min"), (timedelta(seconds=90), "90 s")],
)
def test_durations_are_short(span: timedelta, expected: str) -> None:
    assert format_duration(span) == expected


def test_texts_are_made_harmless_and_short() -> None:
    assert single_line("a\r\nb\x1b[31m\u2028c\td") == "a b [31m c d"
    assert multi_line("a\nb\tc\x00d") == "a\nb\tc d"
    assert (truncate("abc", 3), truncate("abcd", 3)) == ("abc", "ab…")
    assert format_time(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), UTC) == "2026-01-02 03:04:05 UTC"


def test_a_person_reads_times_on_the_own_clock() -> None:
    notification = replace(notification_content(), zone=ZoneInfo("Europe/Berlin"))
    assert dict(facts(notification))["Fired"] == "2026-03-01 13:00:00 CET"
    assert dict(facts(notification))["Window"] == "5 min from 2026-03-01 12:55:00 CET"
    for body in (
        json.dumps(slack_body(notification, DELIVERY)),
        json.dumps(pagerduty_body(notification, "k" * 32)),
        read(email_body(notification, DELIVERY, ENVELOPE)).get_content(),
    ):
        assert " CET" in body
        assert " UTC" not in body


def test_a_sample_without_host_and_trace_says_so() -> None:
    bare = replace(notification_content(), samples=(NotificationSample(time=NOW, service="a", level="ERROR", text=""),))
    blocks = slack_body(bare, DELIVERY)["blocks"]
    assert isinstance(blocks, list)
    assert blocks[4]["elements"][0]["text"] == "2026-03-01 12:00:00 UTC ERROR a no trace id"
    assert blocks[5]["text"]["text"] == "``` ```"
    assert blocks[6]["elements"][0]["text"].startswith("Alert ")


ATTRIBUTES = {"user.tier": "silver", "note": "a, user.tier=gold", "line": "one\ntwo\x1b[2J", "<b> ": "<!here>"}

ATTRIBUTE_LINE = '"<b>"="<!here>" line="one two [2J" note="a, user.tier=gold" user.tier=silver'


def test_the_attributes_of_a_sample_are_one_line_in_which_none_can_pose_as_another() -> None:
    (sample,) = with_attributes(ATTRIBUTES).samples
    assert format_attributes(sample) == ATTRIBUTE_LINE


def test_each_channel_shows_the_attributes_of_samples() -> None:
    notification = with_attributes(ATTRIBUTES)
    blocks = slack_body(notification, DELIVERY)["blocks"]
    assert isinstance(blocks, list)
    shown = blocks[6]["elements"][0]
    assert (shown["type"], shown["text"]) == ("plain_text", escape(ATTRIBUTE_LINE))
    text = read(email_body(notification, DELIVERY, ENVELOPE)).get_content()
    assert f"    Attributes: {ATTRIBUTE_LINE}" in text.splitlines()
    (sent,) = json.loads(webhook_body(notification, DELIVERY))["alert"]["samples"]
    assert sent["attributes"] == ATTRIBUTES
    assert "one two [2J" in strings(pagerduty_body(notification, "k" * 32))


@pytest.mark.parametrize(
    ("group", "resource"),
    [
        pytest.param({"service": "shop"}, "silver", id="a service"),
        pytest.param({"attributes.user.tier": "silver"}, "user.tier=silver", id="an attribute"),
        pytest.param({"attributes.user.tier": ""}, "user.tier=(none)", id="events without the attribute"),
        pytest.param({"host": "web-1"}, "host=web-1", id="a host"),
        pytest.param({"service": "shop", "host": "web-1"}, "silver", id="several fields, with their names already"),
        pytest.param({}, "silver", id="none"),
    ],
)
def test_a_message_names_what_the_resource_is(group: dict[str, str], resource: str) -> None:
    notification = replace(notification_content(resource="silver"), group=group)
    assert headline(notification) == f"[CRITICAL] FIRING: High Error Rate on {resource}"
    assert dict(facts(notification))["Resource"] == resource
