"""Panes: merging is exact in any order, a row replaces its former one, and what closed windows leave is freed."""

import math
import sys
from collections.abc import Sequence
from itertools import permutations
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.evaluator.core.match.events import Ints
from services.evaluator.core.partial_rows import of_rows
from services.evaluator.core.records import Aggregate, Group, Row, RowKey, Sample
from services.evaluator.core.window import numbering, pane_table
from services.evaluator.core.window.aggregates import Aggregates
from services.evaluator.core.window.numbering import Window
from services.evaluator.core.window.pane_table import Arrival, PaneTable

finite = st.floats(allow_nan=False, allow_infinity=False)
samples = st.builds(
    Sample,
    st.integers(0, 3),
    st.sampled_from("ab"),
    st.none(),
    st.sampled_from("xy"),
    st.sampled_from((None, 1, 20)),
    st.none(),
    st.just(""),
    st.just(""),
)
aggregates = st.builds(
    Aggregate,
    counted=st.integers(0, 9) | st.integers(2**31, 2**40),
    total=st.integers(0, 9),
    value_count=st.integers(0, 9),
    sum=st.floats(allow_nan=False),
    min=st.none() | finite,
    max=st.none() | finite,
    last_event_ns=st.none() | st.integers(0, 99),
    samples=st.lists(samples, max_size=3).map(tuple),
)


class Panes:
    """A table with panes of one rule."""

    def __init__(self) -> None:
        self.table = PaneTable()

    def window(self, start_ns: int = 0, *, is_open: bool = True) -> Window:
        found = self.table.windows.find(("r", 1), start_ns)
        return found or self.table.windows.add(("r", 1), start_ns, 0, is_open=is_open)

    def put(
        self, aggregate: Aggregate, *, source: int = 0, up_to: int = 1, start_ns: int = 0, group: Group = ("a",)
    ) -> int:
        """Return how many rows count."""
        return self.put_all([Row(RowKey("r", 1, group, start_ns), aggregate)], source, [up_to])

    def put_all(self, rows: Sequence[Row], source: int, up_to: Sequence[int]) -> int:
        windows = np.array([self.window(row.key.pane_ns).number for row in rows], dtype=np.int64)
        arrival = Arrival(
            sources=[source],
            source=np.zeros(len(rows), dtype=np.int64),
            windows=windows,
            up_to=np.array(up_to, dtype=np.int64),
            matched_by=np.zeros(len(rows), dtype=np.int64),
        )
        return len(self.table.replace(of_rows(rows), arrival).rows)

    def slot(self, start_ns: int = 0, group: Group = ("a",)) -> Ints:
        number = np.array([self.window(start_ns).number])
        return self.table.find(number, self.table.groups.numbers([group]))

    def numbers(self, start_ns: int = 0, group: Group = ("a",)) -> dict[str, float | None]:
        merged = self.table.numbers(self.slot(start_ns, group))
        return {name: None if np.isnan(values[0]) else values[0].item() for name, values in merged.items()}

    def samples(self, start_ns: int = 0, group: Group = ("a",)) -> tuple[Sample, ...]:
        slots = self.slot(start_ns, group)
        return self.table.samples(slots)[int(slots[0])]


@settings(deadline=None)
@given(st.lists(aggregates, max_size=6), st.randoms(use_true_random=False))
def test_neither_order_nor_folding_nor_grouping_matters(given: list[Aggregate], random: Random) -> None:
    one, other = Panes(), Panes()
    for source, aggregate in enumerate(given):
        one.put(aggregate, source=source)
    for source, aggregate in enumerate(sorted(given, key=str)):
        other.put(aggregate, source=source)
        if random.random() < 0.7:
            other.table.fold(source)
        if random.random() < 0.3:
            other.table._keep(np.arange(1, len(other.table._index)))
    assert one.numbers() == other.numbers()
    assert one.samples() == other.samples()


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 5), aggregates), max_size=6))
def test_rows_that_come_twice_in_any_cut_change_nothing(given: list[tuple[str, int, Aggregate]]) -> None:
    rows = [Row(RowKey("r", 1, (group,), 0), aggregate) for group, _, aggregate in given]
    up_to = [each for _, each, _ in given]
    one, other = Panes(), Panes()
    for row, each in zip(rows, up_to, strict=True):
        one.put_all([row], 0, [each])
    other.put_all(rows, 0, up_to)
    assert not other.put_all(rows, 0, up_to)
    for group in ("a",), ("b",):
        assert one.numbers(group=group) == other.numbers(group=group)


def test_a_row_replaces_its_former_one_and_folding_an_unknown_source_does_nothing() -> None:
    panes = Panes()
    assert panes.put(Aggregate(counted=1), source=1)
    assert panes.put(Aggregate(counted=2), source=1, up_to=2)
    assert not panes.put(Aggregate(counted=9), source=1, up_to=2)
    panes.table.fold(2)
    assert panes.numbers()["counted"] == 2
    panes.table.fold(1)
    panes.put(Aggregate(counted=3), source=1)
    assert panes.numbers()["counted"] == 5


def test_a_pane_that_is_not_there_is_empty() -> None:
    assert Panes().numbers() == {
        "counted": 0,
        "total": 0,
        "value_count": 0,
        "last_event_ns": np.iinfo(np.int64).min,
        "min": None,
        "max": None,
        "sum": 0.0,
    }
    assert Panes().samples() == ()


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_the_earliest_samples_stay(order: tuple[int, ...]) -> None:
    panes = Panes()
    for number in order:
        panes.put(Aggregate(samples=(Sample(number, "a", None, "m", None, None, "", ""),)))
        panes.table.fold(0)
    assert [sample.event_ns for sample in panes.samples()] == [0, 1, 2]
    panes.table._keep(np.array([1]))
    assert [sample.event_ns for sample in panes.samples()] == [0, 1, 2]


