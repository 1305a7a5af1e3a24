"""What every store of snapshots does."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from services.chassis.failures import Failure
from services.chassis.kafka import Producer, producer
from services.chassis.settings import KafkaSettings
from services.contract.topics import WINDOW_SNAPSHOTS
from services.evaluator.adapters import window_snapshots, window_snapshots_wire
from services.evaluator.adapters.window_snapshots import KafkaSnapshotStore
from services.evaluator.ports import SnapshotStore
from tests.fakes.evaluator import MemorySnapshots
from tests.unit.evaluator.snapshots import plain, stage_with_everything
from tests.unit.evaluator.stage_driver import StageDriver, row

ONE = stage_with_everything().snapshot(0)


def another() -> StageDriver:
    driver = StageDriver.with_rules()
    driver.flush(row(1))
    return driver


OTHER = another().stage.snapshot(0)


class SnapshotStoreContract(ABC):
    @pytest.fixture
    @abstractmethod
    def store(self) -> SnapshotStore: ...

    async def test_a_snapshot_is_loaded_as_it_was_saved(self, store: SnapshotStore) -> None:
        name, other = await store.save(0, ONE), await store.save(1, OTHER)
        assert name.last > name.first
        assert (name.position, other.position) == (ONE.position, OTHER.position)
        loaded = await store.load({0: name, 1: other})
        assert {partition: plain(each) for partition, each in loaded.items()} == {0: plain(ONE), 1: plain(OTHER)}

    async def test_the_one_that_is_named_is_loaded_whatever_was_saved_since(self, store: SnapshotStore) -> None:
        names = [await store.save(0, each) for each in (ONE, OTHER, ONE)]
        assert len({name.first for name in names}) == 3
        for name, snapshot in zip(names, (ONE, OTHER, ONE), strict=True):
            assert plain((await store.load({0: name}))[0]) == plain(snapshot)

    async def test_records_of_another_among_its_own_are_passed_over(self, store: SnapshotStore) -> None:
        name = await store.save(0, ONE)
        last = await store.save(0, OTHER)
        assert plain((await store.load({0: replace(name, last=last.last)}))[0]) == plain(ONE)

    @pytest.mark.parametrize(
        "changed",
        [
            pytest.param({"first": 1}, id="its first record is not among them"),
            pytest.param({"last": 0}, id="its last record is not among them"),
            pytest.param({"first": 1000, "last": 1001}, id="its records are gone"),
            pytest.param({"id": "00" * 32}, id="another was written there"),
            pytest.param({"position": 1}, id="it is of another position"),
        ],
    )
    async def test_what_is_not_there_whole_is_left_out(self, store: SnapshotStore, changed: dict[str, int]) -> None:
        name, other = await store.save(0, ONE), await store.save(1, OTHER)
        assert set(await store.load({0: replace(name, **changed), 1: other})) == {1}  # type: ignore[arg-type]

    async def test_a_partition_that_the_topic_does_not_have_has_no_snapshots(self, store: SnapshotStore) -> None:
        name = await store.save(0, ONE)
        assert set(await store.load({0: name, 99: name})) == {0}

    async def test_nothing_is_asked_for_where_nothing_is_named(self, store: SnapshotStore) -> None:
        assert await store.load({}) == {}


class TestMemorySnapshots(SnapshotStoreContract):
    @pytest.fixture
    def store(self) -> SnapshotStore:
        return MemorySnapshots(max_bytes=1000)


@pytest.mark.integration
class TestKafkaSnapshotStore(SnapshotStoreContract):
    @pytest.fixture
    async def stream(self, kafka: str, topics: str) -> AsyncIterator[Producer]:
        settings = KafkaSettings(brokers=kafka, topic_prefix=topics, delivery_timeout=timedelta(seconds=10))
        async with producer(settings, "test") as opened:
            yield opened

    @pytest.fixture
    def store(self, kafka: str, topics: str, stream: Producer, monkeypatch: pytest.MonkeyPatch) -> SnapshotStore:
        monkeypatch.setattr(
            window_snapshots, "part_values", lambda content: window_snapshots_wire.part_values(content, max_bytes=1000)
        )
        return KafkaSnapshotStore(KafkaSettings(brokers=kafka, topic_prefix=topics), stream)

    async def test_foreign_records_among_its_own_are_passed_over(self, store: SnapshotStore, stream: Producer) -> None:
        name = await store.save(0, ONE)
        last = await stream.append(WINDOW_SNAPSHOTS, b"\xff of no version", 0)
        assert plain((await store.load({0: replace(name, last=last)}))[0]) == plain(ONE)

    async def test_without_the_topic_there_are_no_snapshots(self, kafka: str, store: SnapshotStore) -> None:
        name = await store.save(0, ONE)
        nowhere = KafkaSettings(brokers=kafka, topic_prefix="nowhere-", delivery_timeout=timedelta(seconds=1))
        async with producer(nowhere, "test") as stream:
            without = KafkaSnapshotStore(nowhere, stream)
            assert await without.load({0: name}) == {}
            with pytest.raises(Failure):
                await without.save(0, ONE)
