"""The ten rules of bench/peers/rules.py with Pathway: brokers, topic of events, topic of alerts, events, folder.

It runs in an environment of its own. It says `first`, with the number of events that it has seen by then, when it
begins, and `done` when it has seen all.
"""

import sys
from typing import Any

import pathway as pw

WINDOW_S = 60
SLOW_MS = 1000.0
FAILED = 500
THRESHOLD = 1000


class Event(pw.Schema):
    """An event as it stands in JSON; `time` is in seconds."""

    service: str
    level: str
    message: str
    statusCode: int | None = pw.column_definition(default_value=None)
    responseTime: float | None = pw.column_definition(default_value=None)
    region: str | None = pw.column_definition(default_value=None)
    time: float


def rules(events: pw.Table) -> dict[str, pw.Table]:
    """Return the events that each rule selects."""
    return {
        "all": events,
        "errors": events.filter(pw.this.level == "ERROR"),
        "severe": events.filter((pw.this.level == "ERROR") | (pw.this.level == "FATAL")),
        "slow": events.filter(pw.coalesce(pw.this.responseTime, 0.0) > SLOW_MS),
        "failed": events.filter(pw.coalesce(pw.this.statusCode, 0) >= FAILED),
        "timeouts": events.filter(pw.this.message.str.count("timeout") > 0),
        "deletes": events.filter(pw.this.message.str.count("DELETE") > 0),
        # Pathway has no regular expressions of its own; two substrings do the same here.
        "refused": events.filter(
            (pw.this.message.str.lower().str.count("refused") > 0)
            | (pw.this.message.str.lower().str.count("unreachable") > 0)
        ),
        "one-service": events.filter((pw.this.service == "openstack") & (pw.this.level == "WARN")),
        "one-region": events.filter(pw.coalesce(pw.this.region, "") == "eu-1"),
    }


def main() -> None:
    """Run until all events are counted; the caller ends it."""
    brokers, topic, alerts, expected, _ = sys.argv[1:]
    settings = {"bootstrap.servers": brokers, "group.id": f"{topic}-pathway", "auto.offset.reset": "earliest"}
    events = pw.io.kafka.read(
        settings,
        topic,
        schema=Event,
        format="json",
        json_field_paths={"region": "/attributes/region"},
        autocommit_duration_ms=100,
    )
    for name, selected in rules(events).items():
        counts = selected.windowby(
            pw.this.time, window=pw.temporal.tumbling(duration=WINDOW_S), instance=pw.this.service
        ).reduce(rule=name, service=pw.this._pw_instance, start=pw.this._pw_window_start, count=pw.reducers.count())
        pw.io.kafka.write(counts.filter(pw.this.count > THRESHOLD), settings, alerts, format="json")
    seen = 0

    def count(key: Any, row: dict[str, int], time: int, is_addition: bool) -> None:
        nonlocal seen
        if is_addition:
            if not seen:
                print("first", row["count"], flush=True)
            seen = row["count"]
            if seen >= int(expected):
                print("done", flush=True)

    pw.io.subscribe(events.reduce(count=pw.reducers.count()), count)
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)


if __name__ == "__main__":
    main()
