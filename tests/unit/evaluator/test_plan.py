"""What rules select when they are evaluated together."""

from typing import Any, NoReturn

import numpy as np
import pytest

from services.domain.hyperscan_patterns import to_hyperscan
from services.domain.regex import literal
from services.evaluator.core.match import confirming, field_index, pattern_index
from services.evaluator.core.match.comparisons import find_compared
from services.evaluator.core.match.distinct import distinct_values
from services.evaluator.core.match.events import EventColumns
from services.evaluator.core.match.plan import RulePlan
from services.evaluator.core.match.terms import Compares, Differs, Equals, Field, Matches, Satisfies, split
from services.evaluator.core.rules import RuleSet
from services.rule_language.checking import Expression, check_filter
from tests.unit.evaluator.expressions import batch_of
from tests.unit.evaluator.pipeline import rule

EVENTS: list[dict[str, Any]] = [
    {
        "service": "pay",
        "level": 5,
        "message": "timeout after 31 ms, retries left",
        "host": "db-1",
        "trace_id": "t1",
        "response_time": 10.5,
        "attributes": {"size": "12"},
    },
    {"service": "pay", "level": 3, "message": "done", "status_code": 200, "host": "db-2", "attributes": {}},
    {"service": "shop", "level": 6, "message": "refused\nby peer", "status_code": 500, "attributes": {"size": "x"}},
    {"service": "shop", "level": 4, "message": "timeout\0after", "response_time": 2500.0, "attributes": {}},
]


def plan_of(rules: dict[str, list[str]]) -> RulePlan[str]:
    return RulePlan({name: [check_filter(text) for text in texts] for name, texts in rules.items()})


def selected(*texts: str) -> list[int]:
    chosen = plan_of({"rule": list(texts)}).select(EventColumns.of(batch_of(EVENTS)))
    assert chosen.failed == {}
    return [] if "rule" not in chosen.rows else chosen.rows["rule"].tolist()


def test_each_rule_selects_the_events_for_which_all_its_expressions_are_true() -> None:
    rules = {
        "both": ['service == "pay"', "level >= ERROR"],
        "one": ["level >= ERROR"],
        "everything": [],
        "nothing": ['service == "none"'],
    }
    chosen = plan_of(rules).select(EventColumns.of(batch_of(EVENTS)))
    assert {name: rows.tolist() for name, rows in chosen.rows.items()} == {
        "both": [0],
        "one": [0, 2],
        "everything": [0, 1, 2, 3],
    }
    assert all(rows.dtype == np.int64 for rows in chosen.rows.values())


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('service == "pay" || service in ["shop"]', [0, 1, 2, 3]),
        ('"pay" == service && message.contains("time")', [0]),
        ('!(service == "pay" || level == FATAL)', [3]),
        ('service != "pay" && attributes.size == "x"', [2]),
        ('has(attributes.size) && host.startsWith("db")', [0]),
        ('message == "done" || trace_id in ["t1", "t2"]', [0, 1]),
        ('message.matches("timeout.*retries")', [0]),
        ('message.matches("refused.by.*peer") || message.matches("refused\\\\sby")', [2]),
        ('message.matches("timeout.after")', [0, 3]),
        ('message.matches("[^a]{1,30}ms")', [0]),
        ('message.matches("retr[^a]{1,30}left")', [0]),
        ('message.matches("\\\\pL+ after [0-9]")', [0]),
        ('message.matches("t*")', [0, 1, 2, 3]),
        ('message.endsWith("peer") && level > WARN', [2]),
        ("response_time > 10.0 && 2500.0 > response_time", [0]),
        ("10 <= response_time", [0, 3]),
        ("status_code in [200, 404] || status_code == 500", [1, 2]),
        ("status_code == 500.0 || response_time == 10.5", [0, 2]),
        ("status_code < 9223372036854775807", [1, 2]),
        ("int(attributes.size) > 10 || size(attributes) == 1 && level == FATAL", [0, 2]),
        ('(level == ERROR && message.contains("time")) || (service == "shop" && size(attributes) == 0)', [0, 3]),
        ('size(attributes) == 0 && service == "pay"', [1]),
        ("size(attributes) == 0 && level < FATAL", [1, 3]),
        ("(size(attributes) == 1 && response_time > 0.0) || level == INFO", [0, 1]),
        ("true && level == INFO", [1]),
        ("level in [status_code, 3]", [1]),
        ("host in []", []),
        ('message.contains("nowhere")', []),
        ('message.contains("") || message.contains(host)', [0, 1, 2, 3]),
        ("size(attributes) > 5 || size(host) > size(service)", [0, 1]),
    ],
)
def test_a_filter_selects_the_events_for_which_it_is_true(text: str, rows: list[int]) -> None:
    assert selected(text) == rows
    assert selected(text, "level > DEBUG") == rows
    assert selected('service == "shop"', text) == [row for row in rows if row in {2, 3}]


