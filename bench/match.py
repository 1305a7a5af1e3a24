"""The cost of selecting events, by the number of rules: `python -m bench.match [--records N] [--profile SET]`.

Microseconds of CPU for each event of a fetch: all rules in one plan, and beside it each rule by itself.
"""

import argparse
import cProfile
import pstats
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from services.evaluator.core.match.events import EventColumns
from services.evaluator.core.match.plan import RulePlan
from services.evaluator.core.match.selection import compile_selection
from services.rule_language.checking import check_filter

RECORD_EVENTS = 500
FETCH_RECORDS = 30
SERVICES = 200
BACKENDS = 1000
ROUNDS = 15
# What would take longer by itself is not measured.
MAX_ALONE = 100

_FIELDS: list["pa.Field[Any]"] = [
    pa.field("service", pa.string()),
    pa.field("level", pa.int32()),
    pa.field("message", pa.string()),
    pa.field("status_code", pa.int32()),
    pa.field("response_time", pa.float64()),
    pa.field("host", pa.string()),
    pa.field("trace_id", pa.string()),
    pa.field("attributes", pa.map_(pa.string(), pa.string())),
]
SCHEMA = pa.schema(_FIELDS)

TEN = (
    "level >= ERROR",
    "response_time > 2000.0",
    "status_code >= 500",
    'service == "service-7" && level >= ERROR',
    'message.matches("(?i)out of memory|oomkilled")',
    'message.contains("connection refused")',
    'attributes.region == "eu-1" && status_code >= 500',
    'service == "service-9" && message.matches("timed out after [0-9]{4,} ms")',
    "level == FATAL",
    'host.startsWith("db-") && response_time > 1000.0',
)


def services(count: int) -> list[str]:
    """Return rules that each name a service."""
    return [f'service == "service-{number % SERVICES}" && level >= ERROR' for number in range(count)]


def patterns(count: int) -> list[str]:
    """Return rules with a regular expression and nothing else; one in all matches an event on average."""
    return [f'message.matches("backend-{number} (took|failed after) [0-9]+ ms.*retries")' for number in range(count)]


def templates(count: int) -> list[str]:
    """Return rules with a regular expression whose longest text is the same; one in all matches an event on average."""
    return [f'message.matches("backend-{number} .*retries left, session")' for number in range(count)]


def numbers(count: int) -> list[str]:
    """Return rules with a bound; one in all holds for an event on average."""
    return [f"response_time > {2000 + 2 * number}.0" for number in range(count)]


def events(count: int) -> pa.RecordBatch:
    """Return events of many services; half have a response time, a third a status, a tenth are errors."""
    chance = random.Random(1)  # noqa: S311  (the same events each time)
    rows = [_event(chance) for _ in range(count)]
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


def _event(chance: random.Random) -> dict[str, object]:
    number = chance.randrange(10**6)
    return {
        "service": f"service-{number % SERVICES}",
        "level": chance.choice([3, 3, 3, 3, 3, 3, 3, 4, 4, 5]),
        "message": f"POST /api/v2/orders/{number} from 10.1.{number % 250}.7 to backend-{chance.randrange(BACKENDS)} "
        f"took {chance.randrange(9000)} ms, {number % 3} retries left, session {chance.getrandbits(64):016x}",
        "status_code": chance.choice([None, None, chance.choice([200, 201, 404, 500])]),
        "response_time": chance.choice([None, chance.gammavariate(2.0, 300.0)]),
        "host": f"db-{number % 40}",
        "trace_id": f"{chance.getrandbits(128):032x}",
        "attributes": [("region", f"eu-{number % 4}"), ("pod", f"pod-{number % 300}"), ("version", "1.17.3")],
    }


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the least CPU time of several rounds."""
    work()
    taken = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return min(taken)


def together(filters: Sequence[str], batch: pa.RecordBatch) -> tuple[float, float, float]:
    """Return the seconds to compile and to select, and how many rules select an event on average."""
    began = time.process_time()
    plan = RulePlan({number: [check_filter(text)] for number, text in enumerate(filters)})
    compiling = time.process_time() - began
    selected = plan.select(EventColumns.of(batch)).rows.values()
    hits = sum(map(len, selected)) / batch.num_rows
    plan.compile()()
    return compiling, cpu_seconds(lambda: plan.select(EventColumns.of(batch))), hits


def alone(filters: Sequence[str], batch: pa.RecordBatch) -> float:
    """Return the seconds to select each rule's events by themselves; of many rules, some are measured."""
    step = -(-len(filters) // MAX_ALONE)
    selections = [compile_selection(check_filter(text)) for text in filters[::step]]

    def select() -> None:
        columns = EventColumns.of(batch)
        for selection in selections:
            selection(columns, None)

    return cpu_seconds(select) * len(filters) / len(selections)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", metavar="NAME", help="profile one set of rules")
    parser.add_argument("--records", type=int, default=FETCH_RECORDS, help="records of 500 events in a fetch")
    options = parser.parse_args()
    sets = {
        "ten": list(TEN),
        "services": services(1000),
        "patterns": patterns(1000),
        "templates": templates(1000),
        "mixed": [*services(1000), *patterns(1000), *numbers(1000)],
    }
    batch = events(options.records * RECORD_EVENTS)
    if options.profile:
        _profile(sets[options.profile], batch)
        return
    table = Table("rules", "count", "hits/event", "compile s", "together µs/event", "alone µs/event")
    for name, filters in sets.items():
        compiling, selecting, hits = together(filters, batch)
        by_rule = alone(filters, batch)
        figures = [selecting * 1e6 / batch.num_rows, by_rule * 1e6 / batch.num_rows]
        table.add_row(name, str(len(filters)), f"{hits:.2f}", f"{compiling:.2f}", *(f"{each:.3f}" for each in figures))
    Console().print(table)


def _profile(filters: Sequence[str], batch: pa.RecordBatch) -> None:
    plan = RulePlan({number: [check_filter(text)] for number, text in enumerate(filters)})
    plan.select(EventColumns.of(batch))
    plan.compile()()
    with cProfile.Profile() as profile:
        for _ in range(ROUNDS):
            plan.select(EventColumns.of(batch))
    pstats.Stats(profile).sort_stats("tottime").print_stats(18)


if __name__ == "__main__":
    main()
