"""Of many records a bounded part is in flight."""

from typing import Any

import pytest

from services.chassis.failures import StreamUnavailable
from services.chassis.kafka import OutgoingRecord, produce_all
from services.chassis.kafka.producing import MAX_IN_FLIGHT_BYTES
from tests.fakes.kafka_producer import SlowProducer


async def test_more_than_a_producer_holds_goes_in_parts() -> None:
    producer: Any = SlowProducer()
    record = bytes(1024 * 1024)
    await produce_all(producer, (OutgoingRecord("alerts", record) for _ in range(300)))
    assert len(producer.records) == 300
    assert producer.most_in_flight <= MAX_IN_FLIGHT_BYTES + len(record)


async def test_deletes_are_bounded_though_they_have_no_bytes() -> None:
    producer: Any = SlowProducer()
    await produce_all(producer, (OutgoingRecord("window-state", None) for _ in range(50_000)))
    assert len(producer.records) == 50_000


async def test_after_a_failure_nothing_is_in_flight_and_nothing_more_is_handed_over() -> None:
    producer: Any = SlowProducer(fails_at=2)
    with pytest.raises(StreamUnavailable):
        await produce_all(producer, (OutgoingRecord("alerts", bytes(1024 * 1024)) for _ in range(300)))
    assert producer.in_flight == 0
    assert len(producer.records) <= 5
