"""The tenant in messages and records, where an empty name stands for the tenant of a system that has only one."""

SOLE_TENANT = "default"


def read_tenant(text: str) -> str:
    """Return the tenant that a field of a message names."""
    return text or SOLE_TENANT


def write_tenant(tenant: str) -> str:
    """Return what the field says of a tenant."""
    return "" if tenant == SOLE_TENANT else tenant
