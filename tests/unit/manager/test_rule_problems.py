"""What an evaluator's report changes in the problems of rules, and in their histories."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.domain.problem_reason import ProblemReason
from services.manager.core.rule_problems import ReportedProblem, RuleHistoryEntry, RuleHistoryKind, apply_report

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
SLOW = ReportedProblem(
    instance="one", reason=ProblemReason.OVER_BUDGET, description="it is slow", set_aside_time=NOW, retry_time=LATER
)
BROKEN = replace(SLOW, reason=ProblemReason.COMPILE_FAILED, description="condition: no", retry_time=None)


def kinds(history: Mapping[str, RuleHistoryEntry]) -> dict[str, RuleHistoryKind]:
    return {rule_id: entry.kind for rule_id, entry in history.items()}


def test_a_new_problem_and_its_end_are_history() -> None:
    begun = apply_report({}, {"rule": SLOW}, LATER)
    assert (begun.current, begun.over) == ({"rule": SLOW}, frozenset())
    assert begun.history == {
        "rule": RuleHistoryEntry(
            kind=RuleHistoryKind.SET_ASIDE,
            create_time=NOW,
            reason=ProblemReason.OVER_BUDGET,
            description="it is slow",
            instance="one",
        )
    }
    ended = apply_report({"rule": SLOW}, {}, LATER)
    assert (ended.current, ended.over) == ({}, frozenset({"rule"}))
    assert ended.history == {"rule": RuleHistoryEntry(kind=RuleHistoryKind.RESUMED, create_time=LATER, instance="one")}


def test_a_rule_that_is_set_aside_again_or_for_another_reason_is_new_history() -> None:
    again = replace(SLOW, set_aside_time=LATER)
    assert kinds(apply_report({"rule": SLOW}, {"rule": again}, LATER).history) == {"rule": RuleHistoryKind.SET_ASIDE}
    assert kinds(apply_report({"rule": SLOW}, {"rule": BROKEN}, LATER).history) == {"rule": RuleHistoryKind.SET_ASIDE}


def test_a_rule_that_cannot_be_compiled_stays_as_it_was_when_the_evaluator_is_started_again() -> None:
    again = apply_report({"rule": BROKEN}, {"rule": replace(BROKEN, set_aside_time=LATER)}, LATER)
    assert (again.current, again.history) == ({"rule": BROKEN}, {})
    other = replace(BROKEN, description="filter: no", set_aside_time=LATER)
    assert apply_report({"rule": BROKEN}, {"rule": other}, LATER).current == {"rule": other}


problems = st.builds(
    ReportedProblem,
    instance=st.just("one"),
    reason=st.sampled_from(ProblemReason),
    description=st.sampled_from(["x", "y"]),
    set_aside_time=st.sampled_from([NOW, LATER]),
    retry_time=st.sampled_from([None, LATER]),
)
reports = st.dictionaries(st.sampled_from("abc"), problems)


@given(reports, reports)
def test_a_report_that_comes_twice_is_history_once(
    before: dict[str, ReportedProblem], now: dict[str, ReportedProblem]
) -> None:
    once = apply_report(before, now, LATER)
    assert once.current.keys() == now.keys()
    assert once.over == before.keys() - now.keys()
    twice = apply_report(once.current, now, LATER)
    assert (twice.current, twice.over, twice.history) == (once.current, frozenset(), {})
