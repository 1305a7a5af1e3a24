"""Kafka goes and comes back: no alert is missed or published twice."""

import asyncio
from pathlib import Path

import pytest

from stack.testing import Servers, fresh_name
from tests.fakes.rule_manager import FakeManager, default_rules
from tests.integration.evaluator.conftest import PARTITIONS, World, until
from tests.integration.evaluator.test_pipeline import EXPECTED, scenario_events

pytestmark = pytest.mark.integration


async def test_kafka_goes_away_and_comes_back(own_servers: Servers, tmp_path: Path) -> None:
    brokers, prefix = own_servers.address("kafka"), fresh_name() + "."
    own_servers.create_topics(prefix)
    manager = FakeManager(*default_rules())
    await manager.start()
    world = World(brokers, prefix, tmp_path, manager)
    try:
        evaluator = await world.evaluator()
        await until(lambda: bool(evaluator.events("windows_restored")), "it runs")
        events = scenario_events()
        half = len(events) // 2
        for number, start in enumerate(range(0, half, 15)):
            world.send(events[start : start + 15], number % PARTITIONS)
        await asyncio.to_thread(own_servers.kill, "kafka")
        await until(lambda: bool(evaluator.events("dependency_lost")), "it has noticed")
        await asyncio.to_thread(own_servers.start, "kafka")
        for number, start in enumerate(range(half, len(events), 15)):
            world.send(events[start : start + 15], number % PARTITIONS)
        await until(lambda: len(world.fired()) == len(EXPECTED), "all three have fired", 60)
        assert world.fired() == EXPECTED
        assert not world.resolved()
        assert not evaluator.events("service_crashed")
    finally:
        await world.close()
        await manager.stop()
