"""API keys: what may stand in one, and where it stands."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from services.domain.event_fields import MAX_SERVICE
from services.domain.roles import Role

MAX_KEYS = 10_000
_MAX_KEY_SERVICES = 100
_NAME = re.compile(r"[A-Za-z0-9._@-]{1,128}")
_TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class ApiKeyState(StrEnum):
    """Where a key stands; the names are those of the contract."""

    ACTIVE = "ACTIVE"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it is stored: without its text."""

    id: str
    tenant: str
    name: str
    role: Role
    # The only services whose events its holder may send; empty: all.
    services: tuple[str, ...] = ()
    # The SHA-256 of its secret.
    secret_hash: bytes = field(repr=False)
    creator: str
    create_time: datetime
    expire_time: datetime | None = None
    revoke_time: datetime | None = None
    revoker: str = ""
    # By the last report, which comes once a minute at most; None: it was not used, or not since uses are reported.
    last_use_time: datetime | None = None

    def state(self, now: datetime) -> ApiKeyState:
        """Return where it stands at a time."""
        if self.revoke_time is not None:
            return ApiKeyState.REVOKED
        if self.expire_time is not None and self.expire_time <= now:
            return ApiKeyState.EXPIRED
        return ApiKeyState.ACTIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeyFilter:
    """What must hold of a key; an empty field holds of every key of the tenant."""

    tenant: str
    states: frozenset[ApiKeyState] = frozenset()
    name: str = ""

    def selects(self, key: ApiKey, now: datetime) -> bool:
        """Return whether all fields hold."""
        return (
            key.tenant == self.tenant
            and (not self.states or key.state(now) in self.states)
            and self.name in {"", key.name}
        )


def revoke_key(key: ApiKey, *, revoker: str, now: datetime) -> ApiKey:
    """Return the key as it is once it was revoked."""
    return replace(key, revoke_time=now, revoker=revoker)


def key_problems(key: ApiKey, *, now: datetime) -> list[tuple[str, str]]:
    """Return everything that is not allowed in a new key, as fields named as in JSON and descriptions."""
    return list(_problems(key, now))


def _problems(key: ApiKey, now: datetime) -> Iterator[tuple[str, str]]:
    if not _NAME.fullmatch(key.name):
        yield "name", "expected 1 to 128 letters, digits and the characters . _ - @"
    if key.role is Role.SERVICE:
        yield "role", "is that of the system's own services, which no key has; expected another one"
    if not _TENANT.fullmatch(key.tenant):
        yield "tenant", "expected 1 to 63 lower-case letters, digits and hyphens, no hyphen first"
    if key.expire_time is not None and key.expire_time <= now:
        yield "expireTime", f"is {key.expire_time.isoformat()}, expected a time after now, {now.isoformat()}"
    yield from _service_problems(key)


def _service_problems(key: ApiKey) -> Iterator[tuple[str, str]]:
    if key.services and key.role is not Role.INGEST:
        yield "services", f"goes with the role ingest only, found {key.role.value}"
    if len(key.services) > _MAX_KEY_SERVICES:
        yield "services", f"has {len(key.services)} services, at most {_MAX_KEY_SERVICES} are allowed"
    for n, service in enumerate(key.services[:_MAX_KEY_SERVICES]):
        if not 1 <= len(service) <= MAX_SERVICE:
            yield f"services[{n}]", f"expected 1 to {MAX_SERVICE} characters, found {len(service)}"
