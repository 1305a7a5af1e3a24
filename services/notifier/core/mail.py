"""An alert as an e-mail."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from uuid import UUID

from services.domain.severity import Severity
from services.notifier.core.message import Message
from services.notifier.core.wording import cut, evidence, facts, headline, many_lines, one_line

_SUBJECT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """From whom, to whom, and when."""

    sender: str
    recipients: Sequence[str]
    date: datetime


def mail(message: Message, delivery: UUID, envelope: Envelope) -> EmailMessage:
    """The e-mail; its Message-ID is the delivery's id, and all of one alert stand in one thread.

    Headers hold no line break, whatever the alert says: texts are made one line, and the library refuses the rest.
    """
    domain = Address(addr_spec=envelope.sender).domain
    built = EmailMessage(policy=SMTP)
    built["From"] = envelope.sender
    built["To"] = ", ".join(envelope.recipients)
    built["Subject"] = cut(headline(message), _SUBJECT)
    built["Date"] = envelope.date
    built["Message-ID"] = f"<{delivery}@{domain}>"
    built["References"] = f"<alert.{_token(message.alert_id)}@{domain}>"
    built["Auto-Submitted"] = "auto-generated"
    built["Tocsin-Alert"] = _token(message.alert_id)
    built["Tocsin-Kind"] = message.kind.name
    if message.severity is Severity.CRITICAL:
        built["Importance"] = "high"
    built.set_content(_text(message), charset="utf-8")
    return built


def _text(message: Message) -> str:
    parts = [headline(message)]
    parts.append("\n".join(f"{name}: {value}" for name, value in facts(message)))
    if message.description:
        parts.append(many_lines(message.description))
    parts += [f"{evidence(sample)}\n    {_indented(sample.text)}" for sample in message.samples]
    if message.labels:
        labels = sorted(message.labels.items())
        parts.append("Labels: " + ", ".join(f"{one_line(name)}={one_line(value)}" for name, value in labels))
    parts.append(f"Alert {_token(message.alert_id)}")
    return "\n\n".join(parts) + "\n"


def _indented(text: str) -> str:
    return many_lines(text).replace("\n", "\n    ")


def _token(text: str) -> str:
    """What may stand in a Message-ID: an alert's id is a UUID, and anything else is made to look like one."""
    return "".join(char if char.isascii() and (char.isalnum() or char in "-_.") else "-" for char in text)[:128]
