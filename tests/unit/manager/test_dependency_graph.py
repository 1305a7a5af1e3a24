"""The graph of dependencies: distances, ways and circles, by example and beside a naive oracle."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.manager.core.dependency_graph import DependencyEdge, DependencyGraph, EdgeOrigin, EdgeState


def graph(*edges: str) -> DependencyGraph:
    """Return the graph of edges such as "ab": a depends on b."""
    return DependencyGraph(DependencyEdge(service=edge[0], depends_on=edge[1]) for edge in edges)


def test_distances_count_edges_in_both_directions() -> None:
    found = graph("ab", "bc", "cd", "ac", "xb")
    assert found.depends_on("a", 1) == {"b": 1, "c": 1}
    assert found.depends_on("a", 2) == {"b": 1, "c": 1, "d": 2}
    assert found.dependents("c", 2) == {"b": 1, "a": 1, "x": 2}
    assert found.depends_on("d", 9) == found.dependents("unknown", 9) == {}
    assert found.depends_on("a", 0) == {}
    assert found.around("b", 1) == {"a", "b", "c", "x"}


def test_a_way_is_shortest_and_the_first_by_name() -> None:
    found = graph("az", "ac", "ab", "bd", "cd", "de", "ea")
    assert found.path("a", "d", 2) == ("a", "b", "d")
    assert found.path("a", "e", 2) is None
    assert found.path("a", "e", 3) == ("a", "b", "d", "e")
    assert found.path("e", "a", 1) == ("e", "a")
    assert found.path("z", "a", 9) is None
    assert found.path("a", "a", 0) == ("a",)


def test_circles_are_named_once_and_end_every_algorithm() -> None:
    found = graph("ab", "bc", "ca", "cd", "de", "ed", "ff", "gh")
    assert found.cycles() == [("a", "b", "c"), ("d", "e"), ("f",)]
    assert found.cycles(frozenset("abg")) == []
    assert found.cycles(frozenset("cde")) == [("d", "e")]
    assert found.circle(frozenset("abc"), "c") == ("c", "a", "b")
    assert found.depends_on("a", 100) == {"b": 1, "c": 2, "d": 3, "e": 4}


def test_a_circle_stays_inside_of_the_part_that_is_asked_for() -> None:
    found = graph("ab", "bc", "ca", "ax", "xa")
    assert found.cycles() == [("a", "x")]
    assert found.cycles(frozenset("abc")) == [("a", "b", "c")]


def test_a_group_without_a_circle_is_refused() -> None:
    with pytest.raises(ValueError, match="no circle"):
        graph("ab", "bc").circle(frozenset("bc"), "b")


def test_an_ignored_edge_is_shown_and_not_followed() -> None:
    ignored = DependencyEdge(service="a", depends_on="c", origin=EdgeOrigin.LEARNED, state=EdgeState.IGNORED)
    learned = DependencyEdge(service="a", depends_on="b", origin=EdgeOrigin.LEARNED, state=EdgeState.UNSPECIFIED)
    declared = DependencyEdge(service="a", depends_on="b")
    found = DependencyGraph([ignored, learned, declared])
    assert found.edges_of("a") == [declared, learned, ignored]
    assert found.edges_of("b") == []
    assert found.depends_on("a", 2) == {"b": 1}
    assert set(found.names) == {"a", "b", "c"}


names = st.sampled_from("abcdefg")
graphs = st.lists(st.tuples(names, names), max_size=14)


def naive_distances(edges: list[tuple[str, str]], max_edges: int) -> dict[tuple[str, str], int]:
    """Return the distances of all pairs: those of one edge, then one more edge at a time."""
    distances = {(name, name): 0 for name in "abcdefg"}
    for length in range(1, max_edges + 1):
        for (start, end), distance in list(distances.items()):
            for source, target in edges:
                if source == end and distance == length - 1:
                    distances.setdefault((start, target), length)
    return distances


@given(graphs, st.integers(0, 8))
def test_distances_and_ways_are_those_of_the_oracle(edges: list[tuple[str, str]], max_edges: int) -> None:
    found = graph(*map("".join, edges))
    expected = naive_distances(edges, max_edges)
    for start in "abcdefg":
        assert found.depends_on(start, max_edges) == {
            end: length for (source, end), length in expected.items() if source == start != end
        }
        for end in "abcdefg":
            way = found.path(start, end, max_edges)
            assert (way is None) == ((start, end) not in expected)
            if way is not None:
                assert (way[0], way[-1], len(way) - 1) == (start, end, expected[start, end])
                assert set(pairwise(way)) <= set(edges)
            assert found.dependents(end, max_edges).get(start) == (expected.get((start, end)) or None)


@given(graphs)
def test_circles_are_real_and_each_service_in_one_is_in_one_group(edges: list[tuple[str, str]]) -> None:
    found = graph(*map("".join, edges))
    reach = naive_distances(edges, 8)
    circular = {name for name in "abcdefg" if any(start == name and (target, name) in reach for start, target in edges)}
    groups = found.circular_groups()
    assert sorted(name for group in groups for name in group) == sorted(circular)
    for group in groups:
        assert all((one, other) in reach for one in group for other in group)
        circle = found.circle(group, max(group))
        assert circle[0] == max(group)
        assert len(set(circle)) == len(circle)
        assert set(pairwise((*circle, circle[0]))) <= set(edges)
