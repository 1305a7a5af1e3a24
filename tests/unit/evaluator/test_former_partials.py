"""Records of `window-partials` that former versions wrote lead to the same alerts."""

from base64 import b64decode
from collections import Counter
from pathlib import Path

from services.evaluator.core.records import TransitionState
from services.evaluator.core.rules import RuleSet
from tests.unit.evaluator.pipeline import Pipeline, alert_facts, rule

# Each line is an output partition and a record as it was written before a record had blocks: ten flushes of blocks of
# three sources, and a last one that says that all are idle.
RECORDS = Path(__file__).parents[2] / "data" / "partials_of_one_block.txt"
RULES = RuleSet.of(
    1,
    [
        rule("count", "count > threshold"),
        rule("sum", "sum >= threshold", 20.0),
        rule("total", "total > threshold", 4.0),
    ],
)


def test_records_of_one_block_each_are_judged_as_the_version_did_that_wrote_them() -> None:
    pipeline = Pipeline(RULES)
    for line in RECORDS.read_text().splitlines():
        number, value = line.split()
        pipeline.partials[int(number)].append(b64decode(value))
    for output in range(pipeline.outputs):
        pipeline.judge(output, pipeline.window(output), 1000)
    steps = Counter((rule_id, group, state) for rule_id, group, state, *_ in alert_facts(pipeline.alerts.values()))
    alerts = {("count", "a"): 1, ("count", "b"): 2, ("sum", "a"): 1, ("total", "a"): 2, ("total", "b"): 2}
    assert steps == {(*alert, state): times for alert, times in alerts.items() for state in TransitionState}
    assert (pipeline.gaps, pipeline.late_events) == (0, 0)
