"""The cost of sampling traces in the match stage: `python -m bench.traces [--rounds N]`.

Fetches of events in memory are matched against three default rules, in turn without and with sampling one of 64 traces.
The medians of all rounds are compared, so that what else runs on the machine matters little.
"""

import argparse
import random
import sys
import time
from dataclasses import replace
from statistics import median
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from bench.evaluator import ROUND_EVENTS, Bench, as_columns
from services.evaluator.core.match.aggregation import match_events
from services.evaluator.core.match.events import EventBatch, EventColumns
from services.evaluator.core.match.traces import SampledTraces, sample_traces

ONE_IN = 64
_SIZE = 500
_SERVICES = 20
_EVENTS_A_TRACE = 10
# A report every 5 seconds.
_ROUNDS_A_REPORT = 50


class TracesBench(Bench):
    """The match stage, without and with sampling in turn."""

    chance = random.Random(11)  # noqa: S311  (the same traces each time)

    def measure(self, rounds: int, share: float) -> tuple[float, float]:
        """Return the median of the seconds of CPU of a round without sampling, and of one with it."""
        sampled = SampledTraces(ONE_IN)
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for number in range(rounds):
            # The first of two rounds is not always the same one.
            for is_on in (number % 2 == 0, number % 2 != 0):
                events = self._traced(share)
                began = time.process_time()
                match_events(events, self.rules, self.sources)
                sampled.add(sample_traces(events, sampled.max_priority if is_on else -1))
                seconds[is_on].append(time.process_time() - began)
                self._flush()
            if number % _ROUNDS_A_REPORT == 0:
                sampled.take()
        return median(seconds[False]), median(seconds[True])

    def _traced(self, share: float) -> EventBatch:
        """Return a fetch of which a share of the events names traces of ten events each."""
        events, _ = self.decoder.decode(self._fetch(ROUND_EVENTS // _SIZE))
        ids = [f"{self.chance.getrandbits(128):032x}" for _ in range(ROUND_EVENTS // _EVENTS_A_TRACE)]
        named = [self.chance.choice(ids) if self.chance.random() < share else "" for _ in range(ROUND_EVENTS)]
        batch = events.columns.batch
        column: Any = pa.array(named, pa.string())
        columns = [column if field.name == "trace_id" else batch.column(field.name) for field in batch.schema]
        return replace(events, columns=EventColumns(pa.RecordBatch.from_arrays(columns, schema=batch.schema)))


def main() -> None:
    """Measure three kinds of traffic, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.traces", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    given = parser.parse_args()
    table = Table(title=f"CPU µs per event, {ROUND_EVENTS:,} events per round, one of {ONE_IN} traces is sampled")
    for name in ("events that name a trace", "match", "match and sample", "added"):
        table.add_column(name, justify="right")
    for share in (0.0, 0.5, 1.0):
        bench = TracesBench(_SERVICES, _SIZE, encode=as_columns)
        off, on = (seconds / ROUND_EVENTS * 1e6 for seconds in bench.measure(given.rounds, share))
        table.add_row(f"{share:.0%}", f"{off:.3f}", f"{on:.3f}", f"{on - off:.3f}")
    Console(highlight=False, width=None if sys.stdout.isatty() else 140).print(table)


if __name__ == "__main__":
    main()
