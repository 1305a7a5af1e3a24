"""Records of `window-partials` that former versions wrote lead to the same alerts."""

from base64 import b64decode
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from services.evaluator.core.records import TransitionState
from services.evaluator.core.rules import RuleSet
from tests.unit.evaluator.pipeline import Pipeline, alert_facts, rule

# Each line is an output partition and a record as it was written: ten flushes of blocks of three sources, and a last
# one that says that all are idle.
DATA = Path(__file__).parents[2] / "data"
RULES = RuleSet.of(
    1,
    [
        rule("count", "count > threshold"),
        rule("sum", "sum >= threshold", 20.0),
        rule("total", "total > threshold", 4.0),
    ],
)


def steps_of(name: str) -> Mapping[tuple[str, str, TransitionState], int]:
    """Count the transitions that the records of a file lead to, by rule, group and state."""
    pipeline = Pipeline(RULES)
    for line in (DATA / name).read_text().splitlines():
        number, value = line.split()
        pipeline.partials[int(number)].append(b64decode(value))
    for output in range(pipeline.outputs):
        pipeline.judge(output, pipeline.window(output), 1000)
    assert (pipeline.gaps, pipeline.late_events) == (0, 0)
    return Counter((rule_id, group, state) for rule_id, group, state, *_ in alert_facts(pipeline.alerts.values()))


@pytest.mark.parametrize(
    ("name", "totals"),
    [
        # Before a record had blocks.
        ("partials_of_one_block.txt", {("total", "a"): 2}),
        # Before rules shared rows.
        ("partials_of_blocks.txt", {("total", "a"): 1}),
    ],
)
def test_records_of_former_versions_are_judged_as_these_did(name: str, totals: Mapping[tuple[str, str], int]) -> None:
    alerts = {("count", "a"): 1, ("count", "b"): 2, ("sum", "a"): 1, ("total", "b"): 2, **totals}
    assert steps_of(name) == {(*alert, state): times for alert, times in alerts.items() for state in TransitionState}
