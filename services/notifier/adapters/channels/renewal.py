"""A channel that is opened again when a secret in its settings has changed, without losing what is being sent."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import structlog

from services.chassis.clock import Clock
from services.notifier.adapters.channels import open_notification_channel
from services.notifier.core.channels import ChannelSpec
from services.notifier.core.notification import NotificationContent
from services.notifier.core.response import ChannelResponse
from services.notifier.ports import Channel

log = structlog.get_logger()


@dataclass(slots=True)
class _Opening:
    """A channel with its connections, closed once it is retired and nothing is being sent through it."""

    spec: ChannelSpec
    channel: Channel
    connections: AsyncExitStack
    sending: int = 0
    is_retired: bool = False

    async def close_if_done(self) -> None:
        if self.is_retired and not self.sending:
            await self.connections.aclose()


class RenewedChannel:
    """Sends through the channel as its present settings have it."""

    def __init__(self, opening: _Opening, clock: Clock, present: Callable[[], ChannelSpec]) -> None:
        self._opening = opening
        self._clock = clock
        self._present = present
        self._renewing = asyncio.Lock()

    async def send(self, notification: NotificationContent, delivery_id: UUID) -> ChannelResponse:
        if self._present().settings != self._opening.spec.settings:
            async with self._renewing:
                await self._renew(self._present())
        opening = self._opening
        opening.sending += 1
        try:
            return await opening.channel.send(notification, delivery_id)
        finally:
            opening.sending -= 1
            await opening.close_if_done()

    async def close(self) -> None:
        await self._opening.connections.aclose()

    async def _renew(self, spec: ChannelSpec) -> None:
        if spec.settings == self._opening.spec.settings:
            return
        try:
            opening = await _open(spec, self._clock)
        except OSError as error:
            log.warning("channel_not_renewed", channel=spec.name, reason=type(error).__name__)
            return
        former, self._opening = self._opening, opening
        log.info("channel_renewed", channel=spec.name)
        former.is_retired = True
        await former.close_if_done()


@asynccontextmanager
async def renewed_channel(
    spec: ChannelSpec, clock: Clock, present: Callable[[], ChannelSpec]
) -> AsyncIterator[RenewedChannel]:
    """Open a channel, and again when `present` gives other settings. Raises OSError when it cannot be opened."""
    channel = RenewedChannel(await _open(spec, clock), clock, present)
    try:
        yield channel
    finally:
        await channel.close()


async def _open(spec: ChannelSpec, clock: Clock) -> _Opening:
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(open_notification_channel(spec, clock))
        return _Opening(spec, channel, stack.pop_all())
