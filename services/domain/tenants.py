"""The tenant in messages and records, where an empty name stands for the tenant of a system that has only one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

SOLE_TENANT = "default"


def read_tenant(text: str) -> str:
    """Return the tenant that a field of a message names."""
    return text or SOLE_TENANT


def write_tenant(tenant: str) -> str:
    """Return what the field says of a tenant."""
    return "" if tenant == SOLE_TENANT else tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantLimits:
    """A limit that holds for each tenant by itself; 0: there is none."""

    general: int = 0
    # Of tenants that have another one.
    own: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what a setting says: `1000,acme=5000`. Raises ValueError."""
        general, *others = text.split(",")
        pairs = [each.partition("=") for each in others]
        if not all(name and separator for name, separator, _ in pairs):
            raise ValueError("must be a number, and others as tenant=number, with commas")
        return cls(general=_limit(general), own={name: _limit(number) for name, _, number in pairs})

    def of(self, tenant: str) -> int:
        """Return a tenant's limit."""
        return self.own.get(tenant, self.general)


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"must be a number from 0 on, found {text!r}")
    return int(text)