def test_a_row_without_samples_has_those_of_its_former_one() -> None:
    panes = Panes()
    sample = Sample(1, "a", None, "m", None, None, "", "")
    panes.put(Aggregate(counted=1, samples=(sample,)))
    panes.put(Aggregate(counted=2), up_to=2)
    assert panes.samples() == (sample,)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_sum_beyond_all_doubles_is_infinite(sign: int) -> None:
    panes = Panes()
    for source in (0, 1):
        panes.put(Aggregate(sum=sign * 1.7e308), source=source)
    assert panes.numbers()["sum"] == sign * math.inf


def test_an_infinite_sum_counts_as_the_largest_double() -> None:
    panes = Panes()
    panes.put(Aggregate(sum=math.inf), source=0)
    panes.put(Aggregate(sum=-1e300), source=1)
    assert panes.numbers()["sum"] == sys.float_info.max - 1e300


def test_closed_windows_are_freed_once_they_are_many_and_the_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pane_table, "_MAX_CLOSED", 3)
    panes = Panes()
    sample = Sample(1, "a", None, "m", None, None, "", "")
    for start_ns in range(6):
        panes.put(
            Aggregate(counted=start_ns + 1, sum=0.1, samples=(sample,)), start_ns=start_ns, group=(f"g{start_ns}",)
        )
        panes.table.compact()
    for start_ns in range(2):
        panes.table.windows.close(panes.window(start_ns))
    panes.table.fold(0)
    panes.put(Aggregate(counted=7), start_ns=2, group=("g2",))
    panes.table.windows.close(panes.window(2))
    panes.table.windows.close(panes.window(3), is_forgotten=True)
    panes.table.compact()
    assert len(panes.table._index) == 4
    # The rows of a block that still grows are kept until it ends: they say what is late.
    assert panes.numbers(2, ("g2",))["counted"] == 10
    assert [panes.numbers(start_ns, (f"g{start_ns}",))["counted"] for start_ns in (4, 5)] == [5, 6]
    assert panes.samples(5, ("g5",)) == (sample,)
    assert panes.table.windows.add(("r", 1), 9, 0, is_open=True).number in {1, 2, 4}
    assert panes.table.groups.numbers([("new",), ("newer",)]).max() < 6
    panes.put(Aggregate(counted=1), start_ns=9, group=("new",))
    assert panes.numbers(9, ("new",))["counted"] == 1


def test_many_samples_that_no_pane_needs_are_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.evaluator.core.window.sample_log._MIN_ADDED", 4)
    panes = Panes()
    for number in range(6):
        panes.put(Aggregate(samples=(Sample(9 - number, "a", None, "m", None, None, "", ""),)))
        panes.table.fold(0)
        panes.table.compact()
    assert panes.table._samples._size < 6
    assert [sample.event_ns for sample in panes.samples()] == [4, 5, 6]


def test_the_numbers_of_windows_and_groups_are_used_again() -> None:
    groups = numbering.GroupNumbers()
    assert groups.numbers([("a",), ("b",), ("a",)]).tolist() == [0, 1, 0]
    groups.retire(np.array([False, True]))
    assert groups.numbers([("c",), ("b",), ("d",)]).tolist() == [0, 1, 2]
    assert groups[0] == ("c",)


def test_counts_beyond_32_bits_are_kept() -> None:
    panes = Panes()
    panes.put(Aggregate(counted=5, total=2**40))
    panes.put(Aggregate(counted=2**33, total=7), group=("b",))
    assert (panes.numbers()["counted"], panes.numbers()["total"]) == (5, 2**40)
    panes.table.fold(0)
    assert (panes.numbers(group=("b",))["counted"], panes.numbers(group=("b",))["total"]) == (2**33, 7)


def test_columns_without_sums_have_none() -> None:
    counts = Aggregates(("counted",))
    counts.grow(3)
    counts.merge(np.array([2]), {"counted": np.array([7])})
    counts.merge_all(np.array([2, 1, 2]), {"counted": np.array([1, 5, 1])})
    counts.merge_all(np.zeros(0, dtype=np.int64), {"counted": np.zeros(0, dtype=np.int64)})
    assert counts.numbers()["counted"].tolist()[:3] == [0, 5, 9]
    assert list(counts.take(np.array([2]), ("counted",)).numbers()) == ["counted"]


def test_sums_are_exact_where_several_numbers_are_of_one_row() -> None:
    sums = Aggregates(("sum",), size=3)
    sums.merge_all(np.array([2, 1, 2, 2]), {"sum": np.array([1e17, 0.25, 0.5, -1e17])})
    assert sums.numbers()["sum"].tolist() == [0.0, 0.25, 0.5]


def test_folded_totals_of_a_revision_share_a_window_that_closes_with_them() -> None:
    windows = numbering.WindowNumbers()
    totals = windows.add(("bucketing", 0), 0, 5, is_open=True)
    folded = windows.folded(totals.number, 3)
    assert windows.folded(totals.number, 3) is folded
    assert windows.folded(totals.number, 4) is not folded
    windows.close(totals)
    assert not numbering.are_open(windows).any()
