"""All channels over HTTP: one POST, within a timeout, without redirects, with a bounded look at the response.

What is reported of a failure contains no secret: neither the address nor the libraries' own texts, which name it.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

import aiohttp

from services.chassis.clock import Clock
from services.chassis.telemetry import carrier
from services.notifier.adapters.channels.addresses import address_refused, permitted_socket
from services.notifier.core.notification import NotificationContent
from services.notifier.core.response import ChannelResponse, Misconfigured, Unavailable, classify_http

_MAX_RESPONSE_BYTES = 4096
_FIRST_ERROR = 400


class HttpChannelSettings(Protocol):
    """What a kind of channel says of its requests and responses."""

    @property
    def url(self) -> str:
        """Return the address to post to."""
        ...

    def request(
        self, notification: NotificationContent, delivery_id: UUID, *, now: datetime
    ) -> tuple[bytes, Mapping[str, str]]:
        """Return the body and headers of the POST."""
        ...

    def error_detail(self, body: str) -> str:
        """Return the part of a response's body that is safe to repeat."""
        ...


@asynccontextmanager
async def http_session(*, connections: int, allow_private: bool) -> AsyncIterator[aiohttp.ClientSession]:
    """Open a session of one channel's own (bulkhead), which connects only to what the channel may reach.

    Proxies and credentials of the environment are not used.
    """
    connector = aiohttp.TCPConnector(
        limit=connections,
        keepalive_timeout=30,
        socket_factory=permitted_socket(allow_private=allow_private),
    )
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "Tocsin"},
        trust_env=False,
        auto_decompress=False,
    ) as session:
        yield session


@dataclass(frozen=True, slots=True)
class HttpChannel:
    """Posts notifications in the form that the settings' kind of channel takes."""

    session: aiohttp.ClientSession = field(repr=False)
    settings: HttpChannelSettings
    timeout_s: float
    clock: Clock

    async def send(self, notification: NotificationContent, delivery_id: UUID) -> ChannelResponse:
        body, headers = self.settings.request(notification, delivery_id, now=self.clock.now())
        try:
            async with asyncio.timeout(self.timeout_s):
                return await self._post(body, {"Content-Type": "application/json", **headers, **carrier()})
        except TimeoutError:
            return Unavailable(f"no answer within {self.timeout_s:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return address_refused(error) or _classify(error)

    async def _post(self, body: bytes, headers: Mapping[str, str]) -> ChannelResponse:
        url = self.settings.url
        async with self.session.post(url, data=body, headers=headers, allow_redirects=False) as response:
            # Once the status is there, a delivery is a delivery: the body is read only to say why not.
            content = await response.content.read(_MAX_RESPONSE_BYTES) if response.status >= _FIRST_ERROR else b""
            return classify_http(
                response.status,
                retry_after=response.headers.get("Retry-After"),
                now=self.clock.now(),
                detail=self.settings.error_detail(content.decode("utf-8", "replace")),
            )


def _classify(error: Exception) -> ChannelResponse:
    causes = [error, error.__cause__, getattr(error, "os_error", None)]
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return Misconfigured("shows a certificate that is not trusted")
    if isinstance(error, (aiohttp.InvalidURL, ValueError)) and not isinstance(error, aiohttp.ClientConnectionError):
        return Misconfigured("its address cannot be used", was_called=False)
    if isinstance(error, aiohttp.ClientConnectorError):
        return Unavailable("cannot be connected to")
    return Unavailable("broke the connection off")
