"""API keys and the audit log: their tables, in a transaction, and what is read of them outside of transactions."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from services.domain.audit_record import AuditRecord
from services.manager.core.api_keys import ApiKey, ApiKeyFilter
from services.manager.core.audit_filter import AuditFilter
from services.manager.ports.readers import Page


class ApiKeyTable(Protocol):
    """The API keys."""

    async def lock(self) -> None:
        """Be alone with the keys until this transaction ends; their version is another one after the commit."""

    async def count(self, now: datetime) -> int:
        """Return the number of keys that are valid; exact after `lock`."""

    async def get_for_update(self, tenant: str, key_id: str) -> ApiKey | None:
        """Return a tenant's key, which no other transaction changes until this one ends."""

    async def upsert(self, key: ApiKey) -> None:
        """Write a key after `lock`. Of a stored one only who revoked it, and when, changes."""

    async def write_uses(self, uses: Mapping[str, datetime]) -> None:
        """Write when keys were last used, by their ids, where that is later than what is stored; without `lock`."""


class AuditTable(Protocol):
    """The audit log."""

    async def insert(self, records: Sequence[AuditRecord]) -> Sequence[AuditRecord]:
        """Insert entries, each id once; return those that are new."""

    async def publish(self, records: Sequence[AuditRecord]) -> None:
        """Have entries published after the commit."""


class ApiKeyReader(Protocol):
    """The API keys as they are stored."""

    async def version(self) -> str:
        """Return a text that differs after each change of any key, and between databases; cheap."""

    async def list_valid(self, now: datetime) -> tuple[str, Sequence[ApiKey]]:
        """Return the valid keys of all tenants, as of one moment, and their version."""

    async def list_page(self, wanted: ApiKeyFilter, page: Page, now: datetime) -> Sequence[ApiKey]:
        """Return up to one key more than the page's size, the newest first, after `after` (ISO create time, id)."""


class AuditReader(Protocol):
    """The audit log as it is stored."""

    async def list_page(self, wanted: AuditFilter, page: Page) -> Sequence[AuditRecord]:
        """Return up to one entry more than the page's size, the newest first, after `after` (ISO create time, id)."""
