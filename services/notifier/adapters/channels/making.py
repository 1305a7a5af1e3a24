"""Makes a channel from what the routes file says of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

from services.chassis.clock import Clock
from services.notifier.adapters.channels.email import EmailChannel, tls_context
from services.notifier.adapters.channels.http import Poster, http_session
from services.notifier.adapters.channels.pagerduty import PagerDutyChannel
from services.notifier.adapters.channels.slack import SlackChannel
from services.notifier.adapters.channels.webhook import WebhookChannel
from services.notifier.core.channel import (
    ChannelSpec,
    EmailSettings,
    PagerDutySettings,
    SlackSettings,
    WebhookSettings,
)
from services.notifier.ports import Channel


@asynccontextmanager
async def open_channel(spec: ChannelSpec, clock: Clock) -> AsyncIterator[Channel]:
    """A channel with connections of its own. Raises OSError when a file that it needs cannot be read."""
    kind, seconds = spec.kind, spec.timeout.total_seconds()
    if isinstance(kind, EmailSettings):
        with closing(EmailChannel(kind, tls_context(kind.ca_file), seconds, clock)) as mail:
            yield mail
        return
    # Slack and PagerDuty are named by who runs this; only a webhook may have been named by somebody else.
    allow_private = kind.allow_private if isinstance(kind, WebhookSettings) else True
    async with http_session(connections=spec.workers, allow_private=allow_private) as session:
        poster = Poster(session, kind.url, seconds, clock)
        match kind:
            case SlackSettings():
                yield SlackChannel(poster)
            case PagerDutySettings():
                yield PagerDutyChannel(poster, kind.routing_key)
            case WebhookSettings():
                yield WebhookChannel(poster, kind.signing_key)
