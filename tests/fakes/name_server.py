"""A name server on the loopback interface, whose answers a test changes."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

_HEADER = struct.Struct("!HHHHHH")
_RESPONSE, _NO_SUCH_NAME = 0x8400, 3
_A, _IN = 1, 1
# From the begin of the message: where the name of the question stands.
_QUESTIONED_NAME = 0xC00C


class NameServer(asyncio.DatagramProtocol):
    """Answers questions for addresses of IPv4 by `addresses`; of a name that is not there it says so."""

    def __init__(self) -> None:
        self.addresses: dict[str, list[str]] = {}
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        number, _, questions, *_ = _HEADER.unpack_from(data)
        assert questions == 1
        name, end = _name(data, _HEADER.size)
        kind, _ = struct.unpack_from("!HH", data, end)
        known = self.addresses.get(name)
        found = (known or []) if kind == _A else []
        header = _HEADER.pack(number, _RESPONSE | (_NO_SUCH_NAME if known is None else 0), 1, len(found), 0, 0)
        records = [
            struct.pack("!HHHIH", _QUESTIONED_NAME, _A, _IN, 1, 4) + socket.inet_aton(address) for address in found
        ]
        self._transport.sendto(header + data[_HEADER.size : end + 4] + b"".join(records), addr)


@asynccontextmanager
async def name_server() -> AsyncIterator[tuple[NameServer, int]]:
    """Run a name server, and give it with its port."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(NameServer, local_addr=("127.0.0.1", 0))
    try:
        yield server, transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


def _name(data: bytes, at: int) -> tuple[str, int]:
    """Return the name at a place, and the place behind it."""
    labels = []
    while size := data[at]:
        labels.append(data[at + 1 : at + 1 + size].decode())
        at += 1 + size
    return ".".join(labels).lower(), at + 1
