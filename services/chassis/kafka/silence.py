"""Notice that Kafka is silent: its connections are open, and nothing comes.

A frozen broker closes no connection, so a client reports no error before its requests time out after a minute. The
client's statistics say how long each broker has been silent, at no cost on the way of a record. A group that waits for
a slow member looks the same, so silence is only the occasion to ask Kafka.
"""

import json
from collections.abc import Callable
from typing import Any

_INTERVAL_MS = 1_000
_SILENT_MICROSECONDS = 5_000_000


def silence_config(on_silent: Callable[[], None]) -> dict[str, Any]:
    """Return the configuration of a client that calls `on_silent`, when polled, each second that Kafka is silent."""

    def handle(statistics: str) -> None:
        if is_silent(statistics):
            on_silent()

    return {"statistics.interval.ms": _INTERVAL_MS, "stats_cb": handle}


def is_silent(statistics: str) -> bool:
    """Return whether a request waits for its answer while no broker has said anything for 5 s."""
    brokers = json.loads(statistics)["brokers"].values()
    # -1: nothing was received on this connection yet.
    quiet = [broker["rxidle"] for broker in brokers if broker["rxidle"] >= 0]
    is_waiting = any(broker["waitresp_cnt"] for broker in brokers)
    return is_waiting and min(quiet, default=0) >= _SILENT_MICROSECONDS
