"""What every store of groups' states does."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from services.chassis.kafka import Producer, producer
from services.chassis.settings import KafkaSettings
from services.evaluator.adapters.window_state import KafkaStateStore, encode_state
from services.evaluator.core.records import Transition, TransitionState, group_key
from services.evaluator.ports import StateStore
from tests.fakes.evaluator import FIRED, MemoryStates
from tests.integration.evaluator.conftest import Topic, until

RESOLVED = replace(
    FIRED, id="2" * 32, state=TransitionState.RESOLVED, window=replace(FIRED.window, start_ns=10, end_ns=20)
)
OTHER = replace(FIRED, id="3" * 32, resource="b", group=("b",))


A, B, C = "a" * 32, "b" * 32, "c" * 32


async def load(store: StateStore, owner: str) -> list[Transition]:
    """Load what this owner saved of partition 0; from then on it is C's."""
    return list((await store.load({0: owner}, {0: C}))[0])


async def compacted(kafka: str, topics: str) -> dict[bytes, tuple[bytes, bytes]]:
    """Return what compaction leaves of partition 0: the newest record of each key."""
    topic = Topic(kafka, topics + "window-state", 1)
    try:
        await until(lambda: len(topic.read()) >= 8, "all are read")
    finally:
        topic.close()
    newest = {record.key(): (record.value(), record.key()) for record in topic.records}
    return {key: record for key, record in newest.items() if record[0] is not None}


class StateStoreContract(ABC):
    @pytest.fixture
    @abstractmethod
    def store(self) -> StateStore: ...

    async def test_at_first_there_is_nothing(self, store: StateStore) -> None:
        by_partition = await store.load({0: "", 1: ""}, {0: A, 1: A})
        assert {key: list(states) for key, states in by_partition.items()} == {0: [], 1: []}

    async def test_the_last_state_of_each_group_is_kept_in_its_partition(self, store: StateStore) -> None:
        await store.load({0: "", 1: ""}, {0: A, 1: A})
        await store.save([(0, FIRED), (1, OTHER)])
        await store.save([(0, RESOLVED)])
        states = await store.load({0: A, 1: A}, {0: B, 1: B})
        assert (list(states[0]), list(states[1])) == ([RESOLVED], [OTHER])

    async def test_deleted_states_are_gone(self, store: StateStore) -> None:
        await store.load({0: ""}, {0: A})
        await store.save([(0, FIRED), (0, OTHER)])
        await store.delete([(0, "rule", ("a",))])
        assert await load(store, A) == [OTHER]

    async def test_saving_twice_is_saving_once(self, store: StateStore) -> None:
        await store.load({0: ""}, {0: A})
        await store.save([(0, FIRED)])
        await store.save([(0, FIRED)])
        assert await load(store, A) == [FIRED]

    async def test_a_new_owner_gets_the_states_of_the_former_which_count_until_the_new_one_is_committed(
        self, store: StateStore
    ) -> None:
        await store.load({0: ""}, {0: A})
        await store.save([(0, FIRED)])
        await store.load({0: A}, {0: B})
        await store.save([(0, RESOLVED)])
        # It ends before it is committed: the former owner's states count.
        assert await load(store, A) == [FIRED]
        await store.delete_former([0])
        assert await load(store, C) == [FIRED]
        assert await load(store, A) == []


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

    async def test_what_a_frozen_owner_writes_late_survives_no_compaction(
        self, store: StateStore, stream: Producer, kafka: str, topics: str
    ) -> None:
        """It wrote last, so an older state would be all that is left of a common key."""
        frozen = KafkaStateStore(KafkaSettings(brokers=kafka, topic_prefix=topics), stream)
        await frozen.load({0: ""}, {0: A})
        await frozen.save([(0, FIRED)])
        await store.load({0: A}, {0: B})
        await store.save([(0, RESOLVED), (0, OTHER)])
        await store.delete_former([0])
        await store.delete([(0, "rule", ("b",))])
        await frozen.save([(0, FIRED), (0, OTHER)])
        for value, key in (await compacted(kafka, topics)).values():
            await stream.send("window-state", value, key, 1)
        states = await store.load({1: B}, {1: C})
        assert list(states[1]) == [RESOLVED]

    async def test_states_of_former_versions_are_loaded(self, store: StateStore, stream: Producer) -> None:
        key = group_key("rule", ("a",))
        await stream.send("window-state", encode_state(RESOLVED), key, 0)
        # An owner that was slow to notice.
        await stream.send("window-state", encode_state(FIRED), key, 0)
        assert await load(store, "") == [RESOLVED]

    async def test_after_a_former_version_owned_the_partition_again_the_newest_of_all_states_count(
        self, store: StateStore, stream: Producer
    ) -> None:
        """It read the states of named owners too, and wrote only those that changed."""
        await store.load({0: ""}, {0: A})
        await store.save([(0, FIRED), (0, OTHER)])
        await store.delete_former([0])
        await stream.send("window-state", encode_state(RESOLVED), group_key("rule", ("a",)), 0)
        assert sorted(await load(store, ""), key=lambda state: state.group) == [RESOLVED, OTHER]

    async def test_compaction_can_remove_deleted_states(self, store: StateStore, kafka: str, topics: str) -> None:
        await store.load({0: ""}, {0: A})
        await store.save([(0, FIRED)])
        await store.delete([(0, "rule", ("a",))])
        topic = Topic(kafka, topics + "window-state", 1)
        try:
            await until(lambda: len(topic.read()) == 2, "both are read")
        finally:
            topic.close()
        saved, deleted = topic.records
        assert (saved.key(), deleted.value()) == (deleted.key(), None)

    async def test_what_former_versions_deleted_is_gone(self, store: StateStore, stream: Producer) -> None:
        await stream.send("window-state", encode_state(FIRED), group_key("rule", ("a",)), 0)
        await stream.send("window-state", b"", group_key("rule", ("a",)), 0)
        assert await load(store, "") == []
