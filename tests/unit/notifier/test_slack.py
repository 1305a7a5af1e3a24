"""What Slack gets: blocks within its limits, in which a log line is never markup."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from services.notifier.core.channels.slack import escape, escape_and_truncate, slack_body
from services.notifier.core.notification import NotificationContent
from stack.sinks.schemas import schema_problems
from tests.fakes.notifier import EVIL, notification_content
from tests.unit.notifier.contents import DELIVERY, messages, strings, texts, with_attributes


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


def test_slack_takes_the_largest_attributes() -> None:
    body = slack_body(with_attributes({f"{number:0128}": "&" * 256 for number in range(16)}), DELIVERY)
    assert schema_problems("slack", body) == []


def test_a_long_text_is_truncated_between_escaped_characters() -> None:
    assert escape_and_truncate("a&b", 7) == "a&amp;b"
    assert escape_and_truncate("a&bc", 7) == "a&amp;…"
    assert escape_and_truncate("ab&c", 7) == "ab…"
