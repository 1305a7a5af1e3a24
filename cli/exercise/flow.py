"""The demo's scenario while a part fails: three alerts, each on its channels once, whatever happens in between.

Each failure has services of its own, so that its alerts are not those of another failure.
"""

import itertools
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from cli.demo.scenario import (
    EXPECTED_ALERTS,
    event_batches,
    missing_results,
    seconds_left_in_window,
    unexpected_results,
)
from cli.demo.steps import RestClient
from cli.exercise.probes import until_done

_BATCHES_BEFORE = 3
_MIN_LEFT_S = 60.0


class ScenarioFlow:
    """The scenario of one failure: a few batches before it, the others from the moment on in which it happens."""

    def __init__(self, edges: Sequence[RestClient], number: int) -> None:
        self._edges = itertools.cycle(edges)
        self._suffix = f"-{number}"
        moment = early_in_window(datetime.now(UTC)).isoformat()
        self._batches = [
            [{**event, "service": f"{event['service']}{self._suffix}", "eventTime": moment} for event in batch]
            for batch in event_batches()
        ]
        self._sender = threading.Thread(target=self._send, args=(self._batches[_BATCHES_BEFORE:],))
        # Whether a batch may have been taken although its answer was an error or was lost: it was sent again.
        self._is_ambiguous = False

    def begin(self) -> None:
        """Send the first batches; not enough for an alert."""
        self._send(self._batches[:_BATCHES_BEFORE])

    def go_on(self) -> None:
        """Send the others, each until it is accepted, in a thread of their own."""
        self._sender.start()

    def finish(self) -> None:
        """Wait until all batches are accepted."""
        self._sender.join()

    def differences(self, alerts: Sequence[Any], deliveries: Sequence[Any]) -> tuple[list[str], list[str]]:
        """Return what is missing of the three alerts and their deliveries, and what there is beyond them."""
        own = [self._as_in_demo(alert) for alert in alerts if alert["resource"].endswith(self._suffix)]
        ids = {alert["id"] for alert in own}
        taken = [delivery for delivery in deliveries if delivery["alert"] in ids]
        return missing_results(own, taken), unexpected_results(own, taken)

    def _as_in_demo(self, alert: Any) -> Any:
        named = {**alert, "resource": alert["resource"].removesuffix(self._suffix)}
        expected = [
            one for one in EXPECTED_ALERTS if (one.rule, one.resource) == (alert["ruleName"], named["resource"])
        ]
        if self._is_ambiguous and expected:
            # What was sent twice counts twice.
            count = min(int(alert["window"]["count"]), expected[0].counts[-1])
            named["window"] = {**alert["window"], "count": count}
        return named

    def _send(self, batches: Sequence[Sequence[Any]]) -> None:
        for batch in batches:
            until_done(lambda batch=batch: self._post(batch))  # type: ignore[misc]

    def _post(self, batch: Sequence[Any]) -> None:
        try:
            next(self._edges).post("/api/logs/batch", batch)
        except BaseException:
            self._is_ambiguous = True
            raise


def early_in_window(now: datetime) -> datetime:
    """Return this time, or the beginning of the next window when this one is nearly over."""
    left = seconds_left_in_window(now)
    return now if left > _MIN_LEFT_S else now + timedelta(seconds=left)
