"""Which addresses a channel may reach: those of the open internet, and by its setting those of private networks.

An address of IPv4 may be wrapped into one of IPv6 (mapped, translated, tunnelled): the one inside counts, because that
is the one that is reached. What only this host's own network or cloud answers (link-local addresses and those of the
clouds' metadata) is never a channel; a request to it would hand out this host's credentials.
"""

import ipaddress
from collections.abc import Iterator
from enum import Enum
from typing import Final
from urllib.parse import urlsplit

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressReach(Enum):
    """Who reaches an address."""

    PUBLIC = "the open internet"
    PRIVATE = "a private network, or this machine"
    HOST_ONLY = "this host only, or nobody: link-local, metadata of a cloud, multicast, reserved"


# Metadata and agents of clouds outside of the link-local range.
_METADATA: Final = frozenset(
    map(ipaddress.ip_address, ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"))
)
# Each holds an address of IPv4 in its last four bytes: compatible, mapped, translated, and two of NAT64.
_WRAPPING: Final = tuple(
    map(ipaddress.IPv6Network, ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48"))
)
_UNWRAPPED: Final = frozenset({ipaddress.IPv6Address("::"), ipaddress.IPv6Address("::1")})


def reach_of(text: str) -> AddressReach:
    """Return who reaches an IP address. Raises ValueError when it is none."""
    address = ipaddress.ip_address(text.partition("%")[0])
    for wrapped in _wrapped(address):
        return reach_of(str(wrapped))
    if address.is_loopback:
        return AddressReach.PRIVATE
    is_nobodys = address.is_unspecified or address.is_multicast or address.is_reserved
    if is_nobodys or address.is_link_local or address in _METADATA:
        return AddressReach.HOST_ONLY
    is_site_local = isinstance(address, ipaddress.IPv6Address) and address.is_site_local
    return AddressReach.PUBLIC if address.is_global and not is_site_local else AddressReach.PRIVATE


def may_reach(reach: AddressReach, *, allow_private: bool) -> bool:
    """Return whether a channel with this setting may connect to such an address."""
    return reach is AddressReach.PUBLIC or (allow_private and reach is AddressReach.PRIVATE)


def refusal(reach: AddressReach) -> str:
    """Return why a channel may not connect to such an address, in words that follow its name."""
    if reach is AddressReach.PRIVATE:
        return "leads to an address inside a private network; allow_private: true in the routes file permits it"
    return "leads to an address that no channel may have: link-local, metadata of a cloud, multicast or reserved"


def written_reach(host: str) -> AddressReach:
    """Return who reaches a host as it is written: others than localhost and addresses are looked up at each call."""
    if host == "localhost" or host.endswith(".localhost"):
        return AddressReach.PRIVATE
    try:
        return reach_of(host)
    except ValueError:
        return AddressReach.PUBLIC


def public_address(url: str) -> str:
    """Return scheme, host and port of an address: path, query and user may be secrets."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


def _wrapped(address: IPAddress) -> Iterator[IPAddress]:
    """Yield the address of IPv4 inside one of IPv6, if there is one."""
    if isinstance(address, ipaddress.IPv4Address) or address in _UNWRAPPED:
        return
    if any(address in network for network in _WRAPPING):
        yield ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    elif address.sixtofour is not None:
        yield address.sixtofour
    elif address.teredo is not None:
        yield address.teredo[1]
