"""Which partitions a consumer's lag is shown for."""

from collections.abc import Iterator
from typing import Any, cast

import confluent_kafka
import pytest
from confluent_kafka import OFFSET_INVALID, TopicPartition

from services.chassis import telemetry
from services.chassis.kafka.lag import Lag


class FakeClient:
    """Reads partitions of which each has 10 records."""

    def __init__(self) -> None:
        self.positions: dict[int, int] = {}

    def assignment(self) -> list[TopicPartition]:
        return [TopicPartition("alerts", partition) for partition in self.positions]

    def position(self, places: list[TopicPartition]) -> list[TopicPartition]:
        return [TopicPartition("alerts", place.partition, self.positions[place.partition]) for place in places]

    def get_watermark_offsets(self, _place: TopicPartition, **_: Any) -> tuple[int, int]:
        return 0, 10


@pytest.fixture(autouse=True)
def own_telemetry() -> Iterator[None]:
    with telemetry.telemetry("test", "i", ""):
        yield


def measure(lag: Lag, positions: dict[int, int], starts: dict[int, int]) -> list[str]:
    client = FakeClient()
    client.positions = positions
    lag.reset()
    lag.measure(cast("confluent_kafka.Consumer", client), starts)
    return shown()


def shown() -> list[str]:
    lines = telemetry.exposition()[0].decode().splitlines()
    return [line.split('partition="')[1] for line in lines if line.startswith("tocsin_kafka_consumer_lag{")]


def test_a_revoked_partition_is_no_longer_shown() -> None:
    lag = Lag("alerts", "g")
    assert measure(lag, {0: 3, 1: 4}, {}) == ['0",topic="alerts"} 7.0', '1",topic="alerts"} 6.0']
    assert measure(lag, {1: 4}, {}) == ['1",topic="alerts"} 6.0']
    lag.reset()
    assert shown() == []


def test_a_partition_that_is_not_read_yet_is_measured_from_where_it_was_resumed() -> None:
    lag = Lag("alerts", "g")
    assert measure(lag, {0: OFFSET_INVALID, 1: OFFSET_INVALID}, {0: 8}) == ['0",topic="alerts"} 2.0']


def test_what_was_fetched_and_is_not_handled_counts() -> None:
    lag = Lag("alerts", "g")
    lag.oldest_offsets = {0: 3, 2: 9}
    shown = measure(lag, {0: 8, 1: 8, 2: OFFSET_INVALID}, {})
    assert shown == ['0",topic="alerts"} 7.0', '1",topic="alerts"} 2.0']


def test_how_many_partitions_the_topic_has_is_shown_as_soon_as_it_is_known() -> None:
    lag = Lag("alerts", "g")

    def partitions() -> list[str]:
        lines = telemetry.exposition()[0].decode().splitlines()
        return [line for line in lines if line.startswith("tocsin_kafka_topic_partitions{")]

    assert partitions() == []
    lag.partition_count = 4
    assert partitions() == ['tocsin_kafka_topic_partitions{group="g",topic="alerts"} 4.0']
