"""Dependencies that are learned from traces: which of two services logs first in the traces that both log in.

Evaluators sample traces by their ids, so all of them sample the same ones, and report for each sampled trace when each
service first logged in it. What several evaluators see of one trace meets in the store, which keeps the earliest time
of each service: a report that comes twice changes nothing, and it does not matter which manager takes it. A while after
the first report a trace is closed: one manager, alone with the learned edges, takes its sightings out of the store,
counts its pairs and writes the edges in the same transaction, so it is counted once, also when a manager is killed.
What is reported of a trace still later is another trace; that happens after a failure only, and rarely matters.

Why the first is taken to depend on the other: a service that calls another one has begun its work before, and says so
before the other one does. That holds of most traces, not of all, since clocks differ and some services log only at the
end. Therefore an edge needs support (traces in which both logged, at different times) and confidence (the share of
these in which the caller was first), and an edge that counts is given up later than it was accepted, so that it does
not come and go. A service that only comes before another one, without calling it, looks the same: people can ignore
such an edge.

Counts halve with time, so a dependency that was turned round is learned anew, and an edge that was not seen for two
weeks does not count any more. What people have confirmed or ignored stays as they said.

Traces are as trustworthy as those who may send events. A made-up trace counts once, a trace of very many services not
at all, and beyond the limit of edges those with the least support are dropped first.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import combinations
from typing import Self

from services.manager.core.catalog import service_name_problems
from services.manager.core.dependency_graph import DependencyEdge, EdgeOrigin, EdgeState

# Each manager keeps those that count in memory.
MAX_LEARNED_EDGES = 10_000
# Of a trace; a trace of more services, as of a batch job, says little about any two of them.
MAX_TRACE_SERVICES = 20

# A service, and one that it may depend on.
ServicePair = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSighting:
    """When a service first logged in a trace, as far as it is known."""

    trace_id: str
    service: str
    first_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningSettings:
    """When an edge counts, and how long."""

    min_support: float = 20.0
    min_confidence: float = 0.9
    # Below one of these an edge that counts is given up.
    keep_support: float = 10.0
    keep_confidence: float = 0.75
    half_life: timedelta = timedelta(days=7)
    fade_after: timedelta = timedelta(days=14)
    # How long an edge that is not seen any more, and that nobody decided about, is stored.
    retention: timedelta = timedelta(days=90)
    max_edges: int = MAX_LEARNED_EDGES


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedEdge:
    """What was counted of a service coming before another one, and what people say of that."""

    service: str
    depends_on: str
    # At `count_time`: traces in which both logged at different times, and those in which `service` was first.
    support: float
    forward: float
    count_time: datetime
    create_time: datetime
    # When a trace was last counted in which `service` was first.
    seen_time: datetime
    is_supported: bool = False
    state: EdgeState = EdgeState.UNSPECIFIED
    actor: str = ""
    decide_time: datetime | None = None

    @property
    def pair(self) -> ServicePair:
        """Return both services."""
        return self.service, self.depends_on

    @property
    def confidence(self) -> float:
        """Return the share of the traces in which `service` was first."""
        return self.forward / self.support if self.support else 0.0

    @property
    def is_in_graph(self) -> bool:
        """Return whether the graph has it: it counts, or people decided about it."""
        return self.is_supported or self.state is not EdgeState.UNSPECIFIED

    @property
    def dependency(self) -> DependencyEdge:
        """Return the edge as the graph has it."""
        return DependencyEdge(
            service=self.service, depends_on=self.depends_on, origin=EdgeOrigin.LEARNED, state=self.state
        )

    def decided(self, state: EdgeState, actor: str, now: datetime) -> Self:
        """Return the edge after somebody confirmed or ignored it; the same one if that was said before."""
        return self if state is self.state else replace(self, state=state, actor=actor, decide_time=now)

    def faded(self, now: datetime, half_life: timedelta) -> Self:
        """Return the edge with its counts as they are now."""
        if now <= self.count_time:
            return self
        share = self.share_left(now, half_life)
        return replace(self, support=self.support * share, forward=self.forward * share, count_time=now)

    def share_left(self, now: datetime, half_life: timedelta) -> float:
        """Return the share of its counts that is left by now."""
        return float(0.5 ** (max(timedelta(), now - self.count_time) / half_life))


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedChanges:
    """What to write after traces were counted."""

    written: tuple[LearnedEdge, ...] = ()
    deleted: tuple[ServicePair, ...] = ()
    # Whether the graph has other edges than before.
    is_graph_changed: bool = False


def count_orders(sightings: Iterable[TraceSighting]) -> Counter[ServicePair]:
    """Return in how many of these traces the first service of a pair logged before the second one.

    Two services that logged at the same time say nothing, nor does one whose name the catalog would refuse.
    """
    traces: dict[str, dict[str, datetime]] = {}
    for each in sightings:
        if not any(service_name_problems("service", each.service)):
            times = traces.setdefault(each.trace_id, {})
            times[each.service] = min(each.first_time, times.get(each.service, each.first_time))
    orders: Counter[ServicePair] = Counter()
    for times in traces.values():
        if len(times) <= MAX_TRACE_SERVICES:
            in_order = sorted(times, key=times.__getitem__)
            orders.update((a, b) for a, b in combinations(in_order, 2) if times[a] < times[b])
    return orders


def concerned_pairs(orders: Iterable[ServicePair]) -> frozenset[ServicePair]:
    """Return the pairs of which the counts change with these orders."""
    return frozenset(pair for order in orders for pair in (order, order[::-1]))


def learn(
    stored: Mapping[ServicePair, LearnedEdge],
    orders: Mapping[ServicePair, int],
    settings: LearningSettings,
    *,
    now: datetime,
) -> LearnedChanges:
    """Add counted orders to stored edges, decide again which of them count, and drop what has expired.

    `stored` has all edges, or those that the orders concern: the limit holds of what it has.
    """
    edges = {**stored, **_counted(stored, orders, settings, now)}
    edges = {pair: _judged(edge, settings, now) for pair, edge in edges.items() if not _is_expired(edge, settings, now)}
    for pair in _surplus(edges.values(), settings, now):
        del edges[pair]
    return LearnedChanges(
        written=tuple(edge for pair, edge in edges.items() if edge is not stored.get(pair)),
        deleted=tuple(pair for pair in stored if pair not in edges),
        is_graph_changed=_graph_of(stored) != _graph_of(edges),
    )


def _counted(
    stored: Mapping[ServicePair, LearnedEdge],
    orders: Mapping[ServicePair, int],
    settings: LearningSettings,
    now: datetime,
) -> dict[ServicePair, LearnedEdge]:
    """Return the edges that these orders speak for or against; an order that is new begins with what spoke against."""
    faded = {pair: stored[pair].faded(now, settings.half_life) for pair in concerned_pairs(orders) if pair in stored}
    counted: dict[ServicePair, LearnedEdge] = {}
    for pair in faded.keys() | orders.keys():
        forward, backward = orders.get(pair, 0), orders.get(pair[::-1], 0)
        before = faded.get(pair) or _new_edge(pair, faded.get(pair[::-1]), now)
        counted[pair] = replace(
            before,
            support=before.support + forward + backward,
            forward=before.forward + forward,
            seen_time=now if forward else before.seen_time,
        )
    return counted


def _new_edge(pair: ServicePair, reverse: LearnedEdge | None, now: datetime) -> LearnedEdge:
    against = reverse.forward if reverse else 0.0
    return LearnedEdge(
        service=pair[0],
        depends_on=pair[1],
        support=against,
        forward=0.0,
        count_time=now,
        create_time=now,
        seen_time=now,
    )


def _judged(edge: LearnedEdge, settings: LearningSettings, now: datetime) -> LearnedEdge:
    """Return the edge with the decision whether it counts; the same one when that is as before."""
    support, confidence = settings.min_support, settings.min_confidence
    if edge.is_supported:
        support, confidence = settings.keep_support, settings.keep_confidence
    is_supported = (
        now - edge.seen_time < settings.fade_after
        and edge.confidence >= confidence
        and edge.support * edge.share_left(now, settings.half_life) >= support
    )
    return edge if is_supported == edge.is_supported else replace(edge, is_supported=is_supported)


def _is_expired(edge: LearnedEdge, settings: LearningSettings, now: datetime) -> bool:
    return edge.state is EdgeState.UNSPECIFIED and now - edge.seen_time >= settings.retention


def _surplus(edges: Iterable[LearnedEdge], settings: LearningSettings, now: datetime) -> list[ServicePair]:
    """Return the edges beyond the limit: of those that nobody decided about, first what does not count, the weakest."""
    all_edges = list(edges)
    if len(all_edges) <= settings.max_edges:
        return []
    undecided = [edge for edge in all_edges if edge.state is EdgeState.UNSPECIFIED]
    undecided.sort(
        key=lambda edge: (
            edge.is_supported,
            edge.forward * edge.share_left(now, settings.half_life),
            edge.seen_time,
            edge.pair,
        )
    )
    return [edge.pair for edge in undecided[: len(all_edges) - settings.max_edges]]


def _graph_of(edges: Mapping[ServicePair, LearnedEdge]) -> set[ServicePair]:
    return {pair for pair, edge in edges.items() if edge.is_in_graph}
