"""Ingest is restarted under load, and no caller notices."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.ingest.rolling import Instance, envoy_before, ingest_wiring, steady_load

pytestmark = pytest.mark.integration


@pytest.fixture
def instances(tmp_path: Path, kafka: str, topics: str) -> Iterator[list[Instance]]:
    found = [Instance(tmp_path, ingest_wiring(kafka, topics), number) for number in (1, 2)]
    yield found
    for each in found:
        each.stop()


async def test_of_two_instances_each_can_stop_unnoticed_and_the_last_one_gives_a_retry_delay(
    instances: list[Instance], tmp_path: Path
) -> None:
    one, other = instances
    await asyncio.gather(*(asyncio.to_thread(each.start) for each in instances))
    with envoy_before([one.ports, other.ports], tmp_path) as port:
        async with steady_load(port) as answers:
            await asyncio.to_thread(one.stop)
            await asyncio.to_thread(one.start)
            await asyncio.to_thread(other.stop)
        assert set(answers) == {"OK"}, answers
        async with steady_load(port) as answers:
            await asyncio.to_thread(one.stop)
        assert set(answers) == {"OK", "UNAVAILABLE, again after 1 s"}, answers
