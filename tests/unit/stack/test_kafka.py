"""The broker of the local stack: when its topics outlive it."""

from pathlib import Path

import pytest

from stack.kafka import check_topics_kept
from stack.processes import Processes
from stack.topics import TOPICS


def test_a_partition_outlives_its_broker_once_its_id_is_written(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    for topic in TOPICS:
        for number in range(topic.partitions):
            partition = processes.data("kafka") / "log" / f"t.{topic.name}-{number}"
            with pytest.raises(ConnectionError, match=f"id of partition t.{topic.name}-{number} yet"):
                check_topics_kept(processes, "t.")
            partition.mkdir(parents=True)
            with pytest.raises(ConnectionError, match=f"id of partition t.{topic.name}-{number} yet"):
                check_topics_kept(processes, "t.")
            (partition / "partition.metadata").touch()
    check_topics_kept(processes, "t.")
