import hashlib
import hmac
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.severity import Severity
from services.notifier.core.channels.email import Envelope, email_body, encode_subject
from services.notifier.core.channels.pagerduty import PagerDutySettings, pagerduty_body
from services.notifier.core.channels.slack import SlackSettings, escape, escape_and_truncate, slack_body
from services.notifier.core.channels.webhook import WebhookSettings, webhook_body, webhook_headers
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
from services.notifier.core.notification import NotificationContent, NotificationKind, NotificationSample
from stack.sinks.schemas import schema_problems
from tests.fakes.notifier import EVIL, NOW, notification_content

DELIVERY = UUID(int=42)
ENVELOPE = Envelope(sender="tocsin@example.com", recipients=["a@example.com", "b@example.com"], date=NOW)

texts = st.text(max_size=300) | st.sampled_from([EVIL, "<!here>" * 400, "&" * 3000, "`" * 3000])
messages = st.builds(
    notification_content,
    kind=st.sampled_from(NotificationKind),
    severity=st.sampled_from(Severity),
    text=texts,
    rule=texts,
    resource=texts,
)


def strings(node: object) -> list[str]:
    if isinstance(node, dict):
        return [text for value in node.values() for text in strings(value)]
    if isinstance(node, list):
        return [text for value in node for text in strings(value)]
    return [node] if isinstance(node, str) else []


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
    assert format_time(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "2026-01-02 03:04:05 UTC"


@given(texts, st.integers(1, 400))
def test_what_fits_stays_and_no_entity_is_truncated(text: str, limit: int) -> None:
    found = escape_and_truncate(text, limit)
    assert len(found) <= limit
    assert found == escape(text) or escape(text).startswith(found[:-1])
    assert "<" not in found
    for part in found.rstrip("…").split("&")[1:]:
        assert part.startswith(("amp;", "lt;", "gt;"))


@given(messages, st.sampled_from(["", EVIL]))
def test_slack_takes_any_alert_and_finds_no_markup_in_it(notification: NotificationContent, description: str) -> None:
    body = slack_body(replace(notification, description=description), DELIVERY)
    assert schema_problems("slack", body) == []
    assert [text for text in strings(body) if "<" in text or ">" in text] == []
    blocks = body["blocks"]
    assert isinstance(blocks, list)
    fenced = [block["text"]["text"] for block in blocks if block.get("text", {}).get("type") == "mrkdwn"]
    fences = [(text[:3], text[-3:], text.count("`")) for text in fenced]
    assert fences == [("```", "```", 6)] * len(notification.samples)


def test_slack_fetches_no_address_of_a_log_line() -> None:
    body = slack_body(notification_content(text="https://evil.example/x.png"), DELIVERY)
    assert (body["unfurl_links"], body["unfurl_media"]) == (False, False)


def test_slack_shows_the_delivery_the_alert_and_the_samples() -> None:
    body = slack_body(notification_content(text="a < b & c"), DELIVERY)
    blocks = body["blocks"]
    assert isinstance(blocks, list)
    assert blocks[0]["block_id"] == str(DELIVERY)
    assert blocks[-1]["elements"][0]["text"] == f"Alert {notification_content().alert_id}"
    assert blocks[3]["elements"][0]["text"] == "Labels: team=payments"
    assert "trace 4bf92f3577b34da64bf92f3577b34da6" in blocks[4]["elements"][0]["text"]
    assert blocks[5]["text"]["text"] == "```a &lt; b &amp; c```"


@pytest.mark.parametrize(
    ("kind", "action"), list(zip(NotificationKind, ["trigger", "acknowledge", "resolve"], strict=True))
)
def test_pagerduty_follows_the_alert_by_one_key(kind: NotificationKind, action: str) -> None:
    body = pagerduty_body(notification_content(kind=kind), "k" * 32)
    assert (body["event_action"], body["dedup_key"]) == (action, notification_content().alert_id)
    assert ("payload" in body) == (kind is NotificationKind.FIRING)


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


KEY = "k" * 32
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


def read(content: bytes) -> EmailMessage:
    """Return the mail as mail readers take it."""
    return message_from_bytes(content, policy=policy.default)


def subjects(text: str) -> list[str]:
    """Return the subject as both of the library's readers show it."""
    content = f"Subject: {encode_subject(text)}\r\n\r\n".encode("ascii")
    old = message_from_bytes(content, policy=policy.compat32)["Subject"]
    return [str(make_header(decode_header(old))), str(read(content)["Subject"])]


def field_names(content: bytes) -> list[bytes]:
    lines = content.partition(b"\r\n\r\n")[0].split(b"\r\n")
    return [line.partition(b":")[0] for line in lines if not line.startswith(b" ")]


words = st.lists(
    st.sampled_from(
        ["über", "Genève", "Köln", "für", "a", "=?utf-8?q?=0d=0aBcc:_x?=", "=?", "?=", "日本語" * 9, "🔥", "x" * 90]
    )
    | st.text(max_size=40),
    max_size=12,
).map(" ".join)


@given(words.map(single_line))
def test_a_reader_of_the_mail_sees_the_subject_that_was_meant(text: str) -> None:
    assert subjects(text) == [text, text]
    assert all(len(line) <= 76 for line in encode_subject(text).split("\r\n ")[1:])


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[CRITICAL] FIRING: Fehler über Genève Köln für on shop", id="neighbouring words"),
        pytest.param("a" * 69, id="a full line"),
        pytest.param("a" * 70, id="one more"),
        pytest.param("=?utf-8?q?=0d=0aReply-To:_x@attacker.example?=", id="an encoded word"),
        pytest.param("a  b", id="two spaces"),
        pytest.param("ä" * 200, id="several words"),
    ],
)
def test_a_subject_is_read_as_it_was_written(text: str) -> None:
    assert subjects(text) == [text, text]
    lines = f"Subject: {encode_subject(text)}".split("\r\n")
    assert all(len(line) <= (76 if "=?" in line else 78) for line in lines)


