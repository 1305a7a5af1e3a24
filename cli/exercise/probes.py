"""Events that are sent all the time, each again until it is accepted, and what the channel was told of them."""

import http.client
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from cli.demo.steps import RestClient, RestError
from cli.exercise.report import Probe

REST_ERRORS = (RestError, OSError, http.client.HTTPException, ValueError)
# The default routes send LOW to it.
CHANNEL = "webhook"
TIMEOUT_S = 60.0
POLL_S = 0.1
# Each probe is of a service of its own: alerts of one service would join one incident, of which updates are bundled.
_SERVICE = "exercise-"
PROBE_RULE = {
    "name": "Exercise",
    "type": "CUSTOM",
    "filter": f'service.startsWith("{_SERVICE}")',
    "condition": "count >= threshold",
    "threshold": 1,
    "groupBy": "service",
    "windowMinutes": 1,
    "severity": "LOW",
}
_INTERVAL_S = 0.2
_RETRY_S = 0.1
_MAX_WAITING = 320
_Result = TypeVar("_Result")


class Probes:
    """The probes so far, each sent by a thread of its own until it is accepted, to one edge after the other."""

    def __init__(self, edges: Sequence[RestClient]) -> None:
        self._edges = edges
        self._probes: dict[int, Probe] = {}
        self._stop = threading.Event()

    def all(self) -> list[Probe]:
        """Return all probes, in the order in which they were first sent."""
        return list(self._probes.values())

    def stop(self) -> None:
        """Send no further probe."""
        self._stop.set()

    def send(self, pool: ThreadPoolExecutor) -> None:
        """Send a probe at each interval, until stopped."""
        for number in itertools.count():
            self._probes[number] = Probe(number=number, sent=time.monotonic())
            pool.submit(self._send_one, number)
            if self._stop.wait(_INTERVAL_S):
                return

    def _send_one(self, number: int) -> None:
        # Not an error: the default rules have nothing to say of it.
        event = {"service": f"{_SERVICE}{number}", "level": "INFO", "message": f"probe {number}"}
        edges = itertools.cycle(self._edges)
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                # Without a time of its own: one that is sent again is as new as ever.
                next(edges).post("/api/logs", event)
            except REST_ERRORS:
                time.sleep(_RETRY_S)
            else:
                self._probes[number] = replace(self._probes[number], accepted=time.monotonic())
                return


@contextmanager
def probing(edges: Sequence[RestClient]) -> Iterator[Probes]:
    """Send probes during the block; at its end wait until each is accepted, or has been tried for a minute."""
    probes = Probes(edges)
    with ThreadPoolExecutor(max_workers=_MAX_WAITING) as pool:
        sender = threading.Thread(target=probes.send, args=(pool,))
        sender.start()
        try:
            yield probes
        finally:
            probes.stop()
            sender.join()


class AcceptedDeliveries:
    """What the channels accepted. Each request asks for what came since the one before: there may be thousands."""

    def __init__(self, sinks: RestClient) -> None:
        self._sinks = sinks
        self._next = 0
        # How often the channel accepted that a probe's alert fires.
        self._of_probes: Counter[int] = Counter()
        # What was not about a probe.
        self._others: list[Any] = []

    def of_probes(self) -> Counter[int]:
        """Return how often the channel accepted that each probe's alert fires. Raises one of REST_ERRORS."""
        self._read()
        return self._of_probes

    def others(self) -> list[Any]:
        """Return what was accepted about anything but probes. Raises one of REST_ERRORS."""
        self._read()
        return self._others

    def _read(self) -> None:
        answer = until_done(lambda: self._sinks.get(f"/deliveries?accepted=true&first={self._next}"))
        self._next = answer["next"]
        for delivery in answer["deliveries"]:
            probe = _probe_of(delivery)
            if probe is None:
                self._others.append(delivery)
            elif delivery["kind"] == "FIRING":
                self._of_probes[probe] += 1


def _probe_of(delivery: Any) -> int | None:
    """Return the probe whose incident a delivery is about, if it is about one."""
    if delivery["channel"] != CHANNEL or not delivery["incident"]:
        return None
    service = str(delivery["body"]["incident"]["cause"]["service"])
    return int(service.removeprefix(_SERVICE)) if service.startswith(_SERVICE) else None


def until_done(call: Callable[[], _Result]) -> _Result:
    """Call until it succeeds; after a minute raise what it raises."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return call()
        except REST_ERRORS:
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_S)
