from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.domain.level import Level
from services.evaluator.core.match import bucketing
from services.evaluator.core.match.bucketing import group_rows
from services.evaluator.core.match.events import EventColumns
from tests.unit.evaluator.expressions import batch_of, events

FIELDS = ["service", "level", "host", "status_code", "attributes.a", "attributes.b c"]


def value(event: dict[str, Any], field: str) -> str:
    if field.startswith("attributes."):
        return str(event["attributes"].get(field.removeprefix("attributes."), ""))
    if field == "level":
        return Level(event["level"]).name
    return "" if event[field] is None else str(event[field])


@settings(max_examples=50, deadline=None)
@given(
    happened=st.lists(st.tuples(events, st.booleans()), max_size=20),
    group_by=st.lists(st.sampled_from(FIELDS), max_size=4, unique=True),
    table_cells=st.sampled_from([0, 65536]),
)
def test_a_row_belongs_to_the_group_of_its_values(
    happened: list[tuple[dict[str, Any], bool]], group_by: list[str], table_cells: int
) -> None:
    columns = EventColumns.of(batch_of([event for event, _ in happened]))
    rows = np.flatnonzero([is_selected for _, is_selected in happened])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bucketing, "_TABLE_CELLS", table_cells)
        groups = group_rows(columns, group_by, rows)
    keys = [groups.keys[number] for number in groups.ids]
    assert keys == [tuple(value(happened[row][0], field) for field in group_by) for row in rows]
    assert sorted(set(keys)) == sorted(groups.keys)


def test_an_absent_attribute_and_an_empty_one_are_one_group() -> None:
    plain = {"level": 1, "service": "a", "message": "", "status_code": None, "response_time": None, "host": None}
    empty, absent = ({**plain, "trace_id": None, "attributes": attributes} for attributes in ({"a": ""}, {}))
    groups = group_rows(EventColumns.of(batch_of([empty, absent, empty])), ["attributes.a"], np.arange(3))
    assert (groups.keys, groups.ids.tolist()) == ([("",)], [0, 0, 0])


def test_a_level_without_name_is_its_number() -> None:
    event = {"level": 99, "attributes": {}, "service": "a"}
    assert group_rows(EventColumns.of(batch_of([event])), ["level"], np.array([0])).keys == [("99",)]


@pytest.mark.parametrize("table_cells", [0, 65536], ids=["sorted", "by table"])
def test_an_absent_number_is_the_group_of_the_empty_string(table_cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucketing, "_TABLE_CELLS", table_cells)
    plain = {"level": 1, "service": "a", "message": "", "response_time": None, "host": None, "trace_id": None}
    happened = [{**plain, "status_code": code, "attributes": {}} for code in (500, None, 200)]
    groups = group_rows(EventColumns.of(batch_of(happened)), ["status_code"], np.arange(2))
    assert [groups.keys[number] for number in groups.ids] == [("500",), ("",)]
