"""The evaluator as a process of its own, with a fake manager and a real Kafka."""

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from tests.fakes.rule_manager import FakeManager, default_rules
from tocsin.alerts.v1.alert_pb2 import AlertTransition
from tocsin.evaluation.v1.partial_pb2 import PartialBatch
from tocsin.logs.v1.log_event_pb2 import DeadLetter, LogBatch, LogEvent

PARTITIONS = 4


async def until(holds: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Wait for a condition with a deadline."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not await asyncio.to_thread(holds):
        assert loop.time() < deadline, f"timed out before {what}"
        await asyncio.sleep(0.02)


@dataclass
class Topic:
    """A topic that is read from its beginning."""

    brokers: str
    name: str
    partitions: int
    records: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._client = confluent_kafka.Consumer(
            {"bootstrap.servers": self.brokers, "group.id": "reader", "enable.auto.commit": False}
        )
        self._client.assign([TopicPartition(self.name, each, OFFSET_BEGINNING) for each in range(self.partitions)])

    def read(self) -> list[Any]:
        """Return all records so far."""
        self.records += [each for each in self._client.consume(10_000, 0.2) if each.error() is None]
        return self.records

    def close(self) -> None:
        self._client.close()


class Evaluator:
    """One process of the service."""

    def __init__(self, folder: Path, environ: dict[str, str], program: Sequence[str]) -> None:
        self._log = folder / "log.jsonl"
        self._environ = environ
        self._program = program
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *self._program,
                env={**os.environ, **self._environ},
                stdout=log,
                stderr=log,
            )

    async def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.wait()
        self._process = None

    async def terminate(self) -> int:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self._process.wait(), 20)

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        parsed = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in parsed if line.get("event") == name]

    async def close(self) -> None:
        if self._process is not None and self._process.returncode is None:
            await self.kill()


class World:
    """Everything around the evaluator."""

    def __init__(self, brokers: str, prefix: str, folder: Path, manager: FakeManager) -> None:
        self.brokers, self.prefix, self.folder, self.manager = brokers, prefix, folder, manager
        self._producer = confluent_kafka.Producer({"bootstrap.servers": brokers, "linger.ms": 0})
        self._alerts = Topic(brokers, prefix + "alerts", PARTITIONS)
        self._partials = Topic(brokers, prefix + "window-partials", PARTITIONS)
        self._letters = Topic(brokers, prefix + "log-events-dead-letter", 1)
        self._evaluators: list[Evaluator] = []

    async def evaluator(
        self, instance: str = "one", program: Sequence[str] = ("-m", "services.evaluator"), **settings: str
    ) -> Evaluator:
        """Start an instance."""
        folder = self.folder / instance
        folder.mkdir(exist_ok=True)
        made = Evaluator(
            folder,
            {
                "EVALUATOR_LISTEN": "127.0.0.1:0",
                "EVALUATOR_ADMIN_LISTEN": "127.0.0.1:0",
                "EVALUATOR_INSTANCE": instance,
                "EVALUATOR_BROKERS": self.brokers,
                "EVALUATOR_TOPIC_PREFIX": self.prefix,
                "EVALUATOR_MANAGER_TARGET": f"127.0.0.1:{self.manager.port}",
                "EVALUATOR_CACHE_DIR": str(folder / "cache"),
                "EVALUATOR_SHUTDOWN_DELAY": "0s",
                **settings,
            },
            program,
        )
        self._evaluators.append(made)
        await made.start()
        return made

    def send(self, events: Sequence[LogEvent], partition: int, headers: Any = None, ahead: float = 0.0) -> None:
        self.send_bytes(LogBatch(events=events).SerializeToString(), partition, headers, ahead)

    def send_bytes(self, value: bytes, partition: int, headers: Any = None, ahead: float = 0.0) -> None:
        """Write a record, as a host whose clock is so many seconds ahead does."""
        stamp = int((time.time() + ahead) * 1000)
        topic = self.prefix + "log-events"
        self._producer.produce(topic, value, partition=partition, headers=headers, timestamp=stamp)
        self._producer.flush(10)

    def sources_flushed(self) -> set[int]:
        """Return the partitions of `log-events` whose records reached the window stage."""
        batches = [PartialBatch.FromString(record.value()) for record in self._partials.read()]
        blocks = [block for batch in batches for block in batch.blocks]
        return {block.source_partition for block in blocks if block.HasField("max_event_time")}

    def transitions(self) -> list[AlertTransition]:
        """Return the transitions on `alerts`, each id once, as the manager applies them."""
        found: dict[str, AlertTransition] = {}
        for record in self._alerts.read():
            transition = AlertTransition.FromString(record.value())
            found.setdefault(transition.id, transition)
        return list(found.values())

    def alert_headers(self) -> list[dict[str, bytes]]:
        return [dict(record.headers() or ()) for record in self._alerts.read()]

    def fired(self) -> Counter[tuple[str, str]]:
        """Count the distinct firing transitions by rule and resource."""
        return Counter((each.rule_id, each.resource) for each in self.transitions() if each.state == each.FIRING)

    def resolved(self) -> Counter[tuple[str, str]]:
        return Counter((each.rule_id, each.resource) for each in self.transitions() if each.state == each.RESOLVED)

    def dead_letters(self) -> list[DeadLetter]:
        return [DeadLetter.FromString(record.value()) for record in self._letters.read()]

    async def close(self) -> None:
        for each in self._evaluators:
            await each.close()
        self._alerts.close()
        self._partials.close()
        self._letters.close()


@pytest.fixture
async def world(kafka: str, topics: str, tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        manager = FakeManager(*default_rules())
        await manager.start()
        stack.push_async_callback(manager.stop)
        made = World(kafka, topics, tmp_path, manager)
        stack.push_async_callback(made.close)
        yield made
