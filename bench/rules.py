"""The cost of rules: microseconds per event and rule, on batches as the evaluator fetches them.

`python -m bench.rules [events]`
"""

import sys
import time
from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pyarrow as pa

from services.domain.severity import Severity
from services.evaluator.core.match.bucketing import group_events
from services.evaluator.core.match.events import EventColumns, field_values
from services.evaluator.core.match.selection import compile_selection
from services.evaluator.core.window.condition import WindowValues, compile_condition
from services.rule_language.checking import check_condition, check_filter
from services.rule_language.rule import Draft, RuleType, complete

ROUNDS = 30
DEFAULT_EVENTS = 20_000
DEFAULTS = (RuleType.ERROR_THRESHOLD, RuleType.LATENCY_THRESHOLD, RuleType.ERROR_RATE)
FILTERS = (
    'service == "payment-service"',
    'level >= ERROR && service == "payment-service" && message.matches("timeout|refused")',
    'message.matches("timeout|refused")',
    'message.contains("timeout")',
    'attributes.region == "eu-1"',
    "level == FATAL && double(attributes.size) > 10.0",
    "double(attributes.size) > 10.0",
)
CONDITIONS = ("count > threshold", "rate > 0.05 && total > 100", "int(rate * 100.0) > 5")


def events(count: int) -> pa.RecordBatch:
    """Return events of twenty services; half have a response time, a third a status, a tenth are errors."""
    chance = np.random.default_rng(1)
    numbers = chance.integers(0, 1000, count)
    times = chance.gamma(2.0, 300.0, count)
    return pa.RecordBatch.from_pydict(
        {
            "service": pa.array([f"service-{n % 20}" if n % 7 else "payment-service" for n in numbers]),
            "level": pa.array([5 + n % 2 if n % 10 == 0 else 3 for n in numbers], pa.int32()),
            "message": pa.array(
                [f"request {n} to backend-{n % 13} took {n * 7} ms, {n % 3} retries left" for n in numbers]
            ),
            "status_code": pa.array([500 if n % 20 == 0 else 200 if n % 3 == 0 else None for n in numbers], pa.int32()),
            "response_time": pa.array(
                [t if n % 2 else None for n, t in zip(numbers, times, strict=True)], pa.float64()
            ),
            "attributes": pa.array(
                [[("region", f"eu-{n % 4}"), ("size", str(n))] for n in numbers], pa.map_(pa.string(), pa.string())
            ),
        }
    )


def seconds(work: Callable[[], object]) -> float:
    """Return the median time of many rounds."""
    work()
    taken = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def selection_cost(batch: pa.RecordBatch, filters: list[str]) -> float:
    """Return the microseconds per event and rule, without cached columns."""
    selections = [compile_selection(check_filter(text)) for text in filters]

    def work() -> None:
        columns = EventColumns.of(batch)
        for select in selections:
            select(columns, None)

    return seconds(work) / batch.num_rows / len(filters) * 1e6


def grouping_cost(batch: pa.RecordBatch) -> float:
    """Return the microseconds per event to group all events by service and read the values to aggregate."""

    def work() -> None:
        columns = EventColumns.of(batch)
        group_events(columns, ["service"])
        field_values(columns, "response_time")

    return seconds(work) / batch.num_rows * 1e6


def condition_cost(text: str) -> float:
    """Return the microseconds per window."""
    holds = compile_condition(check_condition(text))
    numbers = WindowValues(count=5, total=500, threshold=100.0)
    return seconds(lambda: [holds(numbers) for _ in range(1000)]) * 1e3


def default_filters() -> list[str]:
    """Return the filters of the three default rules."""
    drafts = [
        Draft(name=kind.name, type=kind, threshold=1.0, window=timedelta(minutes=5), severity=Severity.HIGH)
        for kind in DEFAULTS
    ]
    return [complete(draft).filter for draft in drafts]


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_EVENTS
    batch = events(count)
    print(f"{count} events a batch, median of {ROUNDS} rounds")
    print(f"{selection_cost(batch, default_filters()):8.4f} µs/event/rule  the three default rules")
    for text in FILTERS:
        print(f"{selection_cost(batch, [text]):8.4f} µs/event/rule  {text}")
    print(f"{grouping_cost(batch):8.4f} µs/event       group by service, response_time as numbers")
    for text in CONDITIONS:
        print(f"{condition_cost(text):8.4f} µs/window      {text}")


if __name__ == "__main__":
    main()
