"""Answers that need not be worked out again."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from services.manager.adapters.redis.asking import Asking
from services.manager.metrics import Metrics

# An answer that is larger costs more in Redis than it saves in PostgreSQL.
_MOST_BYTES = 1_048_576


class RedisAnswers:
    """Cache-aside; the key names the version, so nothing needs to be taken back and the TTL only clears away."""

    def __init__(self, asking: Asking, ttl: timedelta, metrics: Metrics) -> None:
        self._asking = asking
        self._ttl = ttl
        self._metrics = metrics

    async def get(self, key: str, work_out: Callable[[], Awaitable[bytes]]) -> bytes:
        """See Answers."""
        name = self._asking.key("answer", key)
        kept = await self._kept(name)
        self._metrics.looked_up(is_hit=kept is not None)
        if kept is not None:
            return kept
        answer = await work_out()
        if len(answer) <= _MOST_BYTES:
            await self._asking.ask(lambda client: client.set(name, answer, px=self._ttl))
        return answer

    async def _kept(self, name: str) -> bytes | None:
        async def work(client: Any) -> bytes | None:
            found: bytes | None = await client.get(name)
            return found

        return await self._asking.ask(work)
