"""The ten rules of bench/peers/rules.py with Quix Streams: brokers, topic of events, topic of alerts, events, folder.

It runs in an environment of its own. It says `first`, with the number of events that it has seen by then, when it
begins, and `done` when it has seen all.
"""

import re
import sys
from collections.abc import Callable
from typing import Any

from quixstreams import Application

Event = dict[str, Any]
WINDOW_MS = 60_000
GRACE_MS = 30_000
SLOW_MS = 1000.0
FAILED = 500
THRESHOLD = 1000
REFUSED = re.compile("refused|unreachable", re.IGNORECASE)
RULES: dict[str, Callable[[Event], bool]] = {
    "all": lambda _: True,
    "errors": lambda event: event["level"] == "ERROR",
    "severe": lambda event: event["level"] in ("ERROR", "FATAL"),
    "slow": lambda event: (event.get("responseTime") or 0.0) > SLOW_MS,
    "failed": lambda event: (event.get("statusCode") or 0) >= FAILED,
    "timeouts": lambda event: "timeout" in event["message"],
    "deletes": lambda event: "DELETE" in event["message"],
    "refused": lambda event: REFUSED.search(event["message"]) is not None,
    "one-service": lambda event: event["service"] == "openstack" and event["level"] == "WARN",
    "one-region": lambda event: event.get("attributes", {}).get("region") == "eu-1",
}


def main() -> None:
    """Run until all events are seen and committed."""
    brokers, topic, alerts, events, folder = sys.argv[1:]
    application = Application(
        broker_address=brokers,
        consumer_group=f"{topic}-quix",
        auto_offset_reset="earliest",
        state_dir=folder,
        loglevel="WARNING",
        producer_extra_config={"compression.type": "lz4"},
    )
    output = application.topic(alerts)
    seen = 0

    def count(event: Event) -> Event:
        nonlocal seen
        seen += 1
        if seen == 1:
            print("first 1", flush=True)
        if seen == int(events):
            print("done", flush=True)
        return event

    parsed = application.dataframe(application.topic(topic, value_deserializer="json")).apply(count)
    for name, selects in RULES.items():
        counts = parsed[parsed.apply(selects)].tumbling_window(WINDOW_MS, GRACE_MS, name=name).count().current()
        counts[counts["value"] > THRESHOLD].to_topic(output)
    application.run(count=int(events), collect=False)


if __name__ == "__main__":
    main()
