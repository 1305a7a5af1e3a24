"""A condition over columns judges as the one over a single window, which judges as CEL does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.evaluator.core.window.column_condition import ColumnCondition, compile_columns
from services.evaluator.core.window.condition import WindowValues, compile_condition
from services.rule_language.checking import check_condition
from tests.unit.evaluator.test_condition import HUGE, JUDGED, MANY, NONE

WINDOWS = [MANY, NONE, HUGE, WindowValues(count=0, total=7, threshold=2.0)]
FIELDS = {"counted": "count", "total": "total", "value_count": "value_count", "sum": "sum", "min": "min", "max": "max"}

integers = st.sampled_from(["count", "total", "0", "2", "-7", "9223372036854775807", "4611686018427387904"])
doubles = st.sampled_from(["rate", "avg", "sum", "min", "max", "threshold", "0.0", "-1.5", "1e308"])


def pairs(operands: st.SearchStrategy[str], signs: str) -> st.SearchStrategy[str]:
    return st.builds("({} {} {})".format, operands, st.sampled_from(signs.split()), operands)


whole = st.recursive(integers, lambda each: pairs(each, "+ - * / %") | each.map("(-{})".format), max_leaves=3)
broken = st.recursive(
    doubles | whole.map("double({})".format),
    lambda each: pairs(each, "+ - * /") | each.map("(-{})".format),
    max_leaves=3,
)
comparisons = pairs(whole, "< <= == != > >=") | pairs(broken, "< <= == != > >=") | st.just("int(avg) == 2")
conditions = st.recursive(
    comparisons,
    lambda each: pairs(each, "&& ||") | each.map("!({})".format) | st.builds("({} ? {} : {})".format, each, each, each),
    max_leaves=4,
)
counts = st.integers(0, 9) | st.sampled_from((2**53, 2**53 + 1, 2**62, 2**63 - 1))
numbers = st.sampled_from((0.0, -0.0, 2.5, 1e308, 5e-324)) | st.floats(allow_nan=False)
windows = st.lists(
    st.builds(
        WindowValues,
        count=counts,
        total=counts,
        threshold=numbers,
        value_count=st.integers(0, 3),
        sum=numbers,
        min=st.none() | numbers,
        max=st.none() | numbers,
    ),
    min_size=1,
    max_size=4,
)


def judge(condition: ColumnCondition, given: list[WindowValues]) -> list[bool]:
    columns = {}
    for name, field in FIELDS.items():
        values = [getattr(window, field) for window in given]
        dtype = np.int64 if field in {"count", "total", "value_count"} else np.float64
        columns[name] = np.array([np.nan if value is None else value for value in values], dtype=dtype)
    read = {name: values for name, values in columns.items() if name in condition.names}
    judged: list[bool] = condition(read, np.array([float(window.threshold) for window in given])).tolist()
    return judged


@pytest.mark.parametrize("text", JUDGED)
@pytest.mark.parametrize("chosen", [WINDOWS, [MANY, NONE]])
def test_columns_are_judged_as_windows_are(text: str, chosen: list[WindowValues]) -> None:
    expression = check_condition(text)
    judge_one = compile_condition(expression)
    assert judge(compile_columns(expression), chosen) == [judge_one(window) for window in chosen]


@settings(deadline=None, max_examples=200)
@given(conditions, windows)
def test_any_condition_judges_columns_as_it_judges_windows(text: str, given: list[WindowValues]) -> None:
    expression = check_condition(text)
    judge_one = compile_condition(expression)
    assert judge(compile_columns(expression), given) == [judge_one(window) for window in given]


def test_rules_with_the_same_condition_share_it() -> None:
    assert compile_columns(check_condition("count > threshold")) is compile_columns(check_condition("count>threshold"))


def test_no_pane_is_judged_as_no_pane() -> None:
    assert judge(compile_columns(check_condition("count > threshold")), []) == []


@pytest.mark.parametrize(
    "text",
    [
        "count * 4611686018427387904 > 0",
        "count + 9223372036854775807 > 0",
        "9223372036854775807 / count > 0",
        "count > -9223372036854775807",
    ],
)
def test_what_may_overflow_is_judged_window_by_window(text: str) -> None:
    expression = check_condition(text)
    judge_one = compile_condition(expression)
    assert judge(compile_columns(expression), [MANY, NONE]) == [judge_one(MANY), judge_one(NONE)]
