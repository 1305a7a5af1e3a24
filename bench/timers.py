"""`python -m bench.timers`: 10,000 escalation steps that are due in the same second, and two managers.

It opens so many incidents whose policy notifies after an hour, stops the manager, moves all of these times into one
second, and starts two managers. Every step must make one notification, and none two; what is printed is how long after
the due time the first and the last one were on Kafka.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
from confluent_kafka import Consumer

from bench.measures import read_counter
from bench.transitions import ends_of, send_firings
from cli.demo.steps import RestClient
from stack.console import print_step
from stack.local_system import start_stack, stop_stack
from stack.ports import Ports
from stack.processes import Processes
from stack.readiness import http_get
from stack.wiring import ROOT, Wiring, python_environ, service_environ
from tocsin.notifications.v1.notification_pb2 import Notification

_FOLDER = ROOT / ".run-bench-timers"
_POLICY = {"steps": [{"delay": "3600s", "receivers": ["webhook"]}]}
_TREE = {"root": {"withoutReceivers": True, "policy": "bench"}}
_TIMEOUT_S = 300.0
_UNTIL_DUE = timedelta(seconds=12)
_MOVE = """
UPDATE manager.incidents SET escalations = jsonb_set(escalations::jsonb, '{bench,due_time}', to_jsonb($1::text))::json
WHERE escalations::jsonb ? 'bench'
"""


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m bench.timers", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    count = parser.parse_args().count
    stop_stack(print_step, folder=_FOLDER, purge=True)
    ports = Ports.free()
    try:
        wiring = start_stack(lambda _: None, folder=_FOLDER, ports=ports, external={})
        _open_incidents(ports, count)
        processes = Processes(_FOLDER)
        for name in ("evaluator", "notifier", "manager"):
            processes.stop(name)
        due = datetime.now(UTC) + _UNTIL_DUE
        asyncio.run(_move(wiring.addresses.postgres, due))
        _measure(wiring, due, count)
    finally:
        stop_stack(print_step, folder=_FOLDER, purge=True)


def _open_incidents(ports: Ports, count: int) -> None:
    edge = RestClient(f"127.0.0.1:{ports.edge}")
    edge.put("/api/policies/bench", _POLICY)
    edge.put("/api/routing", {"tree": _TREE, "author": "bench", "comment": "for the benchmark"})
    send_firings(f"127.0.0.1:{ports.kafka}", "bench-timer-", count)
    deadline = time.monotonic() + _TIMEOUT_S
    while read_counter(ports.manager_admin, "tocsin_manager_incident_changes_total") < count:
        if time.monotonic() > deadline:
            raise TimeoutError("not all incidents were opened")
        time.sleep(0.5)


async def _move(url: str, due: datetime) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(_MOVE, due.isoformat())
    finally:
        await connection.close()


def _measure(wiring: Wiring, due: datetime, count: int) -> None:
    consumer = Consumer({"bootstrap.servers": wiring.addresses.kafka, "group.id": "bench-timers"})
    consumer.assign(ends_of(consumer, "notifications"))
    managers = [_start_manager(wiring, number) for number in (1, 2)]
    notified: Counter[str] = Counter()
    first = last = 0.0
    deadline = time.monotonic() + _TIMEOUT_S
    try:
        # What comes twice comes soon after.
        while time.monotonic() < deadline and (len(notified) < count or time.time() < last + 3):
            for message in consumer.consume(1000, timeout=0.2):
                if not message.error():
                    notified[Notification.FromString(message.value() or b"").subject_id] += 1
                    last = time.time()
                    first = first or last
    finally:
        consumer.close()
        for manager in managers:
            manager.terminate()
        for manager in managers:
            manager.wait(30)
    twice = sum(times > 1 for times in notified.values())
    sys.stdout.write(
        f"{count:,} steps due in one second, two managers: {len(notified):,} began, {twice:,} of them twice; the first "
        f"one {first - due.timestamp():.2f} s and the last one {last - due.timestamp():.2f} s after the due time\n"
    )


def _start_manager(wiring: Wiring, number: int) -> "subprocess.Popen[bytes]":
    ports = Ports.free()
    listen, admin = ports.manager, ports.manager_admin
    environ = service_environ("manager", wiring, Path(_FOLDER)) | {
        "MANAGER_LISTEN": f"127.0.0.1:{listen}",
        "MANAGER_ADMIN_LISTEN": f"127.0.0.1:{admin}",
        "MANAGER_INSTANCE": f"bench-{number}",
    }
    with (_FOLDER / f"manager-{number}.log").open("wb") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", "services.manager"],
            env=os.environ | python_environ() | environ,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    deadline = time.monotonic() + 60
    while True:
        try:
            http_get(admin, "/health")
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return started


if __name__ == "__main__":
    main()
