from typing import Any

import numpy as np
import pytest

from services.evaluator.core.match import selection as module
from services.evaluator.core.match.events import EventColumns
from services.evaluator.core.match.lowering import Lowered, Vector, lower
from services.evaluator.core.match.selection import compile_selection
from services.rule_language.checking import check_filter
from services.rule_language.syntax_tree import Node
from tests.unit.evaluator.expressions import batch_of

EVENTS: list[dict[str, Any]] = [
    {"service": "pay", "level": 5, "message": "timeout", "status_code": 504, "attributes": {"size": "12"}},
    {"service": "pay", "level": 3, "message": "done", "response_time": 2500.0, "attributes": {"size": "big"}},
    {"service": "shop", "level": 6, "message": "refused", "status_code": 200, "attributes": {}},
    {
        "service": "shop",
        "level": 4,
        "message": "timeout",
        "response_time": 1e300,
        "status_code": None,
        "attributes": {"size": "-3"},
    },
]


def selected(text: str, among: list[int] | None = None) -> list[int]:
    among_rows = None if among is None else np.isin(np.arange(len(EVENTS)), among)
    mask = compile_selection(check_filter(text))(EventColumns.of(batch_of(EVENTS)), among_rows)
    return np.flatnonzero(mask).tolist()


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("level >= ERROR", [0, 2]),
        ("response_time > 2000.0", [1, 3]),
        ("status_code >= 500", [0]),
        ("!(status_code >= 500)", [2]),
        ('service == "pay" && message.matches("time|refused")', [0]),
        ('!(service == "pay" || message == "refused")', [3]),
        ("int(attributes.size) > 0", [0]),
        ("double(attributes.size) < 0", [3]),
        ("level in [status_code / 100]", [0]),
        ("int(response_time) > 2000 && int(level) == 3 && double(level) < 3.5", [1]),
        ("level / 2 == 2 && level % 2 == 1 && -level == -5", [0]),
        ("level + 0.5 > 5.0 && -response_time > 0.0 || level * 2.0 > 11.0", [2]),
        ("status_code in [504.0, 1.0] || (level in [6]) == true", [0, 2]),
        ('int(message) == 1 || int("x") == 1 || int("12") == 11 + size(service) - size(service) + 1', [0, 1, 2, 3]),
        ("level + 9223372036854775804 > 0", [1]),
        ("true", [0, 1, 2, 3]),
        ("false || 1 / 0 == 1", []),
        ("level > WARN ? status_code > 500 : has(attributes.size)", [0, 1, 3]),
        ('service.startsWith(message) || "s" + "hop" == service', [2, 3]),
        ('size("abc") > 2 && attributes.exists(key, attributes[key] == "big")', [1]),
        ("size(attributes) == 0", [2]),
    ],
)
def test_a_filter_selects_the_events_for_which_it_is_true(text: str, rows: list[int]) -> None:
    assert selected(text) == rows
    assert selected(text, [0, 3]) == [row for row in rows if row in {0, 3}]
    assert selected(text, [1]) == [row for row in rows if row == 1]
    assert selected(text, []) == []


def test_no_filter_selects_everything() -> None:
    columns = EventColumns.of(batch_of(EVENTS))
    assert compile_selection(None)(columns, None).all()
    among = np.array([True, False, True, False])
    assert compile_selection(None)(columns, among).tolist() == among.tolist()


def test_a_filter_of_no_events_selects_nothing() -> None:
    columns = EventColumns.of(batch_of([]))
    for text in ("level > 1", 'host.matches("a")', "true", "size(attributes) > 1"):
        assert compile_selection(check_filter(text))(columns, None).tolist() == []


def test_doubles_are_cut_towards_zero() -> None:
    columns = EventColumns.of(batch_of([{"response_time": 1.9, "attributes": {}}, {"attributes": {}}]))
    for text in ("int(response_time) == 1", "int(-response_time) == -1"):
        assert compile_selection(check_filter(text))(columns, None).tolist() == [True, False]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("(" * 14 + "level > 3" + " ? level < 9 : level == 1)" * 14, id="choices in a condition"),
        pytest.param("level > 3 ? level < 9 : (" * 14 + "level == 1" + ")" * 14, id="choices in a branch"),
        pytest.param("!(" * 7 + "level > 3" + " && level < 9 || level == 1)" * 7, id="negations in negations"),
    ],
)
def test_each_test_of_a_filter_is_planned_once_and_evaluated_once(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[Node] = []
    evaluated: list[Node] = []

    def lower_and_record(node: Node) -> Lowered | None:
        lowered = lower(node)
        assert lowered is not None
        planned.append(node)

        def evaluate(columns: EventColumns) -> Vector:
            evaluated.append(node)
            return lowered(columns)

        return evaluate

    monkeypatch.setattr(module, "lower", lower_and_record)
    # The cache would hide what is evaluated twice.
    monkeypatch.setattr(EventColumns, "cached", lambda _self, _key, compute: compute())
    select = compile_selection(check_filter(text))
    tests = text.count("level")
    assert len(planned) == tests
    select(EventColumns.of(batch_of(EVENTS)), None)
    # For a test that is wanted true and wanted false the column is read for each.
    assert len(evaluated) <= 2 * tests


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('message.contains("refused")', id="searched in columns"),
        pytest.param(r'message.matches("(?s)^fine.\\x00ref")', id="matched in columns"),
        pytest.param(r'message == "fine\n\000refused"', id="compared in columns"),
        pytest.param("message.endsWith(host)", id="judged row by row"),
        pytest.param("attributes.exists(key, attributes[key].contains(host))", id="in a loop"),
        pytest.param("[message].exists(host, host.size() == 13)", id="in a loop that takes another's name"),
        pytest.param('attributes["a\\000b"].startsWith("x")', id="under an attribute's name"),
        pytest.param('attributes.exists(key, key == "a\\000b")', id="in an attribute's name"),
        pytest.param('!(int(attributes.n) == 1) && has(attributes.n) || "7" in attributes', id="no number"),
    ],
)
def test_a_string_is_read_beyond_the_character_nul(text: str) -> None:
    refused = {
        "service": "s",
        "level": 3,
        "message": "fine\n\0refused",
        "host": "refused",
        "trace_id": "",
        "attributes": {"a\0b": "x\0refused", "n": "1\0", "7": "seven"},
    }
    fine = {**refused, "message": "fine", "host": "other", "attributes": {"a": "x", "n": "1"}}
    assert check_filter(text).evaluate(refused) is True
    columns = EventColumns.of(batch_of([refused, fine]))
    assert compile_selection(check_filter(text))(columns, None).tolist() == [True, False]


def test_an_event_beyond_the_step_limit_is_not_selected_and_counted() -> None:
    text = "attributes.all(a, attributes.all(b, a != service && b != service))"
    few, many = ({"service": "s", "attributes": {str(n): "" for n in range(size)}} for size in (3, 150))
    columns = EventColumns.of(batch_of([few, many, few]))
    assert compile_selection(check_filter(text))(columns, None).tolist() == [True, False, True]
    assert compile_selection(check_filter(f"!({text})"))(columns, None).tolist() == [False, False, False]
    # A part of the rows: what it counts is visible in the columns of the whole fetch.
    assert compile_selection(check_filter(f"level > 1 || {text}"))(columns, np.array([False, True, False])).sum() == 0
    assert columns.over_step_limit == {text: 1, f"!({text})": 1, f"level > 1 || {text}": 1}
