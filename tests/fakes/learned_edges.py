"""Learned dependencies in memory, and what tests need of them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from services.manager.core.learned_edges import LearnedChanges, LearnedEdge, ServicePair, TraceSighting
from tests.fakes.transitions import NOW


@dataclass
class LearnedRows:
    """The rows of the learned edges and of the traces, with the time of their report."""

    edges: dict[ServicePair, LearnedEdge] = field(default_factory=dict)
    sightings: dict[tuple[str, str], tuple[TraceSighting, datetime]] = field(default_factory=dict)
    revision: int = 0


class MemoryLearnedEdges:
    def __init__(self, rows: LearnedRows) -> None:
        self._rows = rows

    async def lock(self) -> None:
        """A transaction in memory is alone anyway."""

    async def count(self) -> int:
        return len(self._rows.edges)

    async def load(self, pairs: Collection[ServicePair]) -> Mapping[ServicePair, LearnedEdge]:
        return {pair: edge for pair, edge in self._rows.edges.items() if pair in pairs}

    async def load_all(self) -> Mapping[ServicePair, LearnedEdge]:
        return dict(self._rows.edges)

    async def save(self, changes: LearnedChanges) -> None:
        self._rows.edges |= {edge.pair: edge for edge in changes.written}
        for pair in changes.deleted:
            self._rows.edges.pop(pair, None)
        self._rows.revision += changes.is_graph_changed


class MemoryTraces:
    def __init__(self, rows: LearnedRows) -> None:
        self._rows = rows

    async def count(self) -> int:
        return len(self._rows.sightings)

    async def upsert(self, sightings: Sequence[TraceSighting], now: datetime) -> None:
        for each in sightings:
            before, reported = self._rows.sightings.get((each.trace_id, each.service), (each, now))
            first = replace(each, first_time=min(each.first_time, before.first_time))
            self._rows.sightings[each.trace_id, each.service] = first, reported

    async def take_closed(self, before: datetime, limit: int) -> Sequence[TraceSighting]:
        reported = sorted((time, each.trace_id) for each, time in self._rows.sightings.values() if time < before)
        closed = {trace_id for _, trace_id in reported[:limit]}
        keys = [key for key in self._rows.sightings if key[0] in closed]
        return [self._rows.sightings.pop(key)[0] for key in keys]


def a_learned_edge(service: str = "web", depends_on: str = "pay", **changed: Any) -> LearnedEdge:
    """Return an edge that was seen in forty traces, and counts."""
    values: dict[str, Any] = {
        "service": service,
        "depends_on": depends_on,
        "support": 40.0,
        "forward": 40.0,
        "count_time": NOW,
        "create_time": NOW,
        "seen_time": NOW,
        "is_supported": True,
    }
    return LearnedEdge(**values | changed)
