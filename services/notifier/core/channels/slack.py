"""Slack's incoming webhooks.

Nothing of an alert's text may become markup: `&`, `<` and `>` are escaped, so that no `<…>` (mention, link) can come
out of a log line, values are in plain_text objects, and samples in a code fence that they cannot close. The only links
are addresses in the rule's labels, in the catalog's entries of services, and of changes.
Slack fetches no address that a log line names, which it would do to show a preview.
Slack has no key by which it drops a repeated message; the first block's id is the delivery's id, by which people and
programs recognise one.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate
from typing import ClassVar
from uuid import UUID

from services.notifier.core.channels.addresses import public_address
from services.notifier.core.channels.fields import ChannelFields
from services.notifier.core.channels.wording import (
    JsonObject,
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
)
from services.notifier.core.notification import NotificationContent

# Slack's limits, which it counts after escaping: 150 for a header, 2000 for a field, 3000 for a section's text.
_MAX_HEADER = 150
_MAX_FIELD = 1900
_MAX_FIELDS = 10
_MAX_SAMPLE = 2400
_MAX_CONTEXT = 500
_MAX_ATTRIBUTES = 1900
_MAX_DESCRIPTION = 2900
_MAX_TEXT = 1000
_MAX_LABELS = 1900
_MAX_LINK_NAME = 200

# Slack says what is wrong with one identifier, such as invalid_blocks or no_service.
_ERROR = re.compile(r"[a-z_]{2,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackSettings:
    """An incoming webhook; who knows its address may post."""

    kind: ClassVar[str] = "slack"
    tracks_alerts: ClassVar[bool] = False

    url: str = field(repr=False)
    allow_private: bool = True

    @classmethod
    def read(cls, fields: ChannelFields) -> "SlackSettings":
        """Read the settings from a routes file."""
        allow_private = fields.boolean("allow_private", default=True)
        url = fields.url("url", fields.secret("url"), allow_private=allow_private)
        return cls(url=url, allow_private=allow_private)

    @property
    def recipient(self) -> str:
        """Return where notifications go, without secrets."""
        return public_address(self.url)

    def request(
        self, notification: NotificationContent, delivery_id: UUID, *, now: datetime
    ) -> tuple[bytes, Mapping[str, str]]:
        """Return the body and headers of the POST."""
        del now
        return json.dumps(slack_body(notification, delivery_id)).encode(), {}

    def error_detail(self, body: str) -> str:
        """Return the part of a response's body that is safe to repeat."""
        error = body.strip()
        return error if _ERROR.fullmatch(error) else ""


def slack_body(notification: NotificationContent, delivery_id: UUID) -> JsonObject:
    """Return the body of the POST."""
    return {
        "text": escape_and_truncate(headline(notification), _MAX_TEXT),
        "mrkdwn": False,
        "unfurl_links": False,
        "unfurl_media": False,
        "blocks": _blocks(notification, delivery_id),
    }


def escape(text: str) -> str:
    """Escape Slack's three control characters."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def escape_and_truncate(text: str, limit: int) -> str:
    """Return the text escaped, or as much of its beginning as fits with an ellipsis into `limit` characters."""
    if len(whole := escape(text)) <= limit:
        return whole
    pieces = [escape(char) for char in text[:limit]]
    lengths = accumulate(map(len, pieces))
    return "".join(piece for piece, end in zip(pieces, lengths, strict=True) if end < limit) + "…"


def _blocks(notification: NotificationContent, delivery_id: UUID) -> list[JsonObject]:
    header = _plain(escape_and_truncate(headline(notification), _MAX_HEADER))
    blocks: list[JsonObject] = [
        {"type": "header", "block_id": str(delivery_id), "text": header},
        {"type": "section", "fields": [_plain(_field(*fact)) for fact in facts(notification)[:_MAX_FIELDS]]},
    ]
    blocks += [_section(text) for text in leading_sections(notification)]
    if service := service_text(notification):
        blocks.append(_context(service, _MAX_LABELS))
    if changes := change_lines(notification):
        blocks.append(_section("\n".join(["Changes before it fired:", *changes])))
    if labels := plain_labels(notification):
        blocks.append(_context(f"Labels: {labels}", _MAX_LABELS))
    if found := links(notification):
        blocks.append(_links(found))
    for sample in notification.samples:
        blocks += [_context(sample_source(sample, notification.zone)), _code(sample.text)]
        if sample.attributes:
            blocks.append(_context(format_attributes(sample), _MAX_ATTRIBUTES))
    return blocks + [_context(f"{name} {number}") for name, number in named_ids(notification)]


def _section(text: str) -> JsonObject:
    return {"type": "section", "text": _plain(escape_and_truncate(text, _MAX_DESCRIPTION))}


def _plain(text: str) -> JsonObject:
    return {"type": "plain_text", "text": text, "emoji": False}


def _context(text: str, limit: int = _MAX_CONTEXT) -> JsonObject:
    return {"type": "context", "elements": [_plain(escape_and_truncate(text, limit) or " ")]}


def _code(text: str) -> JsonObject:
    fenced = escape_and_truncate(multi_line(text).replace("`", "'"), _MAX_SAMPLE) or " "
    return {"type": "section", "text": {"type": "mrkdwn", "verbatim": True, "text": f"```{fenced}```"}}


def _links(found: Sequence[tuple[str, str]]) -> JsonObject:
    """Return links to addresses of the rule, the service and its changes; nothing else of an alert is markup."""
    texts = [f"<{escape(address)}|{escape_and_truncate(_link_name(name), _MAX_LINK_NAME)}>" for name, address in found]
    lengths = accumulate(len(text) + 1 for text in texts)
    shown = [text for text, end in zip(texts, lengths, strict=True) if end <= _MAX_DESCRIPTION]
    return {"type": "section", "text": {"type": "mrkdwn", "verbatim": True, "text": "\n".join(shown)}}


def _link_name(name: str) -> str:
    """Return a label's name without what ends a link's text or styles it."""
    return single_line(re.sub(r"[|*_~`]", " ", name)) or "link"


def _field(name: str, value: str) -> str:
    return escape_and_truncate(f"{name}: {value}", _MAX_FIELD)
