"""The valid API keys as the manager knows them, and their uses: in its own table."""

from collections.abc import Mapping
from datetime import datetime

from services.access.key_snapshot import KeySnapshot
from services.access.keys import KeyRecord
from services.chassis.clock import Clock
from services.manager.core.api_keys import ApiKey
from services.manager.ports.access import ApiKeyReader
from services.manager.ports.tables import Store


class StoredKeySource:
    """Reads the keys when they have changed."""

    def __init__(self, store: Store, reader: ApiKeyReader, clock: Clock) -> None:
        self._store = store
        self._reader = reader
        self._clock = clock

    async def read(self, etag: str) -> KeySnapshot | None:
        if await self._reader.version() == etag:
            return None
        version, keys = await self._reader.list_valid(self._clock.now())
        return KeySnapshot(etag=version, keys={key.id: _record_of(key) for key in keys})

    async def report(self, uses: Mapping[str, datetime]) -> None:
        async with self._store.transaction() as transaction:
            await transaction.api_keys.write_uses(uses)


def _record_of(key: ApiKey) -> KeyRecord:
    return KeyRecord(
        id=key.id,
        secret_hash=key.secret_hash,
        name=key.name,
        role=key.role,
        tenant=key.tenant,
        services=frozenset(key.services),
        expire_time=key.expire_time,
    )
