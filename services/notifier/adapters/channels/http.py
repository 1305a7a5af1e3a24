"""One POST: within a time, without redirects, with a bounded look at the answer; what is said of it holds no secret."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import structlog

from services.chassis.clock import Clock
from services.chassis.telemetry import carrier
from services.notifier.core.answer import Answer, Misconfigured, Unavailable, of_http

log = structlog.get_logger()

_MOST_ANSWER_BYTES = 4096
_FIRST_ERROR = 400
# Leads through a translator to the IPv4 address in its last four bytes.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class AddressRefusedError(OSError):
    """The name leads to an address that this channel may not reach."""


@asynccontextmanager
async def http_session(*, connections: int, allow_private: bool) -> AsyncIterator[aiohttp.ClientSession]:
    """A session of one channel's own (bulkhead); without allow_private it connects to public addresses only.

    The check is made on the very address that is about to be connected to, so neither a name that changes nor a
    literal address gets past it. Proxies and credentials of the environment are not used.
    """
    connector = aiohttp.TCPConnector(
        limit=connections,
        keepalive_timeout=30,
        socket_factory=None if allow_private else _public_socket,
    )
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "Tocsin"},
        trust_env=False,
        auto_decompress=False,
    ) as session:
        yield session


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back: what it means, and the beginning of the body for a channel that knows how to quote it."""

    answer: Answer
    status: int = 0
    body: str = ""


@dataclass(frozen=True, slots=True)
class Poster:
    """Posts to one address, which never appears in what it says."""

    session: aiohttp.ClientSession = field(repr=False)
    url: str = field(repr=False)
    seconds: float
    clock: Clock

    async def post(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Post once and judge the answer; every failure is an answer too."""
        try:
            async with asyncio.timeout(self.seconds):
                return await self._exchange(body, {"Content-Type": "application/json", **headers, **carrier()})
        except TimeoutError:
            return Reply(answer=Unavailable(f"no answer within {self.seconds:g} s"))
        except AddressRefusedError:
            return Reply(answer=Misconfigured("leads to an address inside a private network"))
        except (aiohttp.ClientError, OSError, ValueError) as problem:
            return Reply(answer=of_problem(problem))

    async def _exchange(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        async with self.session.post(self.url, data=body, headers=headers, allow_redirects=False) as response:
            is_error = response.status >= _FIRST_ERROR
            # Once the status is there, a delivery is a delivery: the body is read only to say why not.
            text = (await response.content.read(_MOST_ANSWER_BYTES)).decode("utf-8", "replace") if is_error else ""
            answer = of_http(response.status, retry_after=response.headers.get("Retry-After"), now=self.clock.now())
            return Reply(answer=answer, status=response.status, body=text)


def of_problem(problem: Exception) -> Answer:
    """What an error below HTTP means, in words of our own: the libraries' name addresses."""
    causes = [problem, problem.__cause__, getattr(problem, "os_error", None)]
    if any(isinstance(cause, AddressRefusedError) for cause in causes):
        return Misconfigured("leads to an address inside a private network")
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return Misconfigured("shows a certificate that is not trusted")
    if isinstance(problem, (aiohttp.InvalidURL, ValueError)) and not isinstance(problem, aiohttp.ClientConnectionError):
        return Misconfigured("its address cannot be used")
    if isinstance(problem, aiohttp.ClientConnectorError):
        return Unavailable("cannot be connected to")
    return Unavailable("broke the connection off")


def _public_socket(info: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, address = info
    if not is_public(str(address[0])):
        raise AddressRefusedError("not a public address")
    made = socket.socket(family=family, type=kind, proto=protocol)
    made.setblocking(False)
    return made


def is_public(address: str) -> bool:
    """Whether an address is one of the open internet, also when it is wrapped into one of IPv6."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        wrapped = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if found in _NAT64:
            wrapped = ipaddress.IPv4Address(int(found) & 0xFFFF_FFFF)
        if wrapped is not None:
            return is_public(str(wrapped))
    return found.is_global and not found.is_multicast
