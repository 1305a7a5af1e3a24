"""An alert as a message of Slack's incoming webhooks.

Nothing of an alert's text may become markup: `&`, `<` and `>` are escaped, so that no `<…>` (mention, link) can come
out of a log line, values stand in plain_text objects, and samples in a code fence that they cannot close.
Slack fetches no address that a log line names, which it would do to show a preview.
Slack has no key by which it drops a repeated message; the first block's id is the delivery's id, by which people and
programs recognise one.
"""

from itertools import accumulate
from uuid import UUID

from services.notifier.core.message import Message
from services.notifier.core.wording import evidence, facts, headline, many_lines

# Slack's limits, which it counts after escaping: 150 for a header, 2000 for a field, 3000 for a section's text.
_HEADER = 150
_FIELD = 1900
_SAMPLE = 2400
_CONTEXT = 500
_DESCRIPTION = 2900
_TEXT = 1000

Json = dict[str, object]


def slack_body(message: Message, delivery: UUID) -> Json:
    """The body of the POST."""
    return {
        "text": fitting(headline(message), _TEXT),
        "mrkdwn": False,
        "unfurl_links": False,
        "unfurl_media": False,
        "blocks": _blocks(message, delivery),
    }


def escaped(text: str) -> str:
    """The text with Slack's three control characters made harmless."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def fitting(text: str, most: int) -> str:
    """The text escaped, or as much of its beginning as leaves room for an ellipsis within `most` characters."""
    if len(whole := escaped(text)) <= most:
        return whole
    pieces = [escaped(char) for char in text[:most]]
    lengths = accumulate(map(len, pieces))
    return "".join(piece for piece, end in zip(pieces, lengths, strict=True) if end < most) + "…"


def _blocks(message: Message, delivery: UUID) -> list[Json]:
    blocks: list[Json] = [
        {"type": "header", "block_id": str(delivery), "text": _plain(fitting(headline(message), _HEADER))},
        {"type": "section", "fields": [_plain(_field(name, value)) for name, value in facts(message)[:10]]},
    ]
    if message.description:
        blocks.append({"type": "section", "text": _plain(fitting(many_lines(message.description), _DESCRIPTION))})
    for sample in message.samples:
        blocks += [_context(evidence(sample)), _code(sample.text)]
    blocks.append(_context(f"Alert {message.alert_id}"))
    return blocks


def _plain(text: str) -> Json:
    return {"type": "plain_text", "text": text, "emoji": False}


def _context(text: str) -> Json:
    return {"type": "context", "elements": [_plain(fitting(text, _CONTEXT) or " ")]}


def _code(text: str) -> Json:
    fenced = fitting(many_lines(text).replace("`", "'"), _SAMPLE) or " "
    return {"type": "section", "text": {"type": "mrkdwn", "verbatim": True, "text": f"```{fenced}```"}}


def _field(name: str, value: str) -> str:
    return fitting(f"{name}: {value}", _FIELD)