def test_no_rules_or_no_events_select_nothing() -> None:
    assert plan_of({}).select(EventColumns.of(batch_of(EVENTS))).rows == {}
    plan = plan_of({"rule": ['service == "pay" || message.contains("x")']})
    assert plan.select(EventColumns.of(batch_of([]))).rows == {}


def events_of(*messages: str) -> list[dict[str, Any]]:
    return [{"service": "a", "message": message, "attributes": {}} for message in messages]


def test_many_texts_are_confirmed_together() -> None:
    events = events_of("timeout", "timeout 7 retries") * 100
    chosen = plan_of({"rule": ['message.matches("timeout.*retries")']}).select(EventColumns.of(batch_of(events)))
    assert chosen.rows["rule"].tolist() == list(range(1, 200, 2))


def test_a_pattern_that_is_found_too_often_is_evaluated_by_itself() -> None:
    events = events_of("none", "eeeee") * 300
    plan = plan_of({"often": ['message.contains("e")'], "other": ['message.contains("ee")']})
    for needs_compiling in (True, False):
        chosen = plan.select(EventColumns.of(batch_of(events)))
        assert len(chosen.rows["often"]) == 600
        assert len(chosen.rows["other"]) == 300
        assert plan.needs_compiling is needs_compiling
        plan.compile()()


def test_a_pattern_that_the_scanner_refuses_is_evaluated_by_itself() -> None:
    assert selected('message.matches("a$b|don")') == [1]
    assert selected('message.matches("timeout.*retries|(a$b.*c)")') == [0]


def test_a_rule_fails_alone_when_a_term_or_the_rest_cannot_be_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> NoReturn:
        raise RuntimeError("no")

    monkeypatch.setattr(confirming.Search, "find_in_few", crash)
    monkeypatch.setattr(confirming.Search, "find_in_many", crash)
    monkeypatch.setattr(pattern_index.Pattern, "evaluate", crash)
    monkeypatch.setattr(pattern_index.Pattern, "evaluate_some", crash)
    monkeypatch.setattr(field_index, "_evaluate", crash)
    monkeypatch.setattr(Expression, "part", crash)
    broken = {
        "test": ["size(host) > 3"],
        "few": ['message.matches("do.*e")'],
        "many": ['message.matches("a$b.*e|do.*e")'],
        "doubtful": ['message.matches("d[^x]{1,30}ne")'],
        "refused": ['message.matches("a$b|e$")'],
        "rest": ["size(attributes) == 0"],
    }
    good = {"good": ["level == INFO"], "proposed": ['message.contains("done")']}
    chosen = plan_of(broken | good).select(EventColumns.of(batch_of(EVENTS)))
    assert chosen.failed.keys() == broken.keys()
    assert {name: rows.tolist() for name, rows in chosen.rows.items()} == {"good": [1], "proposed": [1]}


