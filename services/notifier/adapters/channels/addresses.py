"""Connecting only to addresses that a channel may reach.

The very address that is about to be connected to is checked, so neither a name that changes between two look-ups nor a
literal address gets past it.
"""

import asyncio
import socket
from collections.abc import Callable
from functools import partial

from aiohttp import AddrInfoType

from services.notifier.core.channels.addresses import AddressReach, may_reach, reach_of, refusal
from services.notifier.core.response import Misconfigured

OpenSocket = Callable[[AddrInfoType], socket.socket]


class AddressRefusedError(OSError):
    """The name leads to an address that this channel may not reach."""

    def __init__(self, reach: AddressReach) -> None:
        super().__init__(refusal(reach))
        self.reach = reach


def permitted_socket(*, allow_private: bool) -> OpenSocket:
    """Return what makes a socket for an address, and raises AddressRefusedError when the channel may not reach it."""
    return partial(_permitted_socket, allow_private=allow_private)


async def connect_permitted(host: str, port: int, *, allow_private: bool) -> socket.socket:
    """Return a connection to the first address of a host that answers. Raises OSError, AddressRefusedError among them.

    What is refused counts before what did not answer, because trying again does not help there.
    """
    loop = asyncio.get_running_loop()
    failures: list[OSError] = []
    for info in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            opened = _permitted_socket(info, allow_private=allow_private)
        except OSError as error:
            failures.append(error)
            continue
        try:
            await loop.sock_connect(opened, info[4])
        except OSError as error:
            opened.close()
            failures.append(error)
        except BaseException:
            opened.close()
            raise
        else:
            return opened
    raise next((error for error in failures if isinstance(error, AddressRefusedError)), failures[0])


def address_refused(error: BaseException) -> Misconfigured | None:
    """Return what it means that an address was refused; None when the error says something else."""
    for cause in (error, error.__cause__, getattr(error, "os_error", None)):
        if isinstance(cause, AddressRefusedError):
            return Misconfigured(refusal(cause.reach), was_called=False)
    return None


def _permitted_socket(info: AddrInfoType, *, allow_private: bool) -> socket.socket:
    family, kind, protocol, _, address = info
    reach = reach_of(str(address[0]))
    if not may_reach(reach, allow_private=allow_private):
        raise AddressRefusedError(reach)
    opened = socket.socket(family=family, type=kind, proto=protocol)
    opened.setblocking(False)
    return opened
