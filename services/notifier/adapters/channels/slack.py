"""Slack's incoming webhooks."""

import json
import re
from dataclasses import dataclass, replace
from uuid import UUID

from services.notifier.adapters.channels.http import Poster
from services.notifier.core.answer import Accepted, Answer
from services.notifier.core.message import Message
from services.notifier.core.slack import slack_body

# Slack says what is wrong in one word, such as invalid_blocks or no_service.
_WORD = re.compile(r"[a-z_]{2,64}")


@dataclass(frozen=True, slots=True)
class SlackChannel:
    """Posts messages of blocks."""

    poster: Poster

    async def send(self, message: Message, delivery: UUID) -> Answer:
        """Tell it once."""
        reply = await self.poster.post(json.dumps(slack_body(message, delivery)).encode(), {})
        word = reply.body.strip()
        if isinstance(reply.answer, Accepted) or _WORD.fullmatch(word) is None:
            return reply.answer
        return replace(reply.answer, text=f"{reply.answer.text}: {word}")
