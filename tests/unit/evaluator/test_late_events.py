"""Late events: each counted once, however many rules drop it; and by each rule that does."""

from collections.abc import Sequence
from datetime import timedelta
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from services.chassis.kafka import Record
from services.evaluator.core.match.aggregation import match_events
from services.evaluator.core.match.blocks import SourcePartition
from services.evaluator.core.records import closing_key
from services.evaluator.core.rules import RuleSet
from services.rule_language.rule import Rule
from tests.unit.evaluator.block_contents import rows_of
from tests.unit.evaluator.pipeline import DECODER, START, Event, Pipeline, moment, rule
from tocsin.logs.v1.log_event_pb2 import LogBatch

ALL = rule("all", "count > threshold", filter="true")
ERRORS = rule("errors", "count > threshold")
PATIENT = rule("patient", "count > threshold", window=timedelta(seconds=10), lateness=timedelta(seconds=100))
LATER = 150.0


def judged(rules: Sequence[Rule], *flushes: Sequence[Event], arrival: float = LATER) -> Pipeline:
    """Put each of these records through both stages by itself."""
    pipeline = Pipeline(RuleSet.of(1, rules), inputs=1)
    matcher = pipeline.matcher()
    windows = {output: pipeline.window(output) for output in range(pipeline.outputs)}
    for events in flushes:
        pipeline.append(0, events, arrival=arrival)
        pipeline.match(matcher, 0, 1)
        pipeline.flush(matcher)
        for output, window in windows.items():
            pipeline.judge(output, window, 10**6)
    return pipeline


def test_an_event_that_several_rules_drop_is_counted_once_and_for_each_of_them() -> None:
    late = [Event(2), Event(3), Event(4, level="INFO")]
    pipeline = judged([ALL, ERRORS, PATIENT], [Event(1)], [Event(50)], late)
    assert pipeline.late_events == 3
    assert pipeline.late_by_rule == {"all": 3, "errors": 2}


def test_an_event_that_one_rule_drops_and_another_takes_is_late() -> None:
    pipeline = judged([PATIENT, ERRORS], [Event(50)], [Event(2), Event(2, level="INFO")])
    assert (pipeline.late_events, pipeline.late_by_rule) == (1, {"errors": 1})


def test_events_of_several_groups_and_windows_are_each_late_once() -> None:
    late = [Event(second, service=service) for second in (1, 11, 21) for service in "abc"]
    pipeline = judged([ALL, ERRORS], [Event(50)], late, late)
    assert (pipeline.late_events, pipeline.late_by_rule) == (18, {"all": 18, "errors": 18})


def test_an_event_within_the_lateness_is_not_late() -> None:
    pipeline = judged([ALL, ERRORS], [Event(14.8)], [Event(9)])
    assert (pipeline.late_events, +pipeline.late_by_rule) == (0, {})


def test_nothing_is_sent_of_events_that_cannot_be_late() -> None:
    def closings(arrival: float) -> list[int]:
        value = LogBatch(events=[Event(2).message()]).SerializeToString()
        arrived_ms = int((START + arrival) * 1000)
        events, _ = DECODER.decode([Record("log-events", 0, 0, None, value, (), arrived_ms)])
        source = SourcePartition.at(0, 0)
        match_events(events, RuleSet.of(1, [ERRORS]), {0: source})
        return [key.pane_ns for key in rows_of(source.blocks[0]) if key.is_closing]

    assert closings(arrival=14.9) == []
    assert closings(arrival=15) == [closing_key(moment(15)).pane_ns]


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=True))
def test_as_many_are_late_as_one_rule_drops_at_least_and_all_together_at_most(random: Random) -> None:
    def flushes() -> list[list[Event]]:
        return [
            [Event(random.randrange(100), random.choice("ab"), random.choice(("INFO", "ERROR"))) for _ in range(3)]
            for _ in range(12)
        ]

    pipeline = judged([ERRORS], *flushes())
    assert pipeline.late_events == pipeline.late_by_rule["errors"]
    pipeline = judged([ERRORS, ALL, PATIENT], *flushes())
    assert pipeline.late_events == pipeline.late_by_rule["all"] >= pipeline.late_by_rule["errors"]
    one = rule("one", "count > threshold", filter='service == "a"', window=timedelta(seconds=15))
    other = rule("other", "count > threshold", window=timedelta(seconds=7), lateness=timedelta(seconds=1))
    pipeline = judged([one, other], *flushes())
    by_rule = pipeline.late_by_rule
    assert max(by_rule["one"], by_rule["other"]) <= pipeline.late_events <= by_rule.total()
