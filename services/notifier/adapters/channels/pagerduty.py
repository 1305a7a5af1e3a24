"""PagerDuty's Events API v2."""

import json
from dataclasses import dataclass, field, replace
from uuid import UUID

from services.notifier.adapters.channels.http import Poster
from services.notifier.core.answer import Accepted, Answer
from services.notifier.core.message import Message
from services.notifier.core.pagerduty import pagerduty_body
from services.notifier.core.wording import cut, one_line

_QUOTED = 200


@dataclass(frozen=True, slots=True)
class PagerDutyChannel:
    """Posts events that trigger, acknowledge and resolve; the alert's id is the key that makes repeating harmless."""

    poster: Poster
    routing_key: str = field(repr=False)

    async def send(self, message: Message, delivery: UUID) -> Answer:  # noqa: ARG002 - PagerDuty's key is the alert's
        """Tell it once."""
        reply = await self.poster.post(json.dumps(pagerduty_body(message, self.routing_key)).encode(), {})
        words = self._words(reply.body)
        if isinstance(reply.answer, Accepted) or not words:
            return reply.answer
        return replace(reply.answer, text=f"{reply.answer.text}: {words}")

    def _words(self, body: str) -> str:
        """The errors that it names; should it repeat the key, that is taken out."""
        try:
            document = json.loads(body)
        except ValueError:
            return ""
        errors = document.get("errors") if isinstance(document, dict) else None
        if not isinstance(errors, list):
            return ""
        text = "; ".join(str(error) for error in errors)
        return cut(one_line(text.replace(self.routing_key, "…")), _QUOTED)
