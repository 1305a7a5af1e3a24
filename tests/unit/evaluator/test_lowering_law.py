from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.evaluator.core.match.events import EventColumns
from services.evaluator.core.match.lowering import lower
from services.evaluator.core.match.selection import compile_selection
from services.evaluator.core.window.condition import WindowValues, compile_condition
from services.rule_language.checking import check_condition, check_filter
from tests.unit.evaluator.expressions import batch_of, conditions, events, filters, present, within_limits


@settings(max_examples=100, deadline=None)
@given(text=filters, happened=st.lists(st.tuples(events, st.booleans()), min_size=1, max_size=12))
def test_a_lowered_filter_selects_what_cel_selects(text: str, happened: list[tuple[dict[str, Any], bool]]) -> None:
    with within_limits():
        expression = check_filter(text)
    columns = EventColumns.of(batch_of([event for event, _ in happened]))
    judged = [expression.evaluate(present(event)) for event, _ in happened]
    select = compile_selection(expression)
    assert select(columns, None).tolist() == [answer is True for answer in judged]
    among = np.array([asked for _, asked in happened], dtype=np.bool_)
    expected = [asked and answer is True for (_, asked), answer in zip(happened, judged, strict=True)]
    assert select(columns, among).tolist() == expected


@pytest.mark.parametrize("sign", ["==", "!=", "<", "<=", ">", ">="])
@pytest.mark.parametrize(
    ("field", "bound", "values"),
    [
        ("status_code", "404", [403, 404, 405, None]),
        ("response_time", "1.5", [1.0, 1.5, 2.0, None]),
        ("service", '"b"', ["a", "b", "c", ""]),
    ],
)
def test_a_lowered_comparison_decides_below_at_and_above_its_bound_as_cel_does(
    sign: str, field: str, bound: str, values: list[Any]
) -> None:
    expression = check_filter(f"{field} {sign} {bound}")
    assert lower(expression.tree) is not None
    happened = [{**_QUIET, field: value} for value in values]
    select = compile_selection(expression)
    judged = [expression.evaluate(present(event)) is True for event in happened]
    assert select(EventColumns.of(batch_of(happened)), None).tolist() == judged


_QUIET: dict[str, Any] = {
    "service": "",
    "level": 1,
    "message": "",
    "status_code": None,
    "response_time": None,
    "host": "",
    "trace_id": "",
    "attributes": {},
}
_amounts = st.none() | st.sampled_from([0.0, -1.5, 2.5, 1e308]) | st.floats(-1e6, 1e6)


@settings(max_examples=100, deadline=None)
@given(
    text=conditions,
    count=st.integers(0, 9) | st.just(2**53 + 1),
    others=st.integers(0, 9),
    least=_amounts,
    value_count=st.integers(0, 1),
    threshold=st.sampled_from([0.0, 0.5, 3.0, 100.0]),
)
def test_a_lowered_condition_judges_as_cel_does(
    text: str, count: int, others: int, least: float | None, value_count: int, threshold: float
) -> None:
    with within_limits():
        expression = check_condition(text)
    numbers = WindowValues(
        count=count,
        total=count + others,
        threshold=threshold,
        value_count=value_count,
        sum=(least or 0.0) * value_count,
        min=least,
        max=least,
    )
    values = {name: getattr(numbers, name) for name in expression.names}
    assert compile_condition(expression)(numbers) is (expression.evaluate(present(values)) is True)
