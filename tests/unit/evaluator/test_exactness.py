"""The promise: the same events give the same alerts, whatever happens on the way."""

import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.evaluator.core import records
from services.evaluator.core.records import Transition, TransitionState
from services.evaluator.core.rules import RuleSet
from tests.unit.evaluator.naive import WINDOW, expected, holding, windows_of
from tests.unit.evaluator.pipeline import Chaos, Event, Pipeline, alert_facts, rule, run

RULES = RuleSet.of(
    1,
    [
        rule("count", "count > threshold"),
        rule("sum", "sum >= threshold", 20.0),
        rule("greatest", "max > threshold", 9.0, scope='service != "c"'),
        rule("total", "total > threshold", 4.0),
        rule("both", "count >= threshold && total > 3"),
        rule("unselected", "count < 1000"),
    ],
)
END = 500.0
# Enough to fail when something is broken; for a long search set the number higher.
EXAMPLES = int(os.environ.get("TOCSIN_EXACTNESS_EXAMPLES", "12"))

randoms = st.randoms(use_true_random=True)


@pytest.fixture(autouse=True, scope="module")
def _small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "BLOCK_RECORDS", 3)
        yield


def random_events(random: Random, count: int, windows: int = 6) -> list[Event]:
    return [
        Event(
            second=random.randrange(windows * WINDOW * 4) / 4,
            service=random.choice("aab"),
            level=random.choice(("INFO", "ERROR", "FATAL")),
            response_time=random.choice((None, 0.25, 3.5, 9.75)),
        )
        for _ in range(count)
    ]


def in_records(random: Random, events: list[Event]) -> Iterator[tuple[int, list[Event]]]:
    """Cut events into records of random partitions, some of them empty."""
    left = list(events)
    while left:
        size = random.randrange(5)
        yield random.randrange(3), left[:size]
        left = left[size:]


def window_by_window(events: list[Event]) -> list[list[Event]]:
    starts = sorted({event.second // WINDOW for event in events})
    return [[event for event in events if event.second // WINDOW == start] for start in starts]


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(randoms)
def test_crashes_flush_borders_and_two_owners_change_nothing(random: Random) -> None:
    events = random_events(random, random.randrange(60))
    pipeline = Pipeline(RULES)
    chaos = Chaos(pipeline, random)
    for window in window_by_window(events):
        for partition, record in in_records(random, window):
            pipeline.append(partition, record)
            for _ in range(random.randrange(4)):
                chaos.step()
        chaos.settle()
    chaos.finish(END)
    assert alert_facts(pipeline.alerts.values()) == expected(RULES, events)
    assert pipeline.gaps == 0


@settings(max_examples=EXAMPLES, deadline=None)
@given(randoms)
def test_without_failures_no_event_is_late_and_no_alert_is_missing(random: Random) -> None:
    events = sorted(random_events(random, 60), key=lambda event: event.second)
    pipeline = Pipeline(RULES)
    for partition, record in in_records(random, events):
        pipeline.append(partition, record)
    run(pipeline, END)
    assert pipeline.late_events == 0
    check_all_alerts(pipeline, events)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(randoms)
def test_whatever_the_order_every_window_that_meets_the_condition_is_in_an_alert(random: Random) -> None:
    """Partitions run ahead of each other by several windows; then an alert may begin with a later window."""
    events = random_events(random, random.randrange(80))
    by_partition: dict[int, list[Event]] = {0: [], 1: [], 2: []}
    for event in events:
        by_partition[random.randrange(3)].append(event)
    pipeline = Pipeline(RULES)
    for partition, chosen in by_partition.items():
        for start in range(0, len(chosen), 3):
            pipeline.append(partition, sorted(chosen, key=lambda event: event.second)[start : start + 3], arrival=END)
    chaos = Chaos(pipeline, random)
    for _ in range(60):
        chaos.step()
    chaos.finish(END + 400)
    check_all_alerts(pipeline, events)


def check_all_alerts(pipeline: Pipeline, events: list[Event]) -> None:
    for (rule_id, service), starts in holding(RULES, events).items():
        steps = [each for each in pipeline.alerts.values() if (each.rule_id, each.resource) == (rule_id, service)]
        check_episodes(steps, starts)


def check_episodes(steps: list[Transition], starts: set[int]) -> None:
    """Episodes alternate, begin with windows that meet the condition, end with ones that do not, and miss no window."""
    episodes = [(each.first_window_ns, each) for each in steps if each.state is TransitionState.FIRING]
    ends = {each.first_window_ns: each for each in steps if each.state is TransitionState.RESOLVED}
    assert {first for first, _ in episodes} == set(ends)
    spans = sorted((start_of(fired), start_of(ends[first])) for first, fired in episodes)
    assert all(one[1] <= other[0] for one, other in pairwise(spans))
    assert {first for first, _ in spans} <= starts
    assert not {end for _, end in spans} & starts
    latest = max((first for first, _ in spans), default=-1)
    for start in starts:
        assert any(first <= start < end for first, end in spans) or start < latest


def start_of(transition: Transition) -> int:
    return alert_facts([transition]).pop()[3].__int__()


@settings(max_examples=EXAMPLES, deadline=None)
@given(randoms)
def test_the_last_window_is_counted_to_the_last_event(random: Random) -> None:
    events = random_events(random, 60)
    pipeline = Pipeline(RuleSet.of(1, [rule("any", "total > 0 && count < 1000", 1)]))
    chaos = Chaos(pipeline, random)
    for window in window_by_window(events):
        for partition, record in in_records(random, window):
            pipeline.append(partition, record)
            chaos.step()
        chaos.settle()
    windows = windows_of(events)
    for owner, *_ in chaos.windows.values():
        for start_ns, group, merged, sample_count in owner.content():
            content = windows[group[0]][int((start_ns // 10**9) - (1_700_000_000 // 60 * 60))]
            assert (merged.counted, merged.total, merged.sum) == (content.count, content.total, sum(content.values))
            assert sample_count == min(3, content.count)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(randoms)
def test_a_count_is_never_judged_with_the_total_of_another_moment(random: Random) -> None:
    events = [replace(event, level="ERROR") for event in random_events(random, 60)]
    pipeline = Pipeline(RuleSet.of(1, [rule("differ", "count != total"), rule("few", "count < total")]))
    chaos = Chaos(pipeline, random)
    for window in window_by_window(events):
        for partition, record in in_records(random, window):
            pipeline.append(partition, record)
            chaos.step()
        chaos.settle()
    chaos.finish(END)
    assert alert_facts(pipeline.alerts.values()) == set()


@pytest.mark.filterwarnings("error")
def test_values_whose_sum_is_beyond_all_doubles_stop_nothing() -> None:
    pipeline = Pipeline(RULES)
    pipeline.append(0, [Event(second, response_time=1e308) for second in (1, 2, 3)])
    run(pipeline)
    assert {alert.rule_id for alert in pipeline.alerts.values()} >= {"count", "sum", "greatest"}
