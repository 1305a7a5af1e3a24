"""A guess at which fingerprints have no open alert."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from services.manager.adapters.redis.asking import Asking


class RedisClaims:
    """One key for each fingerprint that is taken to have an open alert."""

    def __init__(self, asking: Asking, ttl: timedelta) -> None:
        self._asking = asking
        self._ttl = ttl

    async def claim(self, fingerprints: Sequence[str]) -> frozenset[str]:
        """See Claims."""
        if not fingerprints:
            return frozenset()

        async def work(client: Any) -> list[Any]:
            pipeline = client.pipeline(transaction=False)
            for fingerprint in fingerprints:
                pipeline.set(self._key(fingerprint), b"1", nx=True, px=self._ttl)
            found: list[Any] = await pipeline.execute()
            return found

        answers = await self._asking.ask(work)
        if answers is None:
            return frozenset()
        return frozenset(name for name, is_new in zip(fingerprints, answers, strict=True) if is_new)

    async def release(self, fingerprints: Sequence[str]) -> None:
        """See Claims."""
        if fingerprints:
            await self._asking.ask(lambda client: client.delete(*map(self._key, fingerprints)))

    def _key(self, fingerprint: str) -> str:
        return self._asking.key("open", fingerprint)
