"""The output partitions of many rows at once are those of each one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.evaluator.core.match.outputs import RowOutputs, are_judged_in, group_checksums, moved_prefixes
from services.evaluator.core.records import partition_of

texts = st.text(max_size=40)
groups = st.lists(st.lists(texts, max_size=3).map(tuple), min_size=1, max_size=5, unique=True)
readers = st.lists(st.lists(texts, max_size=6), min_size=1, max_size=4)


@given(st.data(), groups, readers, st.integers(1, 8))
def test_a_row_goes_to_where_each_of_its_readers_judges_its_group(
    data: st.DataObject, groups: list[tuple[str, ...]], readers: list[list[str]], outputs: int
) -> None:
    pairs = st.tuples(st.integers(0, len(readers) - 1), st.integers(0, len(groups) - 1))
    rows = data.draw(st.lists(pairs, max_size=12))
    order = data.draw(st.permutations(range(len(rows))))
    cut = data.draw(st.integers(0, len(rows)))
    routes = RowOutputs()
    for some in (order[:cut], order):
        unknown = routes.unknown(np.array(some, dtype=np.int64))
        assert sorted(unknown.tolist()) == sorted(some if some is not order else order[cut:])
        selection, group = np.array([rows[slot] for slot in unknown], dtype=np.int64).reshape(-1, 2).T
        routes.add(unknown, readers, selection, groups, group, outputs)
    slots, found = routes.to_send(np.ones(len(rows), dtype=np.bool_))
    expected = {
        (row, partition_of(rule_id, groups[group], outputs))
        for row, (selection, group) in enumerate(rows)
        for rule_id in readers[selection]
    }
    assert sorted(zip(slots.tolist(), found.tolist(), strict=True)) == sorted(expected)


@given(groups, st.lists(texts, min_size=1, max_size=6), st.integers(1, 8))
def test_each_group_of_a_rule_is_judged_in_one_output_partition(
    groups: list[tuple[str, ...]], rule_ids: list[str], outputs: int
) -> None:
    expected = [[partition_of(rule_id, group, outputs) for rule_id in rule_ids] for group in groups]
    sums, sizes = group_checksums(groups)
    prefixes = moved_prefixes(tuple(rule_ids), tuple(sizes.tolist()))
    for output in range(outputs):
        found = are_judged_in(output, outputs, prefixes, sums)
        assert found.tolist() == [[each == output for each in of_group] for of_group in expected]


def test_rows_that_others_read_from_now_on_go_to_where_these_judge_their_groups() -> None:
    routes, groups = RowOutputs(), [("a",), ("b",)]
    for rule_id in ("first", "second"):
        routes.forget(np.array([1, 5]))
        unknown = routes.unknown(np.arange(2))
        routes.add(unknown, [[rule_id]], np.zeros(len(unknown), dtype=np.int64), groups, unknown, 64)
    slots, found = routes.to_send(np.ones(2, dtype=np.bool_))
    assert dict(zip(slots.tolist(), found.tolist(), strict=True)) == {
        0: partition_of("first", ("a",), 64),
        1: partition_of("second", ("b",), 64),
    }


def test_a_long_group_has_its_partition_too() -> None:
    routes = RowOutputs()
    groups = [("x" * 5000,), ()]
    routes.add(routes.unknown(np.arange(2)), [["rule"]], np.zeros(2, dtype=np.int64), groups, np.array([0, 1]), 7)
    _, found = routes.to_send(np.array([True, True]))
    assert found.tolist() == [partition_of("rule", group, 7) for group in groups]
