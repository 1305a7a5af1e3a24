"""`window-snapshots`: what the window stage keeps of a partition, in records of bounded size.

The records of a snapshot are found by the offsets that the checkpoint names; other writers' records may be among them.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import confluent_kafka
import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from services.chassis.failures import StreamUnavailable
from services.chassis.kafka import Producer, consumer_config, physical
from services.chassis.kafka.config import AUTO_OFFSET_RESET, PARTITION_EOF
from services.chassis.settings import KafkaSettings
from services.contract.topics import WINDOW_SNAPSHOTS
from services.evaluator.adapters.messages import MalformedError
from services.evaluator.adapters.window_snapshots_wire import (
    decode_snapshot,
    encode_snapshot,
    joined_parts,
    part_values,
)
from services.evaluator.core.window.checkpoint import SnapshotName
from services.evaluator.core.window.snapshot import StageSnapshot

log = structlog.get_logger()

_METADATA_TIMEOUT_SECONDS = 5.0
_READ_TIMEOUT_SECONDS = 10.0
_BATCH_RECORDS = 50
# Nothing more comes of a partition after one of these: its records end before the last one, or are gone.
_ENDS = frozenset({PARTITION_EOF, AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})


class KafkaSnapshotStore:
    """Writes snapshots of partitions, and reads those that a checkpoint names."""

    def __init__(self, settings: KafkaSettings, producer: Producer) -> None:
        self._settings = settings
        self._producer = producer
        self._topic = physical(settings, WINDOW_SNAPSHOTS)

    async def save(self, partition: int, snapshot: StageSnapshot) -> SnapshotName:
        snapshot_id, values = await asyncio.to_thread(lambda: part_values(encode_snapshot(snapshot)))
        # One after the other: what waits for Kafka is bounded, and what is more urgent comes in between.
        offsets = [await self._producer.append(WINDOW_SNAPSHOTS, value, partition) for value in values]
        return SnapshotName(id=snapshot_id, first=offsets[0], last=offsets[-1], position=snapshot.position)

    async def load(self, names: Mapping[int, SnapshotName]) -> Mapping[int, StageSnapshot]:
        if not names:
            return {}
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="kafka-window-snapshots") as thread:
            return await loop.run_in_executor(thread, self._load, names)

    def _load(self, names: Mapping[int, SnapshotName]) -> dict[int, StageSnapshot]:
        snapshots: dict[int, StageSnapshot] = {}
        for partition, values in self._read(names).items():
            try:
                snapshots[partition] = _snapshot(values, names[partition])
            except MalformedError as error:
                log.warning("snapshot_ignored", partition=partition, reason=str(error))
        return snapshots

    def _read(self, names: Mapping[int, SnapshotName]) -> dict[int, list[bytes]]:
        """Return the values of the records of each partition from the first one to the last."""
        config = consumer_config(
            self._settings,
            "alert-rule-engine-snapshot-readers",
            enable_partition_eof=True,
            auto_offset_reset="error",
        )
        client = confluent_kafka.Consumer(config)
        values: dict[int, list[bytes]] = {partition: [] for partition in names}
        try:
            # Of a topic that does not exist nothing comes, not even an error.
            present = client.list_topics(self._topic, timeout=_METADATA_TIMEOUT_SECONDS).topics[self._topic].partitions
            unread = {partition: name.last for partition, name in names.items() if partition in present}
            client.assign([TopicPartition(self._topic, partition, names[partition].first) for partition in unread])
            self._read_to_end(client, unread, values)
        except KafkaException as error:
            raise StreamUnavailable("the snapshots of windows cannot be read") from error
        finally:
            client.close()
        return values

    def _read_to_end(self, client: Any, unread: dict[int, int], values: dict[int, list[bytes]]) -> None:
        while unread:
            messages = client.consume(_BATCH_RECORDS, timeout=0.1) or client.consume(1, timeout=_READ_TIMEOUT_SECONDS)
            if not messages:
                raise StreamUnavailable("the snapshots of windows cannot be read in time")
            for message in messages:
                partition, error = message.partition(), message.error()
                if error is not None and error.code() not in _ENDS:
                    raise KafkaException(error)
                if error is None and partition in unread:
                    values[partition].append(message.value() or b"")
                if error is not None or message.offset() >= unread.get(partition, 0):
                    unread.pop(partition, None)


def _snapshot(values: list[bytes], name: SnapshotName) -> StageSnapshot:
    snapshot = decode_snapshot(joined_parts(values, name.id))
    if snapshot.position != name.position:
        raise MalformedError(f"expected a snapshot of position {name.position}, got {snapshot.position}")
    return snapshot
