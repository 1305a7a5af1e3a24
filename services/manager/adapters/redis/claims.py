"""A guess at which open keys have no open alert."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from services.manager.adapters.redis.asking import Asking


class RedisClaims:
    """One key for each open key that is taken to have an open alert."""

    def __init__(self, asking: Asking, ttl: timedelta) -> None:
        self._asking = asking
        self._ttl = ttl

    async def claim(self, keys: Sequence[str]) -> frozenset[str]:
        """See Claims."""
        if not keys:
            return frozenset()

        async def work(client: Any) -> list[Any]:
            pipeline = client.pipeline(transaction=False)
            for key in keys:
                pipeline.set(self._key(key), b"1", nx=True, px=self._ttl)
            found: list[Any] = await pipeline.execute()
            return found

        answers = await self._asking.ask(work)
        if answers is None:
            return frozenset()
        return frozenset(name for name, is_new in zip(keys, answers, strict=True) if is_new)

    async def release(self, keys: Sequence[str]) -> None:
        """See Claims."""
        if keys:
            await self._asking.ask(lambda client: client.delete(*map(self._key, keys)))

    def _key(self, open_key: str) -> str:
        return self._asking.key("open", open_key)
