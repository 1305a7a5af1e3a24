"""The cost of sampling traces in the match stage: `python -m bench.traces [--rounds N]`.

Fetches of events in memory are matched against three default rules, in turn without and with sampling one of 64 traces.
"""

import argparse
import random
import sys
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from bench.evaluator import ROUND_EVENTS, Bench, Costs, as_columns
from services.evaluator.core.match.aggregation import match_events
from services.evaluator.core.match.traces import SampledTraces, sample_traces
from tocsin.logs.v1.log_event_pb2 import LogBatch

ONE_IN = 64
_SIZE = 500
_SERVICES = 20
_EVENTS_A_TRACE = 10
# A report every 5 seconds.
_ROUNDS_A_REPORT = 50


def traced(share: float) -> Callable[[LogBatch], bytes]:
    """Return how to encode a batch in which this share of the events names a trace of ten events."""
    chance = random.Random(11)  # noqa: S311  (the same traces each time)

    def encode(batch: LogBatch) -> bytes:
        ids = [f"{chance.getrandbits(128):032x}" for _ in range(len(batch.events) // _EVENTS_A_TRACE)]
        for event in batch.events:
            if chance.random() < share:
                event.trace_id = chance.choice(ids)
        return as_columns(batch)

    return encode


class TracesBench(Bench):
    """The match stage, without and with sampling in turn."""

    def measure(self, rounds: int) -> Costs:
        """Return the seconds of both."""
        sampled = SampledTraces(ONE_IN)
        for number in range(rounds):
            # The first of two rounds is not always the same one.
            for is_on in (number % 2 == 0, number % 2 != 0):
                events, _ = self.decoder.decode(self._fetch(ROUND_EVENTS // _SIZE))
                max_priority = sampled.max_priority if is_on else -1

                def act(max_priority: int = max_priority) -> None:
                    match_events(events, self.rules, self.sources)  # noqa: B023  (called at once)
                    sampled.add(sample_traces(events.columns, max_priority))  # noqa: B023  (called at once)

                self.costs.of("on" if is_on else "off", act)
                self._flush()
            if number % _ROUNDS_A_REPORT == 0:
                sampled.take()
        return self.costs


def main() -> None:
    """Measure three kinds of traffic, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.traces", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    given = parser.parse_args()
    table = Table(title=f"CPU µs per event, {ROUND_EVENTS:,} events per round, one of {ONE_IN} traces is sampled")
    for name in ("events that name a trace", "match", "match and sample", "added"):
        table.add_column(name, justify="right")
    for share in (0.0, 0.5, 1.0):
        bench = TracesBench(_SERVICES, _SIZE, encode=traced(share))
        seconds = bench.measure(given.rounds).seconds
        events = given.rounds * ROUND_EVENTS
        off, on = (seconds[each] / events * 1e6 for each in ("off", "on"))
        table.add_row(f"{share:.0%}", f"{off:.3f}", f"{on:.3f}", f"{on - off:.3f}")
    Console(highlight=False, width=None if sys.stdout.isatty() else 140).print(table)


if __name__ == "__main__":
    main()
