"""The log lines that benchmarks send: those of a file, or generated ones of the same form without it."""

import json
import random
from datetime import UTC, datetime, timedelta
from itertools import cycle, islice
from pathlib import Path

from google.protobuf.json_format import MessageToDict

from cli.send.columns import columns_request
from cli.send.events import OutgoingEvent, TimeMode, events_to_send, parse_lines
from services.chassis.clock import SystemClock
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import IngestBatchRequest

OPENSTACK = Path(__file__).resolve().parents[2] / "shared" / "data" / "OpenStack_2k.log"
SAMPLE_LINES = 2000


def openstack_lines(path: Path = OPENSTACK) -> list[str]:
    """Return the lines of an OpenStack log (loghub's OpenStack_2k.log), or 2,000 generated lines in its form."""
    return path.read_text().splitlines() if path.is_file() else _generated_lines()


def openstack_events(path: Path = OPENSTACK) -> list[LogEvent]:
    """Return these lines as events, as `tocsin send --times arrival` sends them."""
    clock = SystemClock()
    _, parsed = parse_lines(iter(openstack_lines(path)), line_format=None, service="openstack", clock=clock)
    events = events_to_send(parsed, TimeMode.ARRIVAL, now=clock.now())
    return [sent.event for sent in events if isinstance(sent, OutgoingEvent)]


def batches(size: int, services: int = 0, path: Path = OPENSTACK) -> list[bytes]:
    """Return serialized requests of `size` events each, which together contain each line at least once.

    With `services` the events are spread over so many services instead of their own.
    """
    all_events = openstack_events(path)
    for number, event in enumerate(all_events if services else ()):
        event.service = f"service-{number % services}"
    source = cycle(all_events)
    count = -(-len(all_events) // size)
    return [IngestBatchRequest(events=islice(source, size)).SerializeToString() for _ in range(count)]


def columns(size: int, services: int = 0, path: Path = OPENSTACK) -> list[bytes]:
    """Return the same events as serialized requests of IngestColumns, compressed with Zstandard."""
    requests = map(IngestBatchRequest.FromString, batches(size, services, path))
    return [columns_request(request.events).SerializeToString() for request in requests]


def json_batches(size: int, path: Path = OPENSTACK) -> list[bytes]:
    """Return the same events as JSON arrays, as REST takes them."""
    requests = map(IngestBatchRequest.FromString, batches(size, path=path))
    events = ([MessageToDict(event) for event in request.events] for request in requests)
    return [json.dumps(each, separators=(",", ":")).encode() for each in events]


def _generated_lines() -> list[str]:
    chance = random.Random(1)  # noqa: S311 - nothing secret
    time = datetime(2017, 5, 16, tzinfo=UTC)
    lines = []
    for _ in range(SAMPLE_LINES):
        time += timedelta(milliseconds=chance.randrange(800))
        request = f"req-{chance.getrandbits(128):032x} {chance.getrandbits(128):032x} {chance.getrandbits(128):032x}"
        stamp = f"{time:%Y-%m-%d %H:%M:%S}.{time.microsecond // 1000:03d}"
        lines.append(
            f"nova-api.log.1 {stamp} 25746 INFO nova.osapi_compute.wsgi.server [{request} - - -] 10.11.10.1 "
            f'"GET /v2/{chance.getrandbits(128):032x}/servers/detail HTTP/1.1" status: 200 '
            f"len: {chance.randrange(200, 2000)} time: {chance.random():.7f}"
        )
    return lines
