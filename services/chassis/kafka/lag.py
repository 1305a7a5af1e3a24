"""How far a member of a group is behind."""

import time

from confluent_kafka import Consumer, KafkaException, TopicPartition
from opentelemetry.metrics import CallbackOptions, Observation

from services.chassis import telemetry

_EVERY_SECONDS = 1.0
_ANSWER_SECONDS = 1.0


class Lag:
    """Records between what this member has taken and the end of each of its partitions, measured every second."""

    def __init__(self, topic: str, group: str) -> None:
        self.group = group
        self._labels = {"topic": topic, "group": group}
        self._lag: dict[int, int] = {}
        self._starts: dict[int, int] = {}
        self._due = 0.0
        # A meter for each group: of two gauges with one name a meter would ask only the first.
        telemetry.meter(f"{__name__}.{group}").create_observable_gauge(
            "tocsin.kafka.consumer.lag",
            [self._observe],
            unit="{record}",
            description="Records between what this instance has taken and the end of the partition.",
        )

    def forget(self) -> None:
        """Begin anew, because other partitions are assigned."""
        self._lag, self._starts = {}, {}

    def measure(self, client: Consumer) -> None:
        """Measure when it is time to; called on the client's thread."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + _EVERY_SECONDS
        for where in client.position(client.assignment()):
            _, high = client.get_watermark_offsets(where, cached=True)
            taken = where.offset if where.offset >= 0 else self._start(client, where)
            if taken is None:
                return
            if high >= 0:
                self._lag[where.partition] = max(0, high - taken)

    def _start(self, client: Consumer, where: TopicPartition) -> int | None:
        """Say where a partition begins of which nothing has come yet; None when the broker does not tell in time."""
        if where.partition not in self._starts:
            try:
                (committed,) = client.committed([where], timeout=_ANSWER_SECONDS)
                low, _ = client.get_watermark_offsets(where, timeout=_ANSWER_SECONDS)
            except KafkaException:
                return None
            self._starts[where.partition] = max(committed.offset, low)
        return self._starts[where.partition]

    def _observe(self, _: CallbackOptions) -> list[Observation]:
        lag = dict(self._lag)
        return [Observation(behind, {**self._labels, "partition": partition}) for partition, behind in lag.items()]
