"""Opens channels: one with connections of its own for each channel of the routes file."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

from services.chassis.clock import Clock
from services.notifier.adapters.channels.email import EmailChannel, tls_context
from services.notifier.adapters.channels.http import HttpChannel, http_session
from services.notifier.core.channels import ChannelSpec
from services.notifier.core.channels.email import EmailSettings
from services.notifier.ports import Channel


@asynccontextmanager
async def open_notification_channel(spec: ChannelSpec, clock: Clock) -> AsyncIterator[Channel]:
    """Open a channel. Raises OSError when a file that it needs cannot be read."""
    settings, timeout_s = spec.settings, spec.timeout.total_seconds()
    if isinstance(settings, EmailSettings):
        with closing(EmailChannel(settings, tls_context(settings.ca_file), timeout_s, clock)) as channel:
            yield channel
    else:
        async with http_session(connections=spec.workers, allow_private=settings.allow_private) as session:
            yield HttpChannel(session, settings, timeout_s, clock)
