"""E-mail, in the octets that are sent.

The header is written here and not by the library's message class: that one decodes encoded words which it finds in a
plain text, so that a log line could bring line breaks and header fields of its own, and it loses spaces when it folds.
What comes from logs and rules is in the subject only, as encoded words unless it is short and needs none, and in the
body, as quoted-printable.
"""

from base64 import b64encode
from binascii import b2a_qp
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from email.utils import format_datetime
from typing import ClassVar
from uuid import UUID

from services.domain.severity import Severity
from services.notifier.core.channels.fields import ChannelFields
from services.notifier.core.channels.wording import (
    change_lines,
    facts,
    format_attributes,
    headline,
    leading_sections,
    links,
    multi_line,
    named_ids,
    plain_labels,
    sample_source,
    service_text,
    single_line,
    truncate,
)
from services.notifier.core.notification import NotificationContent, NotificationSample

_DEFAULT_PORT = 587
_MAX_PORT = 65535
_MAX_SUBJECT = 200
# A line of the header has at most 78 characters, or 76 with an encoded word (RFC 2047, section 2). 39 octets become 52
# of base64 and an encoded word of 64, which leaves room for the field's name.
_MAX_LINE = 78
_MAX_ENCODED_OCTETS = 39
_MAX_ID = 128
_MAX_RECIPIENT = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailSettings:
    """A mail server that takes mail by SMTP with STARTTLS, and with login where there is a user name."""

    kind: ClassVar[str] = "email"
    tracks_alerts: ClassVar[bool] = False

    host: str
    port: int
    username: str = field(repr=False)
    password: str = field(repr=False)
    sender: str
    recipients: tuple[str, ...]
    ca_file: str = ""
    allow_private: bool = True

    @classmethod
    def read(cls, fields: ChannelFields) -> "EmailSettings":
        """Read the settings from a routes file."""
        allow_private = fields.boolean("allow_private", default=True)
        settings = cls(
            host=fields.host("host", fields.string("host"), allow_private=allow_private),
            port=int(fields.number("port", _DEFAULT_PORT, maximum=_MAX_PORT)),
            username=fields.optional_secret("username"),
            password=fields.optional_secret("password"),
            sender=fields.string("from"),
            recipients=fields.strings("to", required=True),
            ca_file=fields.string("ca_file", ""),
            allow_private=allow_private,
        )
        for name, addresses in (("from", (settings.sender,)), ("to", settings.recipients)):
            if not all(_is_address(address) for address in addresses if address):
                fields.refuse(name, "must be mail addresses, name@host")
        if bool(settings.username) != bool(settings.password) and not fields.problem_count:
            fields.refuse("password" if settings.username else "username", "is required: a login has both")
        return settings

    @property
    def recipient(self) -> str:
        """Return where notifications go."""
        return truncate(", ".join(self.recipients), _MAX_RECIPIENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """From whom, to whom, and when."""

    sender: str
    recipients: Sequence[str]
    date: datetime


def email_body(notification: NotificationContent, delivery_id: UUID, envelope: Envelope) -> bytes:
    """Return header and text; the Message-ID is the delivery's id, and all mails of one subject are in one thread."""
    domain = envelope.sender.rpartition("@")[2]
    alert = _token(notification.alert_id)
    header = {
        "From": envelope.sender,
        "To": ",\r\n ".join(envelope.recipients),
        "Subject": encode_subject(truncate(headline(notification), _MAX_SUBJECT)),
        "Date": format_datetime(envelope.date),
        "Message-ID": f"<{delivery_id}@{domain}>",
        "References": f"<alert.{_token(notification.subject_id)}@{domain}>",
        "Auto-Submitted": "auto-generated",
        "Tocsin-Alert": alert,
        "Tocsin-Kind": notification.kind.name,
        "MIME-Version": "1.0",
        "Content-Type": 'text/plain; charset="utf-8"',
        "Content-Transfer-Encoding": "quoted-printable",
    }
    if notification.incident is not None:
        header["Tocsin-Incident"] = _token(notification.incident.id)
    if notification.severity is Severity.CRITICAL:
        header["Importance"] = "high"
    lines = "".join(f"{name}: {value}\r\n" for name, value in header.items())
    return lines.encode("ascii") + b"\r\n" + b2a_qp(_text(notification).replace("\n", "\r\n").encode())


def encode_subject(text: str) -> str:
    """Encode the text for the field Subject, so that a mail reader shows the same text."""
    is_plain = text.isascii() and text == single_line(text) and "=?" not in text
    if is_plain and len("Subject: ") + len(text) <= _MAX_LINE:
        return text
    words = [b""]
    for octets in map(str.encode, text):
        if len(words[-1]) + len(octets) > _MAX_ENCODED_OCTETS:
            words.append(b"")
        words[-1] += octets
    return "\r\n ".join(f"=?utf-8?b?{b64encode(word).decode()}?=" for word in words)


def _text(notification: NotificationContent) -> str:
    parts = [headline(notification)]
    parts.append("\n".join(f"{name}: {value}" for name, value in facts(notification)))
    parts += leading_sections(notification)
    if service := service_text(notification):
        parts.append(service)
    if changes := change_lines(notification):
        parts.append("\n".join(["Changes before it fired:", *changes]))
    if found := links(notification):
        parts.append("\n".join(f"{single_line(name)}: {address}" for name, address in found))
    parts += [_sample(sample, notification.zone) for sample in notification.samples]
    if labels := plain_labels(notification):
        parts.append(f"Labels: {labels}")
    parts.append("\n".join(f"{name} {_token(number)}" for name, number in named_ids(notification)))
    return "\n\n".join(parts) + "\n"


def _sample(sample: NotificationSample, zone: tzinfo) -> str:
    attributes = f"\n    Attributes: {format_attributes(sample)}" if sample.attributes else ""
    return f"{sample_source(sample, zone)}\n    {_indent(sample.text)}{attributes}"


def _indent(text: str) -> str:
    return multi_line(text).replace("\n", "\n    ")


def _token(text: str) -> str:
    """Replace what may not be in a Message-ID. An alert's id is a UUID; other ids are made similar."""
    return "".join(char if char.isascii() and (char.isalnum() or char in "-_.") else "-" for char in text)[:_MAX_ID]


def _is_address(text: str) -> bool:
    local, at, host = text.rpartition("@")
    return (
        bool(local and at and host) and text.isascii() and text.isprintable() and not set(text) & set(' <>,;:"()[]\\')
    )
