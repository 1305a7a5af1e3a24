"""Measure how far a consumer is behind."""

import time
from collections.abc import Mapping

from confluent_kafka import Consumer
from opentelemetry.metrics import CallbackOptions, Observation

from services.chassis import telemetry

_INTERVAL_SECONDS = 1.0


class Lag:
    """The records that each partition has and a consumer has not handled, measured every second."""

    def __init__(self, topic: str, group: str) -> None:
        self._labels = {"topic": topic, "group": group}
        self._lag: Mapping[int, int] = {}
        self._next_at = 0.0
        self.oldest_offsets: Mapping[int, int] = {}
        """By partition, the oldest record that was fetched and is not being handled, as far as there is one."""
        self.partition_count = 0
        """How many partitions the topic has; 0 while nobody has said so."""
        # A meter for each group: of two gauges with one name a meter would observe only the first.
        meter = telemetry.meter(f"{__name__}.{group}")
        meter.create_observable_gauge(
            "tocsin.kafka.topic.partitions",
            [self._observe_partitions],
            unit="{partition}",
            description="Partitions of a topic that a consumer group reads.",
        )
        meter.create_observable_gauge(
            "tocsin.kafka.consumer.lag",
            [self._observe],
            unit="{record}",
            description="Records of the partition that this instance has not handled.",
        )

    def measure(self, client: Consumer, starts: Mapping[int, int]) -> None:
        """Measure if a second has passed; `starts` are the offsets from which partitions were resumed."""
        now = time.monotonic()
        if now < self._next_at:
            return
        self._next_at = now + _INTERVAL_SECONDS
        lag = {}
        for place in client.position(client.assignment()):
            # A client has no position where it has not read yet.
            offset = place.offset if place.offset >= 0 else starts.get(place.partition)
            if offset is not None:
                offset = min(offset, self.oldest_offsets.get(place.partition, offset))
            _, end = client.get_watermark_offsets(place, cached=True)
            if offset is not None and end >= 0:
                lag[place.partition] = max(0, end - offset)
        self._lag = lag

    def reset(self) -> None:
        """Measure at the next call, and show nothing until then."""
        self._lag, self._next_at = {}, 0.0

    def _observe(self, _: CallbackOptions) -> list[Observation]:
        return [Observation(lag, {**self._labels, "partition": partition}) for partition, lag in self._lag.items()]

    def _observe_partitions(self, _: CallbackOptions) -> list[Observation]:
        return [Observation(self.partition_count, self._labels)] if self.partition_count else []
