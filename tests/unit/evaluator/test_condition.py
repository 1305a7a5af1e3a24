from typing import Any

import pytest

from services.evaluator.core.window.condition import WindowValues, compile_condition, may_hold_when_empty
from services.rule_language.checking import Expression, check_condition
from services.rule_language.environment import StepLimitError

MANY = WindowValues(count=101, total=500, threshold=100.0, value_count=4, sum=10.0, min=-1.0, max=7.5)
NONE = WindowValues(count=0, total=0, threshold=100.0)
INTEGERS = WindowValues(count=4, total=5, threshold=2, value_count=1, sum=3, min=3, max=3)
HUGE = WindowValues(count=2**63 - 1, total=2**63 - 1, threshold=0.0)


CASES: list[Any] = [
    ("count > threshold", MANY, True),
    ("count > threshold", NONE, False),
    ("rate > 0.2 && total >= 500", MANY, True),
    ("rate == 0.0", NONE, True),
    ("avg == 2.5 && min < 0 && max > 7 && sum == 10.0", MANY, True),
    pytest.param("avg > 1.0", NONE, False, id="no average without values"),
    pytest.param("!(avg > 1.0)", NONE, False, id="nor its negation"),
    pytest.param("max > 1 || count == 0", NONE, True, id="absent or true"),
    pytest.param("count == 0 || max > 1", NONE, True, id="true or absent"),
    pytest.param("max > 1 || count > 0", NONE, False, id="absent or false"),
    pytest.param("!(max > 1 && count > 0)", NONE, True, id="not (absent and false)"),
    pytest.param("!(count > 0 && max > 1)", NONE, True, id="not (false and absent)"),
    pytest.param("max > 1 && count == 0", NONE, False, id="absent and true"),
    pytest.param("max > 1 ? true : true", NONE, False, id="a choice by an absent value"),
    pytest.param("count > 0 ? max > 7 : false", MANY, True, id="the first choice"),
    pytest.param("count > 0 ? max > 7 : total == 0", NONE, True, id="the second choice"),
    pytest.param("sum / count >= 0.0", NONE, False, id="no number"),
    pytest.param("10 / total > 0 || 10 % total > 0", NONE, False, id="division by zero"),
    pytest.param("-7 / 2 == -3 && -7 % 2 == -1 && 7 / 2 == 3", NONE, True, id="cut towards zero"),
    pytest.param("count + 1 > 0", HUGE, False, id="beyond 64 bits"),
    pytest.param("-count - 1 < 0", HUGE, True, id="just within 64 bits"),
    pytest.param("(-count - 1) / -1 > 0", HUGE, False, id="beyond 64 bits by division"),
    pytest.param("(-count - 1) % -1 == 0", HUGE, False, id="beyond 64 bits by remainder"),
    pytest.param("count * 2.0 - total > 0.0 && -rate < 0.0", MANY, False, id="mixed"),
    pytest.param("double(count) + double(rate) + 1.0 > 102 && int(count) == 101", MANY, True, id="conversions"),
    pytest.param("count == count + rate && count != count - 1", HUGE, True, id="doubles are not that exact"),
    pytest.param("int(avg) == 2", MANY, True, id="left to CEL"),
    pytest.param("count in [100, 101]", MANY, True, id="a list is left to CEL"),
    pytest.param("[count, total].exists(n, n == 500)", MANY, True, id="a loop is left to CEL"),
    pytest.param("int(avg) == 0 || true", NONE, True, id="left to CEL with something absent"),
    pytest.param("int(threshold * 1.5) == 3 && max * 2.0 == 6.0", INTEGERS, True, id="integers in double fields"),
    pytest.param("int(avg) == 0", NONE, False, id="absent for CEL too"),
]
# The conditions alone.
JUDGED = sorted({getattr(case, "values", case)[0] for case in CASES})


@pytest.mark.parametrize(("text", "window", "holds"), CASES)
def test_a_condition_judges_a_window(text: str, window: WindowValues, *, holds: bool) -> None:
    assert compile_condition(check_condition(text))(window) is holds


def test_a_condition_beyond_the_step_limit_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluate(*_: object) -> bool:
        raise StepLimitError

    judge = compile_condition(check_condition("[count].exists(n, n > 0)"))
    assert judge(MANY)
    monkeypatch.setattr(Expression, "evaluate", evaluate)
    assert not judge(MANY)


@pytest.mark.parametrize(
    ("text", "may"),
    [
        ("count > threshold", False),
        ("count < threshold", True),
        ("count == 0", True),
        ("max > 1.0", False),
        ("!(max > 1.0)", False),
        ("int(avg) == 0 || count < 1", True),
        pytest.param("rate > 0.05 && total > 100", False, id="no total makes a rate above zero"),
        pytest.param("count > total * 0.05 && count > 3", False, id="decided beside the total"),
        pytest.param("rate < 0.05", True, id="every total does"),
        pytest.param("total > 100", True, id="some total does"),
        pytest.param("rate < 0.05 && total > 100", True, id="some total does, with the rate"),
        pytest.param("int(rate) == 1", False, id="left to CEL: none does"),
        pytest.param("int(rate) + total > 9", True, id="left to CEL: some do"),
    ],
)
def test_whether_a_window_in_which_nothing_was_selected_can_be_an_alert(text: str, *, may: bool) -> None:
    assert may_hold_when_empty(check_condition(text), 2.0) is may
