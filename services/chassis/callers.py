"""Who calls: the interceptor asks the guard, and whatever runs for the call reads `current_caller()`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import grpc

from services.chassis.failures import Failure

DEFAULT_TENANT = "default"


class Unauthenticated(Failure):
    """The call has no credentials, or none that are valid."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"


class PermissionDenied(Failure):
    """The caller is known, and its role does not allow the rpc."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "PERMISSION_DENIED"


class KeysUnavailable(Failure):
    """This instance has not learned the keys yet, so that it cannot tell who calls."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "KEYS_UNAVAILABLE"
    retry_after = timedelta(seconds=1)
    # Another instance may have been running for longer.
    has_not_begun = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls, after authentication."""

    # The name of the key, the subject of the token, the name in the certificate; empty for anonymous callers.
    name: str
    # One of services.domain.roles.Role.
    role: str
    tenant: str = DEFAULT_TENANT
    # The only services whose events it may send; empty: all.
    services: frozenset[str] = frozenset()
    # "key", "token", "certificate", "service" or "anonymous".
    kind: str
    # The key's id, or the SPIFFE id of the certificate.
    id: str = ""

    @property
    def is_anonymous(self) -> bool:
        """Whether nobody knows who it is."""
        return self.kind == "anonymous"


# What runs outside of a call, and calls where authentication is off.
ANONYMOUS_ADMIN = Caller(name="", role="admin", kind="anonymous")

_current: ContextVar[Caller] = ContextVar("caller", default=ANONYMOUS_ADMIN)


def current_caller() -> Caller:
    """Return who calls; outside of a call, the anonymous administrator of the default tenant."""
    return _current.get()


@contextmanager
def as_caller(caller: Caller) -> Iterator[None]:
    """Make this the current caller until the end of the block."""
    token = _current.set(caller)
    try:
        yield
    finally:
        _current.reset(token)


class IncomingCall(Protocol):
    """What a call brings along that tells who calls; read only where somebody asks, as it takes its time."""

    @property
    def method(self) -> str:
        """As in the path of its HTTP/2 request: /package.Service/Method."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """Its headers that are text."""

    @property
    def peer_identity(self) -> str:
        """The SPIFFE id in the verified certificate of whoever holds the connection, which is Envoy for most calls."""

    @property
    def peer_address(self) -> str:
        """As gRPC gives it: ipv4:127.0.0.1:54321."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownCall:
    """An IncomingCall of which everything is known."""

    method: str
    metadata: Mapping[str, str]
    peer_identity: str = ""
    peer_address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOutcome:
    """How a call ended."""

    code: grpc.StatusCode
    # The failure's reason; empty when it has none.
    reason: str = ""
    # The id or name of what the request is about, if it has one.
    resource: str = ""


class Guard(Protocol):
    """Lets calls in."""

    def admit(self, call: IncomingCall) -> Caller:
        """Return who calls; raise Unauthenticated, PermissionDenied or KeysUnavailable."""
        ...

    async def record(self, call: IncomingCall, caller: Caller | None, outcome: CallOutcome) -> None:
        """Record the call if it is one that is recorded; `caller` is None when it was not let in. Raises nothing."""
        ...
