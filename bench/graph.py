"""The cost of the graph of dependencies: CPU of relating one alert to many open ones, at its largest.

`python -m bench.graph [services] [edges] [alerts]`
"""

import random
import sys
import time
from collections.abc import Callable
from functools import partial

from services.manager.core.dependency_graph import DependencyEdge, DependencyGraph

SIZES = (5_000, 20_000, 10_000)
ROUNDS = 500
MAX_EDGES = 2
# Every system has services that very many others need.
HUBS = 5


def edges(services: int, count: int, chance: random.Random) -> list[DependencyEdge]:
    """Return random dependencies, a quarter of them on few services; there are circles among them."""
    found: set[tuple[int, int]] = set()
    while len(found) < count:
        target = chance.randrange(HUBS) if len(found) % 4 == 0 else chance.randrange(services)
        found.add((chance.randrange(services), target))
    return [DependencyEdge(service=f"service-{a}", depends_on=f"service-{b}") for a, b in sorted(found)]


def related(graph: DependencyGraph, service: str, open_alerts: list[str]) -> list[int]:
    """Return which of the open alerts, given by their services, are at most two edges away from a service."""
    around = graph.around(service, MAX_EDGES)
    return [index for index, other in enumerate(open_alerts) if other in around]


def cpu_ms(work: Callable[[], object]) -> float:
    """Return the milliseconds of CPU that the work takes."""
    start = time.process_time()
    work()
    return (time.process_time() - start) * 1000


def main() -> None:
    """Print the CPU of building the graph, of its circles, and of one alert, with and without a hub's."""
    given = [int(text) for text in sys.argv[1:]]
    services, count, alerts = [*given, *SIZES[len(given) :]]
    chance = random.Random(1)  # noqa: S311  (the same graph each time)
    found = edges(services, count, chance)
    graph = DependencyGraph(found)
    open_alerts = [f"service-{chance.randrange(services)}" for _ in range(alerts)]
    some = [f"service-{chance.randrange(services)}" for _ in range(ROUNDS)]
    hubs = [f"service-{number % HUBS}" for number in range(ROUNDS)]
    print(f"{services} services, {count} edges, {alerts} open alerts, at most {MAX_EDGES} edges; ms of CPU")
    print(f"{'':32}{'p50':>8}{'p99':>8}{'max':>8}")
    rows: dict[str, list[Callable[[], object]]] = {
        "build": [lambda: DependencyGraph(found)] * 10,
        "circles": [graph.circular_groups] * 10,
        "relate an alert": [partial(related, graph, name, open_alerts) for name in some],
        "relate an alert of a hub": [partial(related, graph, name, open_alerts) for name in hubs],
        "way between two services": [partial(graph.path, a, b, MAX_EDGES) for a, b in zip(some, hubs, strict=True)],
    }
    for name, work in rows.items():
        times = sorted(map(cpu_ms, work))
        p50, p99 = times[len(times) // 2], times[min(len(times) - 1, len(times) * 99 // 100)]
        print(f"{name:32}{p50:8.2f}{p99:8.2f}{times[-1]:8.2f}")


if __name__ == "__main__":
    main()