@pytest.mark.parametrize(
    "text",
    [
        "=?utf-8?q?=0d=0aReply-To:_x@attacker.example?=",
        "=?utf-8?q?a=0d=0a=0d=0aTEXT?=",
        "=?utf-8?b?DQpCY2M6IHhAeQ==?=",
        "a\r\nBcc: x@attacker.example\r\n\r\nTEXT",
    ],
)
def test_no_header_and_no_body_is_of_a_log_lines_making(text: str) -> None:
    notification = notification_content(resource=text, rule=text, text=text)
    content = email_body(notification, DELIVERY, ENVELOPE)
    assert field_names(content) == field_names(email_body(notification_content(), DELIVERY, ENVELOPE))
    parsed = read(content)
    assert parsed["Subject"] == headline(notification)
    assert parsed.get_content().startswith(headline(notification))


@given(messages)
def test_a_mail_has_the_headers_that_it_should_have_and_no_others(notification: NotificationContent) -> None:
    content = email_body(notification, DELIVERY, ENVELOPE)
    parsed = read(content)
    expected = {"From", "To", "Subject", "Date", "Message-ID", "References", "Auto-Submitted", "Tocsin-Alert"}
    expected |= {"Tocsin-Kind", "Content-Type", "Content-Transfer-Encoding", "MIME-Version"}
    assert set(parsed.keys()) - {"Importance"} == expected
    assert ("Importance" in parsed) == (notification.severity is Severity.CRITICAL)
    assert parsed["To"] == "a@example.com, b@example.com"
    assert parsed["Message-ID"] == f"<{DELIVERY}@example.com>"
    assert parsed["Date"].datetime == NOW
    assert parsed["Subject"] == truncate(headline(notification), 200)
    assert content.isascii()
    assert b"\n" not in content.replace(b"\r\n", b"")
    assert max(map(len, content.split(b"\r\n"))) <= 78


def test_a_mail_shows_the_evidence() -> None:
    text = (
        read(email_body(notification_content(text="one\ntwö"), DELIVERY, ENVELOPE)).get_content().replace("\r\n", "\n")
    )
    assert "2026-03-01 12:00:00 UTC ERROR payment-service node-1 trace 4bf92f" in text
    assert "    one\n    twö" in text
    assert "Labels: team=payments" in text


def test_an_alert_id_of_another_form_breaks_no_header() -> None:
    assert read(email_body(notification_content(alert="a b>\r\nc"), DELIVERY, ENVELOPE))["Tocsin-Alert"] == "a-b---c"


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


def test_a_sample_without_host_and_trace_says_so() -> None:
    bare = replace(notification_content(), samples=(NotificationSample(time=NOW, service="a", level="ERROR", text=""),))
    blocks = slack_body(bare, DELIVERY)["blocks"]
    assert isinstance(blocks, list)
    assert blocks[4]["elements"][0]["text"] == "2026-03-01 12:00:00 UTC ERROR a no trace id"
    assert blocks[5]["text"]["text"] == "``` ```"
    assert blocks[6]["elements"][0]["text"].startswith("Alert ")


ATTRIBUTES = {"user.tier": "silver", "note": "a, user.tier=gold", "line": "one\ntwo\x1b[2J", "<b> ": "<!here>"}
ATTRIBUTE_LINE = '"<b>"="<!here>" line="one two [2J" note="a, user.tier=gold" user.tier=silver'


def with_attributes(attributes: dict[str, str]) -> NotificationContent:
    content = notification_content()
    return replace(content, samples=(replace(content.samples[0], attributes=attributes),))


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


def test_slack_takes_the_largest_attributes() -> None:
    body = slack_body(with_attributes({f"{number:0128}": "&" * 256 for number in range(16)}), DELIVERY)
    assert schema_problems("slack", body) == []


@pytest.mark.parametrize(("severity", "importance"), [(Severity.CRITICAL, "high"), (Severity.HIGH, None)])
def test_only_a_critical_mail_is_marked_important(severity: Severity, importance: str | None) -> None:
    assert read(email_body(notification_content(severity=severity), DELIVERY, ENVELOPE))["Importance"] == importance


def test_a_long_text_is_truncated_between_escaped_characters() -> None:
    assert escape_and_truncate("a&b", 7) == "a&amp;b"
    assert escape_and_truncate("a&bc", 7) == "a&amp;…"
    assert escape_and_truncate("ab&c", 7) == "ab…"


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
