import numpy as np

from services.evaluator.core.match.events import EventColumns
from services.evaluator.core.match.plan import RulePlan
from services.rule_language.checking import check_filter
from tests.unit.evaluator.expressions import batch_of

EVENTS = [
    {"service": "pay", "level": 5, "message": "timeout", "attributes": {"size": "12"}},
    {"service": "pay", "level": 3, "message": "done", "attributes": {}},
    {"service": "shop", "level": 6, "message": "refused", "attributes": {}},
]


def selected(rules: dict[str, list[str]]) -> dict[str, list[int]]:
    plan = RulePlan.of({name: [check_filter(text) for text in texts] for name, texts in rules.items()})
    chosen = plan.select(EventColumns.of(batch_of(EVENTS)))
    assert chosen.failed == {}
    assert all(rows.dtype == np.int64 for rows in chosen.rows.values())
    return {name: rows.tolist() for name, rows in chosen.rows.items()}


def test_each_rule_selects_the_events_for_which_all_its_expressions_are_true() -> None:
    rules = {
        "both": ['service == "pay"', "level >= ERROR"],
        "one": ["level >= ERROR"],
        "everything": [],
        "nothing": ['service == "none"'],
    }
    assert selected(rules) == {"both": [0], "one": [0, 2], "everything": [0, 1, 2]}
