"""API keys and the audit log in memory, and what the tests of both need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from typing import Any

from services.domain.audit_record import AuditOutcome, AuditRecord
from services.domain.roles import Role
from services.manager.core.api_keys import ApiKey, ApiKeyFilter, ApiKeyState
from services.manager.core.audit_filter import AuditFilter
from services.manager.ports.readers import Page
from tests.fakes.transitions import NOW


def a_key(**changed: Any) -> ApiKey:
    values: dict[str, Any] = {
        "id": "aaaaaaaaaaaa",
        "tenant": "default",
        "name": "ci",
        "role": Role.EDITOR,
        "secret_hash": sha256(b"secret").digest(),
        "creator": "ann",
        "create_time": NOW,
    }
    return ApiKey(**values | changed)


def an_audit_record(**changed: Any) -> AuditRecord:
    values: dict[str, Any] = {
        "id": "record",
        "create_time": NOW,
        "tenant": "default",
        "actor": "ci",
        "actor_kind": "key",
        "actor_id": "aaaaaaaaaaaa",
        "role": "editor",
        "method": "tocsin.rules.v1.AlertRuleService/CreateAlertRule",
        "peer_address": "192.0.2.1",
        "outcome": AuditOutcome.DONE,
        "code": "OK",
        "service": "manager",
    }
    return AuditRecord(**values | changed)


@dataclass
class AccessRows:
    """The rows of both tables."""

    keys: dict[str, ApiKey] = field(default_factory=dict)
    revision: int = 0
    audit: dict[str, AuditRecord] = field(default_factory=dict)
    published: list[AuditRecord] = field(default_factory=list)


class MemoryApiKeys:
    def __init__(self, rows: AccessRows) -> None:
        self._rows = rows

    async def lock(self) -> None:
        self._rows.revision += 1

    async def count(self, now: datetime) -> int:
        return sum(key.state(now) is ApiKeyState.ACTIVE for key in self._rows.keys.values())

    async def get_for_update(self, tenant: str, key_id: str) -> ApiKey | None:
        key = self._rows.keys.get(key_id)
        return key if key and key.tenant == tenant else None

    async def upsert(self, key: ApiKey) -> None:
        stored = self._rows.keys.get(key.id, key)
        self._rows.keys[key.id] = replace(stored, revoke_time=key.revoke_time, revoker=key.revoker)

    async def write_uses(self, uses: Mapping[str, datetime]) -> None:
        for key in [self._rows.keys[key_id] for key_id in uses if key_id in self._rows.keys]:
            last = max(filter(None, (key.last_use_time, uses[key.id])))
            self._rows.keys[key.id] = replace(key, last_use_time=last)


class MemoryAudit:
    def __init__(self, rows: AccessRows) -> None:
        self._rows = rows

    async def insert(self, records: Sequence[AuditRecord]) -> Sequence[AuditRecord]:
        new = [record for record in records if record.id not in self._rows.audit]
        self._rows.audit |= {record.id: record for record in new}
        return new

    async def publish(self, records: Sequence[AuditRecord]) -> None:
        self._rows.published += records


class MemoryApiKeyReader:
    """Reads the rows of a store."""

    def __init__(self, store: Any) -> None:
        self._store = store

    @property
    def _rows(self) -> AccessRows:
        rows: AccessRows = self._store.tables.access
        return rows

    async def version(self) -> str:
        return f"memory.{self._rows.revision}"

    async def list_valid(self, now: datetime) -> tuple[str, Sequence[ApiKey]]:
        valid = [key for key in self._rows.keys.values() if key.state(now) is ApiKeyState.ACTIVE]
        return await self.version(), valid

    async def list_page(self, wanted: ApiKeyFilter, page: Page, now: datetime) -> Sequence[ApiKey]:
        newest = sorted(self._rows.keys.values(), key=lambda key: (key.create_time, key.id), reverse=True)
        after = (datetime.fromisoformat(page.after[0]), page.after[1]) if page.after else None
        rest = [key for key in newest if after is None or (key.create_time, key.id) < after]
        return [key for key in rest if wanted.selects(key, now)][: page.size + 1]


class MemoryAuditReader:
    """Reads the rows of a store."""

    def __init__(self, store: Any) -> None:
        self._store = store

    async def list_page(self, wanted: AuditFilter, page: Page) -> Sequence[AuditRecord]:
        rows: AccessRows = self._store.tables.access
        newest = sorted(rows.audit.values(), key=lambda each: (each.create_time, each.id), reverse=True)
        after = (datetime.fromisoformat(page.after[0]), page.after[1]) if page.after else None
        rest = [each for each in newest if after is None or (each.create_time, each.id) < after]
        return [each for each in rest if wanted.selects(each)][: page.size + 1]
