"""What every keeper of groups' states does."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from services.chassis.kafka import producer
from services.chassis.settings import KafkaSettings
from services.domain.severity import Severity
from services.evaluator.adapters.state import KafkaStateStore
from services.evaluator.core.transition import Reason, State, Transition, Window
from services.evaluator.ports import StateStore
from tests.fakes.evaluator import MemoryStates

FIRED = Transition(
    id="1" * 32,
    state=State.FIRING,
    reason=Reason.RESTORED,
    rule_id="rule",
    selection_revision=1,
    rule_revision=2,
    rule_name="Errors",
    description="",
    severity=Severity.HIGH,
    resource="a",
    group=("a",),
    group_fields={"service": "a"},
    labels={},
    fingerprint="f",
    window=Window(
        start_ns=0,
        end_ns=10,
        count=3,
        total=4,
        sum=0.0,
        avg=None,
        min=None,
        max=None,
        condition="count > threshold",
        threshold=2.0,
        last_event_ns=None,
    ),
    first_window_ns=0,
    samples=(),
    created_ns=1,
)
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
    async def store(self, kafka: str, topics: str) -> AsyncIterator[StateStore]:
        settings = KafkaSettings(brokers=kafka, topic_prefix=topics, delivery_timeout=timedelta(seconds=10))
        async with producer(settings, "test") as stream:
            yield KafkaStateStore(settings, stream)

    async def test_an_owner_that_was_slow_to_notice_does_not_turn_back_time(self, store: StateStore) -> None:
        await store.save([(0, RESOLVED)])
        await store.save([(0, FIRED)])
        assert list((await store.load([0]))[0]) == [RESOLVED]
