"""What every keeper of groups' states does."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from services.chassis.kafka import Producer, producer
from services.chassis.settings import KafkaSettings
from services.evaluator.adapters.state import KafkaStateStore
from services.evaluator.core.partial import group_key
from services.evaluator.core.transition import State
from services.evaluator.ports import StateStore
from tests.fakes.evaluator import FIRED, MemoryStates
from tests.integration.evaluator.conftest import Topic, until

RESOLVED = replace(FIRED, id="2" * 32, state=State.RESOLVED, window=replace(FIRED.window, start_ns=10, end_ns=20))
OTHER = replace(FIRED, id="3" * 32, resource="b", group=("b",))


class StateStoreContract(ABC):
    @pytest.fixture
    @abstractmethod
    def store(self) -> StateStore: ...

    async def test_at_first_there_is_nothing(self, store: StateStore) -> None:
        assert {key: list(states) for key, states in (await store.load([0, 1])).items()} == {0: [], 1: []}

    async def test_the_last_state_of_each_group_is_kept_in_its_partition(self, store: StateStore) -> None:
        await store.save([(0, FIRED), (1, OTHER)])
        await store.save([(0, RESOLVED)])
        loaded = await store.load([0, 1])
        assert (list(loaded[0]), list(loaded[1])) == ([RESOLVED], [OTHER])

    async def test_what_is_forgotten_is_gone(self, store: StateStore) -> None:
        await store.save([(0, FIRED), (0, OTHER)])
        await store.forget([(0, "rule", ("a",))])
        assert list((await store.load([0]))[0]) == [OTHER]

    async def test_saving_twice_is_saving_once(self, store: StateStore) -> None:
        await store.save([(0, FIRED)])
        await store.save([(0, FIRED)])
        assert list((await store.load([0]))[0]) == [FIRED]


class TestMemoryStates(StateStoreContract):
    @pytest.fixture
    def store(self) -> StateStore:
        return MemoryStates()


@pytest.mark.integration
class TestKafkaStateStore(StateStoreContract):
    @pytest.fixture
    async def stream(self, kafka: str, topics: str) -> AsyncIterator[Producer]:
        settings = KafkaSettings(brokers=kafka, topic_prefix=topics, delivery_timeout=timedelta(seconds=10))
        async with producer(settings, "test") as opened:
            yield opened

    @pytest.fixture
    def store(self, kafka: str, topics: str, stream: Producer) -> StateStore:
        return KafkaStateStore(KafkaSettings(brokers=kafka, topic_prefix=topics), stream)

    async def test_an_owner_that_was_slow_to_notice_does_not_turn_back_time(self, store: StateStore) -> None:
        await store.save([(0, RESOLVED)])
        await store.save([(0, FIRED)])
        assert list((await store.load([0]))[0]) == [RESOLVED]

    async def test_compaction_can_remove_what_is_forgotten(self, store: StateStore, kafka: str, topics: str) -> None:
        await store.save([(0, FIRED)])
        await store.forget([(0, "rule", ("a",))])
        topic = Topic(kafka, topics + "window-state", 1)
        try:
            await until(lambda: len(topic.read()) == 2, "both are read")
        finally:
            topic.close()
        kept, forgotten = topic.records
        assert (kept.key(), forgotten.value()) == (forgotten.key(), None)

    async def test_what_former_versions_deleted_is_gone(self, store: StateStore, stream: Producer) -> None:
        await store.save([(0, FIRED)])
        await stream.send("window-state", b"", group_key("rule", ("a",)), 0)
        assert list((await store.load([0]))[0]) == []
