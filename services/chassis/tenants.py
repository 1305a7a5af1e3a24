"""Whose data: the tenant of the current call, or of the work that runs for a tenant outside of any call."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from services.chassis.callers import DEFAULT_TENANT, Caller, PermissionDenied, current_caller

__all__ = ["ALL_TENANTS", "DEFAULT_TENANT", "as_tenant", "current_tenant", "is_tenant_name", "tenant_served"]

# Of work on the data of all tenants; no tenant has this name.
ALL_TENANTS = "*"

_NAME = re.compile("[a-z0-9][a-z0-9-]{0,62}")
_working: ContextVar[str] = ContextVar("tenant", default="")


def current_tenant() -> str:
    """Return whose data is read and written now; outside of a call and of `as_tenant`, the default tenant's.

    Raises PermissionDenied for a caller whose tenant has no valid name.
    """
    return _working.get() or _checked(current_caller().tenant)


@contextmanager
def as_tenant(tenant: str) -> Iterator[None]:
    """Read and write the data of this tenant until the end of the block; ALL_TENANTS: of all of them."""
    token = _working.set(tenant)
    try:
        yield
    finally:
        _working.reset(token)


def tenant_served(caller: Caller, wanted: str = ALL_TENANTS) -> str:
    """Return whose data a call is about: another service names it, anybody else has a tenant."""
    return wanted if caller.kind == "service" else _checked(caller.tenant)


def is_tenant_name(text: str) -> bool:
    """Return whether a tenant may have this name: 1 to 63 lower-case letters, digits and hyphens, no hyphen first."""
    return _NAME.fullmatch(text) is not None


def _checked(tenant: str) -> str:
    if not is_tenant_name(tenant):
        raise PermissionDenied("the caller's tenant has no valid name: expected lower-case letters, digits and hyphens")
    return tenant
