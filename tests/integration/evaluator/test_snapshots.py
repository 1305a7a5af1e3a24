"""Killed with a long window open: it goes on from a snapshot, or without one from the records, with the same alert."""

import asyncio

import confluent_kafka
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from services.contract.topics import WINDOW_GROUP
from tests.fakes.rule_manager import a_rule
from tests.integration.evaluator.conftest import Evaluator, World, until
from tocsin.logs.v1.log_event_pb2 import LogEvent

pytestmark = pytest.mark.integration

# The service, for which every snapshot is due at once.
EAGER = """
from runpy import run_module
from services.evaluator.core.window import reading_history
from services.evaluator.worker import snapshots
reading_history._MAX_AGE_NS, snapshots._PAUSE_SECONDS = -1, 0.0
run_module("services.evaluator", run_name="__main__")
"""


def errors(count: int) -> list[LogEvent]:
    return [LogEvent(service="db", level=LogEvent.ERROR, message="no") for _ in range(count)]


def committed_metadata(world: World, partition: int) -> str:
    client = confluent_kafka.Consumer({"bootstrap.servers": world.brokers, "group.id": world.prefix + WINDOW_GROUP})
    try:
        (committed,) = client.committed([TopicPartition(world.prefix + "window-partials", partition)], timeout=5)
        return str(committed.metadata)
    finally:
        client.close()


async def snapshot_named(world: World, evaluator: Evaluator) -> int:
    """Wait until a checkpoint names a snapshot with a pane; return the partition."""

    def written() -> list[int]:
        return [each["partition"] for each in evaluator.events("snapshot_written") if each["panes"]]

    await until(lambda: bool(written()), "a snapshot is written")
    partition = written()[0]
    await until(lambda: '"snapshot"' in committed_metadata(world, partition), "a checkpoint names it")
    return partition


@pytest.mark.parametrize("is_gone", [False, True], ids=["whole", "gone"])
async def test_killed_with_an_open_window_of_a_day_it_fires_once(world: World, is_gone: bool) -> None:  # noqa: FBT001  (a parameter of the table)
    await world.manager.set(a_rule(window_minutes=1440))
    evaluator = await world.evaluator(program=("-c", EAGER), EVALUATOR_COMMIT="200ms")
    world.send(errors(60), 0)
    partition = await snapshot_named(world, evaluator)
    await evaluator.kill()
    if is_gone:
        place = TopicPartition(world.prefix + "window-snapshots", partition, -1)
        admin = AdminClient({"bootstrap.servers": world.brokers})
        await asyncio.to_thread(admin.delete_records([place])[place].result)
    await evaluator.start()
    world.send(errors(60), 1)
    await until(lambda: bool(world.fired()), "it has fired")
    assert world.fired() == {("rule-errors", "db"): 1}
    assert [each.window.count for each in world.transitions()] == [120]
    used = [each["partition"] for each in evaluator.events("snapshot_used")]
    begun = [each for each in evaluator.events("partitions_assigned") if each["topic"] == "window-partials"][-1]
    assert begun["offsets"][str(partition)] > 0
    ignored = [each["partition"] for each in evaluator.events("snapshot_ignored")]
    assert (partition in used, partition in ignored) == (not is_gone, is_gone)
