from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.domain.level import Level
from services.evaluator.core.match import bucketing
from services.evaluator.core.match.bucketing import group_events
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
    happened=st.lists(events, max_size=20),
    group_by=st.lists(st.sampled_from(FIELDS), max_size=4, unique=True),
    table_cells=st.sampled_from([0, 65536]),
)
def test_an_event_belongs_to_the_group_of_its_values(
    happened: list[dict[str, Any]], group_by: list[str], table_cells: int
) -> None:
    columns = EventColumns.of(batch_of(happened))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bucketing, "_TABLE_CELLS", table_cells)
        groups = group_events(columns, group_by)
    keys = [groups.keys[number] for number in groups.ids]
    assert keys == [tuple(value(event, field) for field in group_by) for event in happened]
    assert sorted(set(keys)) == sorted(groups.keys)


def test_an_absent_attribute_and_an_empty_one_are_one_group() -> None:
    plain = {"level": 1, "service": "a", "message": "", "status_code": None, "response_time": None, "host": None}
    empty, absent = ({**plain, "trace_id": None, "attributes": attributes} for attributes in ({"a": ""}, {}))
    groups = group_events(EventColumns.of(batch_of([empty, absent, empty])), ["attributes.a"])
    assert (groups.keys, groups.ids.tolist()) == ([("",)], [0, 0, 0])


def test_a_level_without_name_is_its_number() -> None:
    event = {"level": 99, "attributes": {}, "service": "a"}
    assert group_events(EventColumns.of(batch_of([event])), ["level"]).keys == [("99",)]


@pytest.mark.parametrize("table_cells", [0, 65536], ids=["sorted", "by table"])
def test_an_absent_number_is_the_group_of_the_empty_string(table_cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucketing, "_TABLE_CELLS", table_cells)
    plain = {"level": 1, "service": "a", "message": "", "response_time": None, "host": None, "trace_id": None}
    happened = [{**plain, "status_code": code, "attributes": {}} for code in (500, None, 200)]
    happened[2]["service"] = "b"
    groups = group_events(EventColumns.of(batch_of(happened)), ["status_code", "service"])
    assert [groups.keys[number] for number in groups.ids] == [("500", "a"), ("", "a"), ("200", "b")]
