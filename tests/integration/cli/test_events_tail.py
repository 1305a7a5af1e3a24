"""`tocsin events tail` on a real Kafka."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import Producer

from cli.client import ExitCode
from services.contract.event_columns import EVENT_SCHEMA, encode_log_batch
from tocsin.logs.v1.log_event_pb2 import LogBatch, LogEvent

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]
Send = Callable[..., None]


def columns(*services: str) -> bytes:
    fields = {"record_id": "", "level": 5, "message": "in columns", "host": "", "trace_id": "", "attributes": []}
    rows = [fields | {"service": service} for service in services]
    return encode_log_batch(pa.RecordBatch.from_pylist(rows, schema=EVENT_SCHEMA))


def singly(*services: str) -> bytes:
    events = [LogEvent(service=service, level=LogEvent.INFO, message="one by one") for service in services]
    return LogBatch(events=events).SerializeToString()


@pytest.fixture
def send(kafka: str, topics: str) -> Send:
    """Write a record to a partition of log-events."""
    producer = Producer({"bootstrap.servers": kafka})

    def produce(value: bytes, partition: int = 0) -> None:
        producer.produce(topics + "log-events", value, partition=partition)
        assert producer.flush(10) == 0

    return produce


@pytest.fixture
def command(kafka: str, topics: str) -> list[str]:
    start = [sys.executable, "-m", "cli", "events", "tail", "-o", "json"]
    return [*start, "--kafka", kafka, "--topic-prefix", topics]


def run(command: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def services_of(output: str) -> list[Any]:
    return [json.loads(line)["service"] for line in output.splitlines()]


def test_all_forms_are_read_from_the_beginning(command: list[str], send: Send) -> None:
    send(singly("a", "b"))
    send(b"\xff\xff")
    send(columns("c", "d"))
    done = run(command, "--from-beginning", "--limit", "4")
    assert done.returncode == ExitCode.DONE
    assert services_of(done.stdout) == ["a", "b", "c", "d"]
    assert "log-events, partition 0, offset 1 cannot be read: it is no LogBatch" in done.stderr


def test_a_filter_selects_and_the_limit_counts_what_it_selected(command: list[str], send: Send) -> None:
    send(singly("a"))
    send(columns("b", "c"))
    done = run(command, "--from-beginning", "--limit", "1", "--filter", 'level >= ERROR && service != "b"')
    assert services_of(done.stdout) == ["c"]


def test_new_events_of_all_partitions_follow_until_ctrl_c(command: list[str], send: Send) -> None:
    send(singly("before"))
    enough = threading.Event()

    def keep_sending() -> None:
        while not enough.wait(0.1):
            for partition in range(4):
                send(columns(f"after-{partition}"), partition)

    sender = threading.Thread(target=keep_sending)
    sender.start()
    try:
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            seen: set[str] = set()
            while len(seen) < 4:
                seen.update(services_of(process.stdout.readline()))
            process.send_signal(signal.SIGINT)
            seen.update(services_of(process.stdout.read()))
    finally:
        enough.set()
        sender.join()
    assert seen == {f"after-{partition}" for partition in range(4)}
    assert process.returncode == ExitCode.DONE


def test_without_the_topic_the_command_ends(kafka: str) -> None:
    environ = {**os.environ, "TOCSIN_KAFKA": kafka}
    command = [sys.executable, "-m", "cli", "events", "tail", "--topic-prefix", "nobody."]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == ExitCode.REFUSED
    assert done.stderr == f"{kafka}: NOT_FOUND: there is no topic nobody.log-events\n"
