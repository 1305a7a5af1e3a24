"""Whose data: the tenant of the current call, or of the work that runs for a tenant outside of any call."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Generic, TypeVar

from services.chassis.callers import DEFAULT_TENANT, Caller, PermissionDenied, current_caller

__all__ = [
    "ALL_TENANTS",
    "DEFAULT_TENANT",
    "PerTenant",
    "as_tenant",
    "current_tenant",
    "is_tenant_name",
    "tenant_served",
]

# Of work on the data of all tenants; no tenant has this name.
ALL_TENANTS = "*"

_T = TypeVar("_T")
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


class PerTenant(Generic[_T]):
    """One of a kind for each tenant, made when it is first asked for."""

    def __init__(self, make: Callable[[], _T]) -> None:
        self._make = make
        self._made: dict[str, _T] = {}

    @property
    def mine(self) -> _T:
        """Return the current tenant's."""
        tenant = current_tenant()
        if tenant not in self._made:
            self._made[tenant] = self._make()
        return self._made[tenant]

    def all(self) -> list[tuple[str, _T]]:
        """Return those of all tenants that were asked for, with the tenants."""
        return list(self._made.items())


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
