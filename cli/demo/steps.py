"""The steps of the demo against a running system, over REST as curl uses it."""

import json
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cli.credentials import channel_with_credentials
from cli.demo.scenario import event_batches, missing_results, seconds_left_in_window, unexpected_results
from cli.send.events import TimeMode, events_to_send, parse_lines
from cli.send.log_file import LogFile, service_name_of
from cli.send.sender import SendSummary, send_events
from services.chassis.clock import SystemClock
from stack.readiness import http_get

# How long to wait for what is expected, and how long to watch afterwards for what is not.
RESULT_TIMEOUT_S = 30.0
WATCH_S = 3.0
# How many seconds of a window must be left when the scenario is sent.
MIN_WINDOW_LEFT_S = 10.0
_POLL_S = 0.1


class RestError(Exception):
    """A response with another status than 200."""


class RestClient:
    """Requests to one host and port, each on a connection of its own; with a context by TLS."""

    def __init__(
        self, address: str, context: ssl.SSLContext | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        self._address = address
        self._context = context
        self._headers = {"Content-Type": "application/json", **(headers or {})}

    def get(self, path: str) -> Any:
        """Return the JSON at a path. Raises RestError, or OSError when the server does not answer."""
        return self._request("GET", path, None)

    def post(self, path: str, body: Any) -> Any:
        """Return the JSON response to a JSON body. Raises RestError, or OSError when the server does not answer."""
        return self._request("POST", path, json.dumps(body))

    def put(self, path: str, body: Any) -> Any:
        """Return the JSON response to a JSON body. Raises RestError, or OSError when the server does not answer."""
        return self._request("PUT", path, json.dumps(body))

    def delete(self, path: str) -> Any:
        """Return the JSON response. Raises RestError, or OSError when the server does not answer."""
        return self._request("DELETE", path, None)

    def _request(self, method: str, path: str, body: str | None) -> Any:
        with closing(self._connection()) as connection:
            connection.request(method, path, body, self._headers)
            response = connection.getresponse()
            text = response.read().decode()
        if response.status != 200:  # noqa: PLR2004 - the only status that these paths promise
            raise RestError(f"{method} {path}: {response.status} {text}")
        return json.loads(text)

    def _connection(self) -> HTTPConnection:
        if self._context is None:
            return HTTPConnection(self._address, timeout=20)
        return HTTPSConnection(self._address, timeout=20, context=self._context)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What came of the scenario."""

    alerts: list[Any]
    deliveries: list[Any]

    @property
    def differences(self) -> list[str]:
        """What is missing and what is unexpected; empty when all is as expected."""
        missing = [f"missing: {text}" for text in missing_results(self.alerts, self.deliveries)]
        return missing + [f"not expected: {text}" for text in unexpected_results(self.alerts, self.deliveries)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SentFile:
    """What became of a file's lines."""

    name: str
    format_name: str
    lines: int
    blank: int
    summary: SendSummary


def send_scenario(edge: RestClient, on_progress: Callable[[str], None]) -> int:
    """Send the scenario through REST, and return the number of accepted events.

    The events have no time, so they happen on arrival, and must all be in one window of the default rules.
    """
    while (left := seconds_left_in_window(SystemClock().now())) < MIN_WINDOW_LEFT_S:
        on_progress(f"the next window of the rules begins in {left:.0f} s")
        time.sleep(min(left, 1.0))
    accepted = 0
    for batch in event_batches():
        accepted += int(edge.post("/api/logs/batch", batch)["acceptedCount"])
        on_progress(f"{accepted} events accepted over REST")
    return accepted


def await_results(edge: RestClient, sinks: RestClient, on_progress: Callable[[str], None]) -> DemoResult:
    """Wait until all that is expected has come, and a little longer for anything else."""
    deadline = time.monotonic() + RESULT_TIMEOUT_S
    result = _fetch_result(edge, sinks)
    while missing_results(result.alerts, result.deliveries) and time.monotonic() < deadline:
        on_progress(f"{len(result.alerts)} alerts, {len(result.deliveries)} deliveries so far")
        time.sleep(_POLL_S)
        result = _fetch_result(edge, sinks)
    on_progress("watching whether anything comes twice")
    deadline = time.monotonic() + WATCH_S
    while time.monotonic() < deadline and not result.differences:
        time.sleep(_POLL_S)
        result = _fetch_result(edge, sinks)
    return result


def send_log_file(server: str, path: Path) -> SentFile:
    """Send a log file as `tocsin send --times arrival` does. Raises OSError, grpc.RpcError."""
    clock = SystemClock()
    with closing(LogFile(path)) as file, channel_with_credentials(server) as channel:
        service = service_name_of(file.name)
        parser, parsed = parse_lines(file.lines(), line_format=None, service=service, clock=clock)
        events = events_to_send(parsed, TimeMode.ARRIVAL, now=clock.now())
        summary = send_events(channel, events, on_progress=lambda _: None)
        return SentFile(
            name=path.name, format_name=parser.name, lines=file.lines_read, blank=file.blank_lines, summary=summary
        )


def count_alerts(edge: RestClient) -> Counter[tuple[str, str]]:
    """Count the alerts of each rule and resource."""
    return Counter((alert["ruleName"], alert["resource"]) for alert in _alerts(edge))


def await_evaluated(admin_port: int, events: int) -> bool:
    """Return whether the evaluator on this admin port has evaluated so many events in time."""
    deadline = time.monotonic() + RESULT_TIMEOUT_S
    while count_evaluated(admin_port) < events:
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def count_evaluated(admin_port: int, context: ssl.SSLContext | None = None) -> int:
    """Return how many events the evaluator on this admin port has evaluated. Raises OSError."""
    text = http_get(admin_port, "/metrics", context).decode()
    values = [line.rsplit(" ", 1)[1] for line in text.splitlines() if line.startswith("events_evaluated_total")]
    return int(sum(map(float, values)))


def _fetch_result(edge: RestClient, sinks: RestClient) -> DemoResult:
    deliveries = sinks.get("/deliveries?accepted=true")["deliveries"]
    return DemoResult(alerts=list(_alerts(edge)), deliveries=deliveries)


def _alerts(edge: RestClient) -> Iterator[Any]:
    """Return every alert, whatever its state."""
    token = ""
    while True:
        page = edge.get(f"/api/alerts?pageSize=500&pageToken={quote(token)}")
        yield from page["alerts"]
        token = page.get("nextPageToken", "")
        if not token:
            return
