"""What traces teach about dependencies: by example, and as laws."""

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.manager.core.dependency_graph import EdgeState
from services.manager.core.learned_edges import (
    MAX_TRACE_SERVICES,
    LearnedChanges,
    LearnedEdge,
    LearningSettings,
    ServicePair,
    TraceSighting,
    count_orders,
    learn,
)
from tests.fakes.learned_edges import a_learned_edge
from tests.fakes.transitions import NOW

SETTINGS = LearningSettings()
WEEK = timedelta(days=7)
PAIR = ("web", "pay")


def sighting(trace: str, service: str, second: float) -> TraceSighting:
    return TraceSighting(trace_id=trace, service=service, first_time=NOW + timedelta(seconds=second))


def trace(name: str, *services: str) -> list[TraceSighting]:
    """Return a trace in which these services logged one after the other."""
    return [sighting(name, service, second) for second, service in enumerate(services)]


def after(stored: Mapping[ServicePair, LearnedEdge], changes: LearnedChanges) -> dict[ServicePair, LearnedEdge]:
    kept = {pair: edge for pair, edge in stored.items() if pair not in changes.deleted}
    return kept | {edge.pair: edge for edge in changes.written}


def learned(
    orders: Mapping[ServicePair, int], *stored: LearnedEdge, **options: object
) -> dict[ServicePair, LearnedEdge]:
    before = {edge.pair: edge for edge in stored}
    settings = LearningSettings(**options)  # type: ignore[arg-type]  # fields of the settings
    return after(before, learn(before, orders, settings, now=NOW))


def test_each_pair_of_a_trace_is_counted_in_the_order_in_which_its_services_first_logged() -> None:
    sightings = [*trace("1", "web", "pay", "bank"), sighting("1", "pay", 9), sighting("1", "web", 5)]
    assert count_orders(reversed(sightings)) == {("web", "pay"): 1, ("web", "bank"): 1, ("pay", "bank"): 1}
    assert count_orders([*trace("1", "a", "b"), *trace("2", "b", "a"), *trace("3", "a", "b")]) == {
        ("a", "b"): 2,
        ("b", "a"): 1,
    }


def test_one_service_alone_or_two_at_once_say_nothing() -> None:
    assert count_orders([sighting("1", "web", 0), sighting("1", "web", 1)]) == {}
    assert count_orders([sighting("1", "web", 0), sighting("1", "pay", 0)]) == {}
    assert count_orders([sighting("1", "web", 0), sighting("2", "pay", 1)]) == {}


@pytest.mark.parametrize("name", ["", " ", "x" * 257, "a\nb", "a\x1b[31m"])
def test_names_that_the_catalog_would_refuse_are_left_out(name: str) -> None:
    assert count_orders(trace("1", "web", name, "pay")) == {PAIR: 1}


def test_a_trace_of_very_many_services_is_left_out() -> None:
    names = [f"s{n:02}" for n in range(MAX_TRACE_SERVICES + 1)]
    assert len(count_orders(trace("1", *names[1:]))) == MAX_TRACE_SERVICES * (MAX_TRACE_SERVICES - 1) / 2
    assert count_orders(trace("1", *names)) == {}


def test_an_edge_counts_once_it_has_support_and_confidence() -> None:
    edge = learned({PAIR: 19})[PAIR]
    assert (edge.support, edge.confidence, edge.is_supported, edge.is_in_graph) == (19, 1, False, False)
    assert learned({PAIR: 20})[PAIR].is_in_graph
    both = learned({PAIR: 90, PAIR[::-1]: 10})
    assert (both[PAIR].support, both[PAIR].confidence, both[PAIR].is_supported) == (100, 0.9, True)
    assert (both[PAIR[::-1]].support, both[PAIR[::-1]].forward, both[PAIR[::-1]].is_supported) == (100, 10, False)
    assert not learned({PAIR: 89, PAIR[::-1]: 11})[PAIR].is_supported


def test_an_edge_that_counts_is_given_up_later_than_it_is_accepted() -> None:
    counting, weak = a_learned_edge(), a_learned_edge(is_supported=False)
    against = {PAIR[::-1]: 13}
    assert learned(against, counting)[PAIR].is_supported
    assert not learned(against, weak)[PAIR].is_supported
    assert not learned({PAIR[::-1]: 14}, counting)[PAIR].is_supported
    assert learned({}, a_learned_edge(support=10.0, forward=10.0))[PAIR].is_supported
    assert not learned({}, a_learned_edge(support=9.0, forward=9.0))[PAIR].is_supported


def test_a_new_order_begins_with_what_spoke_against_it() -> None:
    found = learned({PAIR[::-1]: 1}, a_learned_edge(count_time=NOW - WEEK))
    assert (found[PAIR].support, found[PAIR].forward) == (21, 20)
    assert (found[PAIR[::-1]].support, found[PAIR[::-1]].forward) == (21, 1)


def test_counts_halve_and_only_what_is_seen_is_as_new() -> None:
    old = a_learned_edge(count_time=NOW - WEEK, seen_time=NOW - WEEK)
    assert (old.faded(NOW, WEEK).support, old.faded(NOW - 2 * WEEK, WEEK)) == (20, old)
    # The clock may have been set back.
    assert old.share_left(NOW - 2 * WEEK, WEEK) == 1
    seen = learned({PAIR: 2}, old)[PAIR]
    assert (seen.support, seen.forward, seen.seen_time, seen.count_time) == (22, 22, NOW, NOW)
    assert seen.create_time == old.create_time
    opposed = learned({PAIR[::-1]: 2}, old)[PAIR]
    assert (opposed.support, opposed.forward, opposed.seen_time) == (22, 20, NOW - WEEK)


