"""Alerts that channels are given in tests, and what is found in what they send."""

from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from uuid import UUID

from hypothesis import strategies as st

from services.domain.severity import Severity
from services.notifier.core.channels.email import Envelope
from services.notifier.core.notification import NotificationContent, NotificationKind
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


KEY = "k" * 32


def read(content: bytes) -> EmailMessage:
    """Return the mail as mail readers take it."""
    return message_from_bytes(content, policy=policy.default)


def with_attributes(attributes: dict[str, str]) -> NotificationContent:
    content = notification_content()
    return replace(content, samples=(replace(content.samples[0], attributes=attributes),))
