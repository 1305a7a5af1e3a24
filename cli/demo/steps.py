"""What the demo does with a running system."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc

from cli.demo.rest import Rest
from cli.demo.scenario import batches, missing, seconds_left, surplus
from cli.parsing.format_types import LineFormat
from cli.send.log_file import Source, Times, read, service_of, timed
from cli.send.sender import Tally, send
from services.chassis.clock import SystemClock

Progress = Callable[[str], None]

# How long to wait for what must come, and how long to watch afterwards for what must not.
PATIENCE = 30.0
WATCH = 3.0
# How many seconds of a window sending the trouble may take.
ROOM = 10.0
_PAUSE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What came of the trouble."""

    alerts: list[Any]
    deliveries: list[Any]

    @property
    def complaints(self) -> list[str]:
        """What is missing and what is too much; empty when all is as expected."""
        absent = [f"missing: {what}" for what in missing(self.alerts, self.deliveries)]
        return absent + [f"not expected: {what}" for what in surplus(self.alerts, self.deliveries)]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSent:
    """What became of a file's lines."""

    name: str
    form: str
    lines: int
    blank: int
    tally: Tally


def make_trouble(edge: Rest, progress: Progress) -> int:
    """Send the trouble through REST; the number of events.

    The events say no time, so they happen now, and must all fall into one window of the default rules.
    """
    while (left := seconds_left(SystemClock().now())) < ROOM:
        progress(f"the next window of the rules begins in {left:.0f} s")
        time.sleep(min(left, 1.0))
    sent = 0
    for batch in batches():
        sent += int(edge.post("/api/logs/batch", batch)["acceptedCount"])
        progress(f"{sent} events accepted over REST")
    return sent


def watch(edge: Rest, sinks: Rest, progress: Progress) -> Seen:
    """What the system makes of it: until all that is expected is there, and a little longer for anything else."""
    deadline = time.monotonic() + PATIENCE
    seen = _look(edge, sinks)
    while missing(seen.alerts, seen.deliveries) and time.monotonic() < deadline:
        progress(f"{len(seen.alerts)} alerts, {len(seen.deliveries)} deliveries so far")
        time.sleep(_PAUSE)
        seen = _look(edge, sinks)
    progress("watching whether anything comes twice")
    quiet_until = time.monotonic() + WATCH
    while time.monotonic() < quiet_until and not seen.complaints:
        time.sleep(_PAUSE)
        seen = _look(edge, sinks)
    return seen


def send_file(server: str, path: Path, kind: LineFormat | None = None) -> FileSent:
    """Send a log file as `tocsin send --times arrival` does. Raises OSError, grpc.RpcError."""
    clock = SystemClock()
    source = Source(path)
    try:
        reader, reads = read(source.lines(), kind=kind, service=service_of(source.name), clock=clock)
        with grpc.insecure_channel(server) as channel:
            tally = send(channel, timed(reads, Times.ARRIVAL, now=clock.now()), progress=lambda _: None)
    finally:
        source.close()
    return FileSent(name=path.name, form=reader.name, lines=source.lines_read, blank=source.blank_lines, tally=tally)


def fired(edge: Rest) -> Counter[tuple[str, str]]:
    """How many alerts there are of each rule and resource."""
    return Counter((alert["ruleName"], alert["resource"]) for alert in _alerts(edge))


def await_judged(metrics: Callable[[], float], events: int) -> bool:
    """Whether the evaluator has judged so many events in time."""
    deadline = time.monotonic() + PATIENCE
    while metrics() < events:
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)
    return True


def _look(edge: Rest, sinks: Rest) -> Seen:
    return Seen(alerts=list(_alerts(edge)), deliveries=sinks.get("/deliveries?accepted=true")["deliveries"])


def _alerts(edge: Rest) -> Iterator[Any]:
    """Every alert that there is, whatever its state."""
    token = ""
    while True:
        page = edge.get(f"/api/alerts?pageSize=500&pageToken={quote(token)}")
        yield from page["alerts"]
        token = page.get("nextPageToken", "")
        if not token:
            return
