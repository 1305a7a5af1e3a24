"""What PagerDuty and webhooks get, and what holds for every channel: answers, links, limits."""

import hashlib
import hmac
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.severity import Severity
from services.notifier.core.channels.email import email_body
from services.notifier.core.channels.pagerduty import PagerDutySettings, pagerduty_body
from services.notifier.core.channels.slack import SlackSettings, slack_body
from services.notifier.core.channels.webhook import WebhookSettings, webhook_body, webhook_headers
from services.notifier.core.notification import NotificationContent, NotificationKind
from stack.sinks.schemas import schema_problems
from tests.fakes.notifier import NOW, notification_content
from tests.unit.notifier.contents import DELIVERY, ENVELOPE, KEY, messages, read, strings, texts


@pytest.mark.parametrize(
    ("kind", "action"), list(zip(NotificationKind, ["trigger", "acknowledge", "resolve", "trigger"], strict=True))
)
def test_pagerduty_follows_the_alert_by_one_key(kind: NotificationKind, action: str) -> None:
    body = pagerduty_body(notification_content(kind=kind), "k" * 32)
    assert (body["event_action"], body["dedup_key"]) == (action, notification_content().alert_id)
    assert ("payload" in body) == (action == "trigger")


@pytest.mark.parametrize(
    ("severity", "expected"),
    [
        (Severity.CRITICAL, "critical"),
        (Severity.HIGH, "error"),
        (Severity.MEDIUM, "warning"),
        (Severity.LOW, "info"),
    ],
)
def test_pagerduty_has_severities_of_its_own(severity: Severity, expected: str) -> None:
    payload = pagerduty_body(notification_content(severity=severity), "k" * 32)["payload"]
    assert isinstance(payload, dict)
    assert payload["severity"] == expected


@given(messages, texts)
def test_pagerduty_takes_any_alert(notification: NotificationContent, label: str) -> None:
    body = pagerduty_body(replace(notification, labels={label: label}), "k" * 32)
    assert schema_problems("pagerduty", body) == []
    assert [text for text in strings(body) if not text.replace("\n", "").replace("\t", "").isprintable()] == []


HTTP_KINDS = (
    SlackSettings(url="https://slack"),
    PagerDutySettings(url="https://pagerduty", routing_key=KEY),
    WebhookSettings(url="https://webhook", signing_key=KEY),
)


@pytest.mark.parametrize("settings", HTTP_KINDS)
def test_what_is_posted_is_what_the_receiver_takes(
    settings: SlackSettings | PagerDutySettings | WebhookSettings,
) -> None:
    body, headers = settings.request(notification_content(), DELIVERY, now=NOW)
    kind = type(settings).__name__.removesuffix("Settings").lower()
    assert schema_problems(kind, json.loads(body)) == []
    assert ("Tocsin-Signature" in headers) == (kind == "webhook")


@pytest.mark.parametrize(
    ("body", "details"),
    [
        pytest.param("invalid_blocks\n", ("invalid_blocks", "", ""), id="Slack's own"),
        pytest.param('{"errors": ["a", "no key\\n' + KEY + '"]}', ("", "a; no key …", ""), id="PagerDuty's own"),
        pytest.param('{"errors": "a"}', ("", "", ""), id="no list"),
        pytest.param('["errors"]', ("", "", ""), id="no object"),
        pytest.param("<html>", ("", "", ""), id="no JSON"),
        pytest.param("", ("", "", ""), id="nothing"),
    ],
)
def test_of_an_error_only_what_is_safe_is_repeated(body: str, details: tuple[str, ...]) -> None:
    assert tuple(settings.error_detail(body) for settings in HTTP_KINDS) == details


def test_a_webhook_is_signed_over_time_and_body() -> None:
    body = webhook_body(notification_content(), DELIVERY)
    headers = webhook_headers(body, DELIVERY, key="secret", now=NOW)
    signed = headers["Tocsin-Timestamp"].encode() + b"." + body
    assert headers["Tocsin-Signature"] == "v1=" + hmac.new(b"secret", signed, hashlib.sha256).hexdigest()
    assert headers["Tocsin-Timestamp"] == str(int(NOW.timestamp()))
    assert headers["Idempotency-Key"] == str(DELIVERY)


@given(messages)
def test_a_webhook_gets_texts_as_they_are(notification: NotificationContent) -> None:
    body = webhook_body(notification, DELIVERY)
    assert body.isascii()
    document = json.loads(body)
    assert schema_problems("webhook", document) == []
    assert document["alert"]["ruleName"] == notification.rule
    assert [sample["message"] for sample in document["alert"]["samples"]] == [
        sample.text for sample in notification.samples
    ]


RUNBOOK = "https://wiki.example/run?a=1&b=2#top"


def slack_links(notification: NotificationContent) -> list[str]:
    blocks = slack_body(notification, DELIVERY)["blocks"]
    assert isinstance(blocks, list)
    texts = [block["text"]["text"] for block in blocks if block.get("text", {}).get("type") == "mrkdwn"]
    return [text for text in texts if not text.startswith("```")]


def test_labels_that_are_addresses_become_links() -> None:
    notification = replace(notification_content(), labels={"team": "payments", "runbook": RUNBOOK})
    body = slack_body(notification, DELIVERY)
    assert schema_problems("slack", body) == []
    assert slack_links(notification) == ["<https://wiki.example/run?a=1&amp;b=2#top|runbook>"]
    assert "Labels: team=payments" in strings(body)
    mail = read(email_body(notification, DELIVERY, ENVELOPE)).get_content()
    assert f"runbook: {RUNBOOK}" in mail
    assert "Labels: team=payments" in mail
    event = pagerduty_body(notification, KEY)
    assert schema_problems("pagerduty", event) == []
    assert event["links"] == [{"href": RUNBOOK, "text": "runbook"}]


@pytest.mark.parametrize(
    "value",
    [
        "https://",
        "https://a b",
        "https://x|click",
        "https://x>",
        "https://x\nhttps://y",
        "https://[x",
        "javascript:alert(1)",
        "see https://x",
        "https://x/" + "a" * 1000,
        "https://x/\u202e",
    ],
)
def test_other_labels_are_text(value: str) -> None:
    notification = replace(notification_content(), labels={"runbook": value})
    assert slack_links(notification) == []
    assert schema_problems("slack", slack_body(notification, DELIVERY)) == []


@given(messages, st.text(max_size=300), st.text(max_size=300))
def test_only_labels_become_links(notification: NotificationContent, name: str, value: str) -> None:
    labels = {"plain": value, name: RUNBOOK, value: RUNBOOK}
    body = slack_body(replace(notification, labels=labels), DELIVERY)
    assert schema_problems("slack", body) == []
    marked = [text for text in strings(body) if "<" in text or ">" in text]
    assert len(marked) == 1
    for line in marked[0].split("\n"):
        assert line.startswith("<https://wiki.example/run?a=1&amp;b=2#top|")
        assert [line.count(char) for char in "<|>"] == [1, 1, 1]


def test_no_more_links_than_fit_are_sent() -> None:
    labels = {f"l{number}": f"https://x/{'a' * 900}" for number in range(9)}
    notification = replace(notification_content(), labels=labels)
    assert schema_problems("slack", slack_body(notification, DELIVERY)) == []
    assert len(slack_links(notification)[0].split("\n")) == 3
