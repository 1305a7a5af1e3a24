"""A signed POST to any receiver."""

from dataclasses import dataclass, field
from uuid import UUID

from services.notifier.adapters.channels.http import Poster
from services.notifier.core.answer import Answer
from services.notifier.core.message import Message
from services.notifier.core.webhook import webhook_body, webhook_headers


@dataclass(frozen=True, slots=True)
class WebhookChannel:
    """Posts JSON. What a receiver says in an error is not repeated: nobody knows what it holds."""

    poster: Poster
    signing_key: str = field(repr=False)

    async def send(self, message: Message, delivery: UUID) -> Answer:
        """Tell it once."""
        body = webhook_body(message, delivery)
        headers = webhook_headers(body, delivery, key=self.signing_key, now=self.poster.clock.now())
        return (await self.poster.post(body, headers)).answer
