"""What the manager relies on from claims, and from answers that are kept."""

import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest

from services.chassis.clock import SystemClock
from services.chassis.redis import redis_client
from services.chassis.settings import RedisSettings, Secret
from services.chassis.telemetry import telemetry
from services.manager.adapters.redis.answers import RedisAnswers
from services.manager.adapters.redis.asking import Asking
from services.manager.adapters.redis.claims import RedisClaims
from services.manager.metrics import Metrics
from services.manager.ports.commands import Claims
from services.manager.ports.queries import Answers
from tests.fakes.manager import MemoryAnswers, MemoryClaims


class ClaimsContract(ABC):
    @pytest.fixture
    @abstractmethod
    def claims(self) -> Claims: ...

    async def test_each_is_claimed_once_until_released(self, claims: Claims) -> None:
        assert await claims.claim(["a", "b"]) == {"a", "b"}
        assert await claims.claim(["b", "c"]) == {"c"}
        await claims.release(["b", "unknown"])
        assert await claims.claim(["a", "b", "c"]) == {"b"}

    async def test_nothing_is_nothing(self, claims: Claims) -> None:
        assert await claims.claim([]) == frozenset()
        await claims.release([])


class AnswersContract(ABC):
    @pytest.fixture
    @abstractmethod
    def answers(self) -> Answers: ...

    async def test_an_answer_is_worked_out_once(self, answers: Answers) -> None:
        times = 0

        async def work_out() -> bytes:
            nonlocal times
            times += 1
            return b"\0bytes" * times

        assert [await answers.get("k", work_out) for _ in range(3)] == [b"\0bytes"] * 3
        assert await answers.get("other", work_out) == b"\0bytes\0bytes"

    async def test_an_empty_answer_is_one(self, answers: Answers) -> None:
        async def first() -> bytes:
            return b""

        async def second() -> bytes:
            return b"second"

        assert await answers.get("k", first) == await answers.get("k", second) == b""

    async def test_a_failure_is_passed_on_and_not_kept(self, answers: Answers) -> None:
        async def fail() -> bytes:
            raise LookupError

        async def work() -> bytes:
            return b"now"

        with pytest.raises(LookupError):
            await answers.get("k", fail)
        assert await answers.get("k", work) == b"now"


class TestMemoryClaims(ClaimsContract):
    @pytest.fixture
    def claims(self) -> Claims:
        return MemoryClaims()


class TestMemoryAnswers(AnswersContract):
    @pytest.fixture
    def answers(self) -> Answers:
        return MemoryAnswers()


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    with telemetry("manager", "test", ""):
        yield Metrics()


async def asking_at(url: str) -> AsyncIterator[Asking]:
    async with redis_client(RedisSettings(redis_url=Secret(url), redis_prefix=f"{uuid.uuid4().hex}.")) as cache:
        yield Asking(cache, SystemClock())


@pytest.mark.integration
class TestRedisClaims(ClaimsContract):
    @pytest.fixture
    async def claims(self, redis_url: str) -> AsyncIterator[Claims]:
        async for asking in asking_at(redis_url):
            yield RedisClaims(asking, timedelta(minutes=1))


@pytest.mark.integration
class TestRedisAnswers(AnswersContract):
    @pytest.fixture
    async def answers(self, redis_url: str, metrics: Metrics) -> AsyncIterator[Answers]:
        async for asking in asking_at(redis_url):
            yield RedisAnswers(asking, timedelta(minutes=1), metrics)


async def test_without_redis_nothing_is_claimed_and_answers_are_worked_out(metrics: Metrics) -> None:
    async for asking in asking_at("redis://127.0.0.1:1/0"):
        claims = RedisClaims(asking, timedelta(minutes=1))
        answers = RedisAnswers(asking, timedelta(minutes=1), metrics)

        async def work_out() -> bytes:
            return b"here"

        for _ in range(5):
            assert await claims.claim(["a"]) == frozenset()
            await claims.release(["a"])
            assert await answers.get("k", work_out) == b"here"