def test_rules_from_one_template_are_found_by_what_is_different_in_them() -> None:
    rules = {str(number): [f'message.matches("host-{number}: .* connection was refused")'] for number in range(50)}
    plan = plan_of(rules | {"any": ['message.matches("x.*connection was reset")']})
    trees = {to_hyperscan(tree) for tree in plan.indexes[Field("message")].scanner.patterns}
    different = [*(f"host-{number}: " for number in range(50)), "connection was reset"]
    assert trees == {to_hyperscan(literal(text)) for text in different}
    events = events_of("host-7: the connection was refused", "host-7: done", "x connection was reset", "host-9 is here")
    chosen = plan.select(EventColumns.of(batch_of(events)))
    assert {name: rows.tolist() for name, rows in chosen.rows.items()} == {"7": [0], "any": [2]}


def test_patterns_with_the_same_piece_are_told_apart() -> None:
    texts = ["timeout.*retries", "timeout.*left", "timeout", "timeout.(after|in)", "x.*timeout"]
    rules = {text: [f'message.matches("{text}")'] for text in texts}
    plan = plan_of(rules)
    events = events_of("timeout, retries left", "none", "timeout in retries", "x timeout", "left timeout after")
    chosen = plan.select(EventColumns.of(batch_of(events)))
    expected = [[0, 2], [0], [0, 2, 3, 4], [2, 4], [3]]
    assert {name: rows.tolist() for name, rows in chosen.rows.items()} == dict(zip(texts, expected, strict=True))
    some = plan.select(EventColumns.of(batch_of(events)), frozenset(texts[1:4]))
    assert {name: rows.tolist() for name, rows in some.rows.items()} == {texts[0]: [0, 2], texts[4]: [3]}


def test_what_only_rules_need_that_are_left_out_is_not_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = {
        "refused": 'message.matches("a$b|peer")',
        "doubtful": 'message.matches("d[^x]{1,30}e")',
        "searched": 'message.matches("do.*e")',
        "test": "size(host) > 3",
        "other": 'message.contains("time")',
    }
    plan = plan_of({name: [text] for name, text in rules.items()})
    evaluated: list[str] = []

    def note(owner: object, name: str) -> None:
        original = getattr(owner, name)

        def noting(*arguments: object) -> object:
            evaluated.append(name)
            return original(*arguments)

        monkeypatch.setattr(owner, name, noting)

    note(pattern_index.Pattern, "evaluate")
    note(pattern_index.Pattern, "evaluate_some")
    note(confirming.Search, "find_in_few")
    note(field_index, "_evaluate")
    columns = EventColumns.of(batch_of(EVENTS))
    assert list(plan.select(columns, frozenset(rules) - {"other"}).rows) == ["other"]
    assert evaluated == []
    assert plan.select(columns).rows.keys() == rules.keys()
    assert sorted(evaluated) == ["_evaluate", "evaluate", "evaluate_some", "find_in_few"]


def test_a_plan_takes_over_what_finds_the_patterns_when_these_are_the_same() -> None:
    field = Field("message")
    rules = {"a": [check_filter('message.contains("time")')], "b": [check_filter("level > INFO")]}
    first = RulePlan(rules)
    same = RulePlan({**rules, "c": [check_filter("level > WARN")]}, first)
    assert same.indexes[field].scanner is first.indexes[field].scanner
    other = RulePlan({"d": [check_filter('message.contains("peer")')]}, same)
    assert other.indexes[field].scanner is not same.indexes[field].scanner


def test_a_filter_is_split_into_clauses_and_the_rest() -> None:
    text = 'service == "a" && (level >= 3 || host.matches("x")) && trace_id == "t" && has(attributes.k) && level < rest'
    conditions = split([check_filter(text.replace("rest", "status_code"))])
    kinds = [sorted(type(term).__name__ for term in clause) for clause in conditions.clauses]
    assert kinds == [["Equals"], ["Compares", "Matches"], ["Matches"], ["Satisfies"]]
    assert len(conditions.rest) == 1


def test_a_pattern_of_great_cost_is_left_out() -> None:
    text = "|".join("abcdefghij" for _ in range(50))
    assert split([check_filter(f'message.matches("{text}")')]).clauses == ()


