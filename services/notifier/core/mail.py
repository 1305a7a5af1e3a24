"""An alert as an e-mail, in the octets that are sent.

The header is written here and not by the library's message class: that one decodes encoded words which it finds in a
plain text, so that a log line could bring line breaks and header fields of its own, and it loses spaces when it folds.
What comes from logs and rules stands in the subject only, as encoded words unless it is short and says nothing else
than itself, and in the body, as quoted-printable.
"""

from base64 import b64encode
from binascii import b2a_qp
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from uuid import UUID

from services.domain.severity import Severity
from services.notifier.core.message import Message
from services.notifier.core.wording import cut, evidence, facts, headline, many_lines, one_line

_SUBJECT = 200
# A line of the header has at most 78 characters, or 76 with an encoded word (RFC 2047, section 2). 39 octets become 52
# of base64 and a word of 64, which leaves room for the field's name.
_LINE = 78
_WORD = 39


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """From whom, to whom, and when."""

    sender: str
    recipients: Sequence[str]
    date: datetime


def mail(message: Message, delivery: UUID, envelope: Envelope) -> bytes:
    """The e-mail; its Message-ID is the delivery's id, and all of one alert stand in one thread."""
    domain = envelope.sender.rpartition("@")[2]
    alert = _token(message.alert_id)
    header = {
        "From": envelope.sender,
        "To": ",\r\n ".join(envelope.recipients),
        "Subject": subject(cut(headline(message), _SUBJECT)),
        "Date": format_datetime(envelope.date),
        "Message-ID": f"<{delivery}@{domain}>",
        "References": f"<alert.{alert}@{domain}>",
        "Auto-Submitted": "auto-generated",
        "Tocsin-Alert": alert,
        "Tocsin-Kind": message.kind.name,
        "MIME-Version": "1.0",
        "Content-Type": 'text/plain; charset="utf-8"',
        "Content-Transfer-Encoding": "quoted-printable",
    }
    if message.severity is Severity.CRITICAL:
        header["Importance"] = "high"
    lines = "".join(f"{name}: {value}\r\n" for name, value in header.items())
    return lines.encode("ascii") + b"\r\n" + b2a_qp(_text(message).replace("\n", "\r\n").encode())


def subject(text: str) -> str:
    """The text as the value of the field Subject, of which a mail reader makes the same text again."""
    if text.isascii() and text == one_line(text) and "=?" not in text and len("Subject: ") + len(text) <= _LINE:
        return text
    words = [b""]
    for octets in map(str.encode, text):
        if len(words[-1]) + len(octets) > _WORD:
            words.append(b"")
        words[-1] += octets
    return "\r\n ".join(f"=?utf-8?b?{b64encode(word).decode()}?=" for word in words)


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
