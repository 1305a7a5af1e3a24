"""What the manager relies on from its caches, in memory and in Redis alike."""

import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest

from services.chassis.clock import SystemClock
from services.chassis.redis import redis_client
from services.chassis.settings import RedisSettings, Secret
from services.chassis.telemetry import telemetry
from services.chassis.tenants import as_tenant, current_tenant
from services.manager.adapters.redis import GuardedRedis, RedisDedupCache, RedisResponseCache
from services.manager.metrics import Metrics
from services.manager.ports.feeds import DedupCache, ResponseCache
from tests.fakes.manager_readers import MemoryDedupCache, MemoryResponseCache


class DedupCacheContract(ABC):
    @pytest.fixture
    @abstractmethod
    def dedup_cache(self) -> DedupCache: ...

    async def test_a_key_is_new_once_until_it_is_removed(self, dedup_cache: DedupCache) -> None:
        assert await dedup_cache.add(["a", "b"]) == {"a", "b"}
        assert await dedup_cache.add(["b", "c"]) == {"c"}
        await dedup_cache.remove(["b", "unknown"])
        assert await dedup_cache.add(["a", "b", "c"]) == {"b"}

    async def test_no_keys_are_no_keys(self, dedup_cache: DedupCache) -> None:
        assert await dedup_cache.add([]) == frozenset()
        await dedup_cache.remove([])


class ResponseCacheContract(ABC):
    @pytest.fixture
    @abstractmethod
    def response_cache(self) -> ResponseCache: ...

    async def test_a_response_is_computed_once(self, response_cache: ResponseCache) -> None:
        times = 0

        async def compute() -> bytes:
            nonlocal times
            times += 1
            return b"\0bytes" * times

        assert [await response_cache.get("k", compute) for _ in range(3)] == [b"\0bytes"] * 3
        assert await response_cache.get("other", compute) == b"\0bytes\0bytes"

    async def test_an_empty_response_is_cached(self, response_cache: ResponseCache) -> None:
        async def first() -> bytes:
            return b""

        async def second() -> bytes:
            return b"second"

        assert await response_cache.get("k", first) == await response_cache.get("k", second) == b""

    async def test_a_failure_is_passed_on_and_not_cached(self, response_cache: ResponseCache) -> None:
        async def fail() -> bytes:
            raise LookupError

        async def work() -> bytes:
            return b"now"

        with pytest.raises(LookupError):
            await response_cache.get("k", fail)
        assert await response_cache.get("k", work) == b"now"


class TestMemoryClaims(DedupCacheContract):
    @pytest.fixture
    def dedup_cache(self) -> DedupCache:
        return MemoryDedupCache()


class TestMemoryAnswers(ResponseCacheContract):
    @pytest.fixture
    def response_cache(self) -> ResponseCache:
        return MemoryResponseCache()


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    with telemetry("manager", "test", ""):
        yield Metrics()


async def redis_at(url: str) -> AsyncIterator[GuardedRedis]:
    async with redis_client(RedisSettings(redis_url=Secret(url), redis_prefix=f"{uuid.uuid4().hex}.")) as cache:
        yield GuardedRedis(cache, SystemClock())


@pytest.mark.integration
class TestRedisClaims(DedupCacheContract):
    @pytest.fixture
    async def dedup_cache(self, redis_url: str) -> AsyncIterator[DedupCache]:
        async for redis in redis_at(redis_url):
            yield RedisDedupCache(redis, timedelta(minutes=1))


@pytest.mark.integration
class TestRedisAnswers(ResponseCacheContract):
    @pytest.fixture
    async def response_cache(self, redis_url: str, metrics: Metrics) -> AsyncIterator[ResponseCache]:
        async for redis in redis_at(redis_url):
            yield RedisResponseCache(redis, timedelta(minutes=1), metrics)

    async def test_a_tenant_is_not_given_the_response_to_another_one(self, response_cache: ResponseCache) -> None:
        async def compute() -> bytes:
            return current_tenant().encode()

        assert await response_cache.get("k", compute) == b"default"
        with as_tenant("acme"):
            assert await response_cache.get("k", compute) == b"acme"
        assert await response_cache.get("k", compute) == b"default"


async def test_without_redis_no_key_is_new_and_responses_are_computed(metrics: Metrics) -> None:
    async for redis in redis_at("redis://127.0.0.1:1/0"):
        dedup_cache = RedisDedupCache(redis, timedelta(minutes=1))
        response_cache = RedisResponseCache(redis, timedelta(minutes=1), metrics)

        async def compute() -> bytes:
            return b"here"

        for _ in range(5):
            assert await dedup_cache.add(["a"]) == frozenset()
            await dedup_cache.remove(["a"])
            assert await response_cache.get("k", compute) == b"here"