def test_an_edge_that_is_not_seen_any_more_fades_and_expires() -> None:
    edge = a_learned_edge(support=1e9, forward=1e9)
    stored = {PAIR: edge}
    assert learn(stored, {}, SETTINGS, now=NOW + 2 * WEEK - timedelta(seconds=1)) == LearnedChanges()
    faded = learn(stored, {}, SETTINGS, now=NOW + 2 * WEEK)
    assert (faded.is_graph_changed, [each.is_supported for each in faded.written]) == (True, [False])
    expired = learn(stored, {}, SETTINGS, now=NOW + timedelta(days=90))
    assert expired == LearnedChanges(deleted=(PAIR,), is_graph_changed=True)
    # Without a trace for long the counts alone are too small.
    small = learn({PAIR: a_learned_edge()}, {}, LearningSettings(fade_after=10 * WEEK), now=NOW + 3 * WEEK)
    assert [each.is_supported for each in small.written] == [False]


@pytest.mark.parametrize("state", [EdgeState.CONFIRMED, EdgeState.IGNORED])
def test_what_people_decided_stays_whatever_is_seen(state: EdgeState) -> None:
    edge = a_learned_edge().decided(state, "ann", NOW)
    assert (edge.state, edge.actor, edge.decide_time) == (state, "ann", NOW)
    assert edge.decided(state, "bob", NOW + WEEK) is edge
    changes = learn({PAIR: edge}, {}, SETTINGS, now=NOW + 52 * WEEK)
    assert (changes.deleted, changes.is_graph_changed, changes.written[0].is_in_graph) == ((), False, True)
    assert changes.written[0].dependency.state is state


def test_beyond_the_limit_the_weakest_edges_are_dropped_and_no_decided_one() -> None:
    edges = [
        a_learned_edge("a", "decided", forward=0.0, is_supported=False, state=EdgeState.IGNORED),
        a_learned_edge("a", "counts", support=12.0, forward=12.0),
        a_learned_edge("a", "strong", support=60.0, forward=30.0, is_supported=False),
        a_learned_edge("a", "weak", support=60.0, forward=20.0, is_supported=False),
    ]
    assert set(learned({("a", "new"): 1}, *edges, max_edges=3)) == {("a", "decided"), ("a", "counts"), ("a", "strong")}
    assert len(learned({("a", "new"): 1}, *edges, max_edges=5)) == 5
    assert set(learned({}, *edges, max_edges=0)) == {("a", "decided")}


def test_an_edge_without_support_has_no_confidence() -> None:
    assert a_learned_edge(support=0.0, forward=0.0).confidence == 0


names = st.sampled_from("abcd")
traces = st.lists(st.builds(sighting, st.sampled_from("12"), names, st.integers(0, 3)), max_size=20)
orders = st.dictionaries(st.tuples(names, names).filter(lambda pair: pair[0] != pair[1]), st.integers(1, 50))


@given(traces, st.randoms())
def test_neither_the_order_of_reports_nor_a_repeated_one_matters(
    sightings: list[TraceSighting], random: object
) -> None:
    shuffled = [*sightings, *sightings[: len(sightings) // 2]]
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives a Random
    assert count_orders(shuffled) == count_orders(sightings)


@given(traces)
def test_a_trace_has_at_most_one_order_for_each_two_of_its_services(sightings: list[TraceSighting]) -> None:
    counted = count_orders(sightings)
    for a, b in combinations("abcd", 2):
        both = sum({a, b} <= {each.service for each in sightings if each.trace_id == name} for name in "12")
        assert counted[a, b] + counted[b, a] <= both
    assert all(a != b for a, b in counted)


@given(st.lists(orders, max_size=6))
def test_support_is_what_speaks_for_an_edge_and_for_its_reverse(turns: list[dict[ServicePair, int]]) -> None:
    stored: dict[ServicePair, LearnedEdge] = {}
    total: Counter[ServicePair] = Counter()
    for counted in turns:
        stored = after(stored, learn(stored, counted, SETTINGS, now=NOW))
        total.update(counted)
    assert {pair: edge.forward for pair, edge in stored.items()} == total
    assert all(edge.support == total[pair] + total[pair[::-1]] for pair, edge in stored.items())
    assert not any(
        edge.is_supported and stored[edge.pair[::-1]].is_supported
        for edge in stored.values()
        if edge.pair[::-1] in stored
    )


@given(st.lists(st.tuples(orders, st.integers(0, 20)), max_size=8), st.integers(1, 5))
def test_edges_stay_bounded_and_nothing_changes_without_a_trace_at_the_same_time(
    turns: list[tuple[dict[ServicePair, int], int]], limit: int
) -> None:
    settings, now = LearningSettings(max_edges=limit), NOW
    stored: dict[ServicePair, LearnedEdge] = {}
    for counted, days in turns:
        now += timedelta(days=days)
        before = {pair for pair, edge in stored.items() if edge.is_in_graph}
        changes = learn(stored, counted, settings, now=now)
        stored = after(stored, changes)
        assert len(stored) <= limit
        assert changes.is_graph_changed == (before != {pair for pair, edge in stored.items() if edge.is_in_graph})
        assert learn(stored, {}, settings, now=now) == LearnedChanges()
