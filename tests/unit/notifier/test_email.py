"""What a mail is: headers and a body that no log line can extend."""

from email import message_from_bytes, policy
from email.header import decode_header, make_header

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.severity import Severity
from services.notifier.core.channels.email import email_body, encode_subject
from services.notifier.core.channels.wording import (
    headline,
    single_line,
    truncate,
)
from services.notifier.core.notification import NotificationContent
from tests.fakes.notifier import NOW, notification_content
from tests.unit.notifier.contents import DELIVERY, ENVELOPE, messages, read


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


@pytest.mark.parametrize(("severity", "importance"), [(Severity.CRITICAL, "high"), (Severity.HIGH, None)])
def test_only_a_critical_mail_is_marked_important(severity: Severity, importance: str | None) -> None:
    assert read(email_body(notification_content(severity=severity), DELIVERY, ENVELOPE))["Importance"] == importance
