"""The dependencies between services as a directed graph: an edge leads from a service to one that it depends on.

Real systems have circles, and names that nobody has described, so no algorithm here expects a tree: each visits a
service at most once, and none recurses. Distances are numbers of edges. An edge that people ignore is kept to be shown;
no algorithm follows it.

Correlating one alert with thousands of open ones asks once for the services around its own, `depends_on` and
`dependents` with a small number of edges, and then looks each open alert's service up in what they return.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

_Adjacency = Mapping[str, tuple[str, ...]]


class EdgeOrigin(StrEnum):
    """Where a dependency is known from; the names are those of the contract."""

    DECLARED = "DECLARED"
    LEARNED = "LEARNED"


class EdgeState(StrEnum):
    """What people say of a dependency; the names are those of the contract."""

    UNSPECIFIED = "STATE_UNSPECIFIED"
    CONFIRMED = "CONFIRMED"
    IGNORED = "IGNORED"


@dataclass(frozen=True, slots=True, kw_only=True)
class DependencyEdge:
    """A service, and one that it depends on."""

    service: str
    depends_on: str
    origin: EdgeOrigin = EdgeOrigin.DECLARED
    state: EdgeState = EdgeState.CONFIRMED

    @property
    def is_confirmed(self) -> bool:
        """Return whether people say that it is a dependency: they declared it, or confirmed what was learned."""
        return self.state is EdgeState.CONFIRMED


class DependencyGraph:
    """The graph of some edges; it does not change."""

    def __init__(self, edges: Iterable[DependencyEdge] = ()) -> None:
        self._edges: dict[str, list[DependencyEdge]] = {}
        targets: dict[str, dict[str, None]] = {}
        sources: dict[str, dict[str, None]] = {}
        names: dict[str, None] = {}
        for edge in edges:
            self._edges.setdefault(edge.service, []).append(edge)
            names[edge.service] = names[edge.depends_on] = None
            if edge.state is not EdgeState.IGNORED:
                targets.setdefault(edge.service, {})[edge.depends_on] = None
                sources.setdefault(edge.depends_on, {})[edge.service] = None
        self._targets: _Adjacency = {name: tuple(sorted(others)) for name, others in targets.items()}
        self._sources: _Adjacency = {name: tuple(sorted(others)) for name, others in sources.items()}
        self.names = names.keys()

    def edges_of(self, service: str) -> list[DependencyEdge]:
        """Return the edges that begin at a service, ignored ones too, in the order of names and origins."""
        return sorted(self._edges.get(service, ()), key=lambda edge: (edge.depends_on, edge.origin))

    def depends_on(self, service: str, max_edges: int) -> dict[str, int]:
        """Return the services that this one depends on over at most so many edges, with their distances."""
        return _distances(self._targets, service, max_edges)

    def dependents(self, service: str, max_edges: int) -> dict[str, int]:
        """Return the services that depend on this one over at most so many edges, with their distances."""
        return _distances(self._sources, service, max_edges)

    def path(self, service: str, other: str, max_edges: int) -> tuple[str, ...] | None:
        """Return a shortest way by which a service depends on another one, both included; the first by name of several.

        None when there is none of at most `max_edges` edges. From a service to itself it has no edge.
        """
        if service == other:
            return (service,)
        # The distances to the end tell at each step which ways are shortest.
        remaining = {other: 0, **self.dependents(other, max_edges)}
        if service not in remaining:
            return None
        way = [service]
        while way[-1] != other:
            closer = remaining[way[-1]] - 1
            way.append(next(name for name in self._targets[way[-1]] if remaining.get(name) == closer))
        return tuple(way)

    def around(self, service: str, depth: int) -> frozenset[str]:
        """Return a service, what it depends on, and what depends on it, over at most so many edges."""
        return frozenset({service, *self.depends_on(service, depth), *self.dependents(service, depth)})

    def circular_groups(self, within: frozenset[str] | None = None) -> list[frozenset[str]]:
        """Return the largest groups of services that all depend on each other; `within` limits the graph to some."""
        targets = self._targets
        if within is not None:
            targets = {name: tuple(filter(within.__contains__, targets.get(name, ()))) for name in within}
        return [group for group in _strong_groups(targets) if _is_circular(group, targets)]

    def roots(self) -> frozenset[str]:
        """Return the services that others depend on, and that depend on none but services that depend on them too."""
        groups = [
            group
            for group in _strong_groups(self._targets)
            if all(group.issuperset(self._targets.get(name, ())) for name in group)
        ]
        return frozenset(name for group in groups for name in group if name in self._sources)

    def circle(self, group: frozenset[str], first: str) -> tuple[str, ...]:
        """Return a shortest circle inside such a group that begins with one of its services; ValueError without one."""
        came_from: dict[str, str] = {}
        queue = deque([first])
        while queue:
            name = queue.popleft()
            for other in self._targets.get(name, ()):
                if other == first:
                    return _way_to(name, first, came_from)
                if other in group and other not in came_from:
                    came_from[other] = name
                    queue.append(other)
        raise ValueError("the group has no circle with this service")

    def cycles(self, within: frozenset[str] | None = None) -> list[tuple[str, ...]]:
        """Return a shortest circle of each group that begins with the group's first name, in their order."""
        return sorted(self.circle(group, min(group)) for group in self.circular_groups(within))


def _is_circular(group: frozenset[str], targets: _Adjacency) -> bool:
    return len(group) > 1 or any(name in targets.get(name, ()) for name in group)


def _way_to(name: str, first: str, came_from: Mapping[str, str]) -> tuple[str, ...]:
    way = [name]
    while way[-1] != first:
        way.append(came_from[way[-1]])
    return tuple(reversed(way))


def _distances(adjacency: _Adjacency, start: str, max_edges: int) -> dict[str, int]:
    """Return the distance of each service that is reached, without the start."""
    found: dict[str, int] = {}
    border = [start]
    for distance in range(1, max_edges + 1):
        following = []
        for name in border:
            for other in adjacency.get(name, ()):
                if other not in found and other != start:
                    found[other] = distance
                    following.append(other)
        if not following:
            break
        border = following
    return found


def _strong_groups(targets: _Adjacency) -> Iterator[frozenset[str]]:
    """Yield the strongly connected components (Kosaraju's algorithm, without recursion)."""
    sources: dict[str, list[str]] = {}
    for name, others in targets.items():
        for other in others:
            sources.setdefault(other, []).append(name)
    grouped: set[str] = set()
    for root in reversed(_finished(targets)):
        if root in grouped:
            continue
        grouped.add(root)
        group = [root]
        for name in group:
            new = [other for other in sources.get(name, ()) if other not in grouped]
            grouped.update(new)
            group += dict.fromkeys(new)
        yield frozenset(group)


def _finished(targets: _Adjacency) -> list[str]:
    """Return all services, each after those that it depends on, but for circles."""
    finished: list[str] = []
    seen: set[str] = set()
    for root in targets:
        if root in seen:
            continue
        seen.add(root)
        work = [(root, iter(targets[root]))]
        while work:
            name, others = work[-1]
            other = next((each for each in others if each not in seen), None)
            if other is None:
                work.pop()
                finished.append(name)
            else:
                seen.add(other)
                work.append((other, iter(targets.get(other, ()))))
    return finished
