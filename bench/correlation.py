"""The cost of correlating one alert with many open ones, in memory: `python -m bench.correlation`.

By default 2,000 open incidents with 10,000 alerts in all, 5,000 services and 20,000 dependencies, with circles among
them. Every system has services that very many others need: a quarter of the dependencies are on five hubs.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from services.domain.severity import Severity
from services.manager.core.correlation import (
    CorrelationSettings,
    IncidentIndex,
    brought_together,
    correlate,
    probable_cause,
)
from services.manager.core.dependency_graph import DependencyEdge, DependencyGraph
from services.manager.core.incident import Incident, IncidentAlert, IncidentState

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
SETTINGS = CorrelationSettings(labels=("team", "region"))
HUBS = 5
TEAMS = 5000

_Input = TypeVar("_Input")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--incidents", type=int, default=2000)
    parser.add_argument("--alerts", type=int, default=10_000)
    parser.add_argument("--services", type=int, default=5000)
    parser.add_argument("--edges", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=2000)
    args = parser.parse_args()
    chance = random.Random(1)  # noqa: S311  (the same load each time)
    edges = make_edges(args.services, args.edges, chance)
    graph = DependencyGraph(edges)
    incidents = make_incidents(args.incidents, args.alerts, args.services, chance)
    started = time.process_time()
    index = IncidentIndex(incidents, [SETTINGS.labels])
    built = time.process_time() - started
    new = [make_alert(f"new {number}", args.services, chance) for number in range(args.rounds)]
    of_hubs = [make_alert(f"of a hub {number}", HUBS, chance) for number in range(args.rounds)]

    def relate(alert: IncidentAlert) -> None:
        correlate(alert, index, graph, SETTINGS)
        brought_together(alert, index, graph, SETTINGS)

    largest = [make_alert(f"of one {number}", args.services, chance) for number in range(1000)]
    rows = {
        "correlating an alert": measure(new, relate),
        "correlating an alert of a hub": measure(of_hubs, relate),
        "cause of an incident of 1,000 alerts": measure(
            [largest] * 20, lambda alerts: probable_cause(alerts, graph, SETTINGS.max_edges)
        ),
        "building the graph": measure([edges] * 20, DependencyGraph),
        "finding circles": measure([graph] * 20, DependencyGraph.circular_groups),
    }
    table = Table(
        title=f"{args.incidents} incidents, {args.alerts} alerts, {args.services} services, {args.edges} edges"
    )
    for column in ("CPU ms", "p50", "p99", "max"):
        table.add_column(column, justify="left" if column == "CPU ms" else "right")
    for name, times in rows.items():
        row = (np.percentile(times, 50), np.percentile(times, 99), times.max())
        table.add_row(name, *(f"{1000 * seconds:.2f}" for seconds in row))
    console = Console()
    console.print(f"Python {sys.version.split()[0]}; the index of all incidents took {1000 * built:.0f} ms to build")
    console.print(table)


def make_edges(services: int, count: int, chance: random.Random) -> list[DependencyEdge]:
    """Return random dependencies, a quarter of them on hubs, which have the first numbers."""
    made = set[tuple[int, int]]()
    while len(made) < count:
        target = chance.randrange(HUBS) if len(made) % 4 == 0 else chance.randrange(services)
        made.add((chance.randrange(services), target))
    return [DependencyEdge(service=f"service-{one}", depends_on=f"service-{other}") for one, other in sorted(made)]


def make_alert(name: str, services: int, chance: random.Random) -> IncidentAlert:
    """Return an alert of some service within 20 minutes."""
    service = f"service-{chance.randrange(services)}"
    return IncidentAlert(
        id=name,
        rule_name="High Error Rate",
        service=service,
        resource=f"service={service},host={chance.randrange(1000)}",
        severity=Severity.HIGH,
        labels={"team": f"team-{chance.randrange(TEAMS)}", "region": "eu"},
        fire_time=NOW + timedelta(seconds=chance.randrange(1200)),
    )


def make_incidents(count: int, alerts: int, services: int, chance: random.Random) -> list[Incident]:
    """Return incidents with these alerts in turn."""
    made = [make_alert(f"alert {number}", services, chance) for number in range(alerts)]
    return [
        Incident(
            id=f"incident {number}",
            state=IncidentState.OPEN,
            alerts={alert.id: alert for alert in made[number::count]},
            create_time=NOW,
            update_time=NOW,
            cause=made[number].id,
        )
        for number in range(count)
    ]


def measure(inputs: Iterable[_Input], function: Callable[[_Input], object]) -> NDArray[np.float64]:
    """Return the seconds of CPU of each call."""
    times = []
    for each in inputs:
        started = time.thread_time()
        function(each)
        times.append(time.thread_time() - started)
    return np.array(times)


if __name__ == "__main__":
    main()