@pytest.mark.parametrize("count", [1, 20])
def test_numbers_are_compared_with_one_bound_as_with_many(count: int) -> None:
    numbers = batch_of([{"response_time": each, "attributes": {}} for each in (3.0, None, 1.0, 2.0)] * 10).column(
        "response_time"
    )
    field = Field("response_time")
    expected = {"<": [2], "<=": [2, 3], ">": [0], ">=": [0, 3]}
    for sign, positions in expected.items():
        terms = {key: Compares(field, sign, 2.0) for key in range(count)} | {99: Compares(field, sign, float("nan"))}
        wanted = [number for number in range(40) if number % 4 in positions]
        found = dict(find_compared(terms, numbers))
        assert {key: rows.tolist() for key, rows in found.items() if key != 99} == dict.fromkeys(range(count), wanted)
    spread = batch_of([{"response_time": float(n), "attributes": {}} for n in range(100)]).column("response_time")
    many = {key: Compares(field, ">", float(bound)) for key, bound in enumerate([98, 97, 200, 3, 4, 5, 6, 7, 8])}
    assert {key: len(rows) for key, rows in find_compared(many, spread)} == {
        0: 1, 1: 2, 3: 96, 4: 95, 5: 94, 6: 93, 7: 92, 8: 91,
    }  # fmt: skip


def test_distinct_values_know_their_rows() -> None:
    columns = EventColumns.of(batch_of(EVENTS))
    services = distinct_values(columns, Field("service"))
    assert services.values.to_pylist() == ["pay", "shop"]
    assert services.rows(np.array([1])).tolist() == [2, 3]
    assert services.rows(np.array([0, 1])).tolist() == [0, 1, 2, 3]
    sizes = distinct_values(columns, Field("attributes", "size"))
    assert sizes.values.to_pylist() == ["12", None, "x"]
    assert sizes.columns.attribute("size").to_pylist() == ["12", None, "x"]
    assert distinct_values(columns, Field("attributes", "size")) is sizes
    assert distinct_values(columns, Field("message")).rows(np.array([3])).tolist() == [3]


def test_a_term_is_of_the_kind_that_answers_it_fastest() -> None:
    for text, kind in {
        'service == "a"': Equals,
        'message == "a"': Matches,
        'host != "a"': Differs,
        '"12" != attributes.size': Differs,
        "!(level in [3, 5])": Differs,
        "level == 3": Equals,
        "response_time > 3": Compares,
        'host.contains("a")': Matches,
        "size(host) > 3": Satisfies,
    }.items():
        (clause,) = split([check_filter(text)]).clauses
        assert [type(term) for term in clause] == [kind]


def test_rules_that_exclude_values_select_what_has_another_one() -> None:
    texts = (
        'service != "nowhere"',
        'service != "neither"',
        'service != "pay"',
        'attributes.size != "x"',
        '!(service in ["pay", "shop"])',
    )
    rules = {text: [check_filter(text)] for text in texts}
    rows = RulePlan(rules).select(EventColumns.of(batch_of(EVENTS))).rows
    assert {text: each.tolist() for text, each in rows.items()} == {
        texts[0]: [0, 1, 2, 3],
        texts[1]: [0, 1, 2, 3],
        texts[2]: [2, 3],
        # An event without the attribute has no other value of it.
        texts[3]: [0],
    }
    # So it costs nothing to see that these have selected the same.
    assert rows[texts[0]] is rows[texts[1]]


def test_the_plan_of_changed_rules_takes_over_from_the_one_before() -> None:
    field = Field("message")
    loud = rule("loud", "count > threshold", filter='message.contains("time")')
    first = RuleSet.of(1, [loud])
    assert RuleSet.of(2, [loud], first).compiled_plan is None
    scanner = first.plan.indexes[field].scanner
    changes = RuleSet.of(2, [rule("other", "count > threshold")], first)
    assert first.with_changes(changes, []).plan.indexes[field].scanner is scanner
    again = RuleSet.of(3, [loud], first)
    assert RuleSet.of(4, [loud], again).plan.indexes[field].scanner is scanner
