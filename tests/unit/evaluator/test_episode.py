"""The ids and fingerprints of transitions, and the order of transitions."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.domain.severity import Severity
from services.evaluator.core.match.bucketing import group_events
from services.evaluator.core.match.events import EventColumns
from services.evaluator.core.records import Transition, TransitionReason
from services.evaluator.core.rules import CompiledRule
from services.evaluator.core.window.episode import MergedAggregate, fire, resolve, resource_of, window_result
from tests.unit.evaluator.expressions import batch_of
from tests.unit.evaluator.pipeline import rule

words = st.text("ab,=\\", max_size=3)
labels = st.dictionaries(words.filter(bool), words, max_size=4)


def fired(group: tuple[str, ...] = ("a", "b"), start_ns: int = 0, **changed: Any) -> Transition:
    compiled = CompiledRule.of(rule("r", "count > threshold", **{"group_by": ("service", "host"), **changed}))
    return fire(compiled, group, window_result(compiled, start_ns, MergedAggregate()), (), 7)


def in_another_order(given_labels: dict[str, str], data: st.DataObject) -> dict[str, str]:
    return dict(data.draw(st.permutations(list(given_labels.items()))))


@settings(deadline=None, max_examples=30)
@given(labels, labels, st.data())
def test_labels_and_their_order_change_neither_id_nor_fingerprint(
    one: dict[str, str], other: dict[str, str], data: st.DataObject
) -> None:
    names = {
        (step.id, step.fingerprint)
        for step in (fired(labels=one), fired(labels=in_another_order(one, data)), fired(labels=other))
    }
    assert len(names) == 1


@settings(deadline=None, max_examples=30)
@given(st.tuples(words, words), st.tuples(words, words))
def test_different_groups_have_different_ids_and_fingerprints(one: tuple[str, str], other: tuple[str, str]) -> None:
    first, second = fired(one), fired(other)
    assert (first.fingerprint == second.fingerprint) == (one == other)
    assert (first.id == second.id) == (one == other)


def test_another_window_or_selection_changes_the_id_and_not_the_fingerprint() -> None:
    steps = [fired(), fired(start_ns=60), fired(selection_revision=9)]
    assert len({step.id for step in steps}) == 3
    assert len({step.fingerprint for step in steps}) == 1


def test_an_edit_that_keeps_the_counts_keeps_the_id() -> None:
    assert fired(threshold=1).id == fired(threshold=2, revision=9).id


def test_another_severity_changes_the_fingerprint() -> None:
    assert fired(severity=Severity.LOW).fingerprint != fired(severity=Severity.HIGH).fingerprint


def test_an_end_has_another_id_and_the_same_fingerprint() -> None:
    begun = fired()
    ended = resolve(begun, begun.window, (), TransitionReason.CONDITION_ENDED, 8)
    assert ended.fingerprint == begun.fingerprint
    assert ended.id != begun.id


@settings(deadline=None, max_examples=30)
@given(st.dictionaries(words, words, min_size=1, max_size=4), st.data())
def test_the_order_of_an_events_attributes_does_not_change_its_group(
    attributes: dict[str, str], data: st.DataObject
) -> None:
    plain = {"level": 1, "service": "a", "message": "", "status_code": None, "response_time": None, "host": None}
    both = [
        {**plain, "trace_id": None, "attributes": each} for each in (attributes, in_another_order(attributes, data))
    ]
    group_by = [f"attributes.{name}" for name in attributes]
    found = group_events(EventColumns.of(batch_of(both)), group_by)
    assert found.keys == [tuple(attributes.values())]


def test_an_end_ranks_above_its_beginning_a_later_window_above_both_and_a_new_selection_above_all() -> None:
    begun = fired()
    steps = [
        begun,
        resolve(begun, begun.window, (), TransitionReason.CONDITION_ENDED, 8),
        fired(start_ns=60),
        fired(selection_revision=2),
    ]
    ranks = [step.rank for step in steps]
    assert ranks == sorted(set(ranks))


@given(st.lists(words, unique=True, max_size=3).flatmap(lambda names: st.tuples(st.just(names), *[groups(names)] * 2)))
def test_different_groups_of_a_rule_are_different_resources(
    drawn: tuple[list[str], Sequence[str], Sequence[str]],
) -> None:
    names, one, other = drawn
    assert (resource_of(names, one) == resource_of(names, other)) == (one == other)


def groups(names: Sequence[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(words, min_size=len(names), max_size=len(names))


@pytest.mark.parametrize(
    ("group_by", "group", "resource"),
    [
        pytest.param([], [], "all", id="without grouping"),
        pytest.param(["host"], ["a=b"], "a=b", id="one field is its value"),
        pytest.param(["host", "attributes.a,b"], ["x\\y", "1=2"], "host=x\\\\y,attributes.a\\,b=1\\=2", id="several"),
    ],
)
def test_a_resource_is_its_group_as_a_string(group_by: list[str], group: list[str], resource: str) -> None:
    assert resource_of(group_by, group) == resource


def test_a_group_with_too_few_values_is_refused() -> None:
    with pytest.raises(ValueError, match="2 fields but 1 values"):
        resource_of(["service", "host"], ["a"])
