"""Which rules are set aside, and when they are tried again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.problem_reason import ProblemReason
from services.evaluator.core.match.rule_load import Budget, Measurement, RuleLoad, RuleVersion, over_budget
from services.evaluator.core.rule_problems import RuleHealth, refused, supervise
from services.rule_language.checking import check_filter
from services.rule_language.diagnostics import ExpressionError
from tests.fakes.evaluator import NOW

BUDGET = Budget()
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
SLOW, OTHER, THIRD = ("slow", 1), ("other", 1), ("third", 1)


@dataclass
class Stage:
    """A match stage, second by second."""

    known: Sequence[RuleVersion] = (SLOW, OTHER)
    health: RuleHealth = field(default_factory=RuleHealth)
    now: datetime = NOW

    def run(
        self,
        seconds: int,
        costs: Mapping[RuleVersion, float] | None = None,
        *,
        busy: float = 1.0,
        failed: Sequence[RuleVersion] = (),
    ) -> dict[str, ProblemReason]:
        """Match for some seconds; a rule that is set aside costs nothing. Return which ones are then."""
        for _ in range(seconds):
            self.now += SECOND
            taken = {each: cost for each, cost in (costs or {}).items() if each not in self.health.problems}
            cpu = busy if taken == (costs or {}) else max(0.1, sum(taken.values()))
            measurement = Measurement(elapsed=1.0, busy=min(busy, cpu), cpu=cpu, measured=cpu, rules=taken)
            self.health = self.health.measured(measurement, BUDGET)
            self.health = self.health.fetched([each for each in failed if each not in self.health.problems])
            self.health = supervise(self.health, self.known, BUDGET, self.now)
        return {rule_id: problem.reason for (rule_id, _), problem in self.health.problems.items()}


def test_a_rule_that_takes_more_than_its_share_while_others_wait_is_set_aside_and_says_why() -> None:
    stage = Stage()
    assert stage.run(35, {SLOW: 0.7}) == {}
    assert stage.run(15, {SLOW: 0.7}) == {"slow": ProblemReason.OVER_BUDGET}
    problem = stage.health.problems[SLOW]
    assert problem.description == (
        "its own expressions took 70% of the CPU of the match stage, which could not keep up; one rule may take 50%"
    )
    assert problem.retry_at == problem.since + MINUTE


def test_on_a_machine_that_keeps_up_no_rule_is_set_aside() -> None:
    assert Stage().run(300, {SLOW: 0.8}, busy=0.85) == {}


def test_a_rule_alone_is_never_set_aside() -> None:
    stage = Stage(known=[SLOW])
    assert [stage.run(1, {SLOW: 0.99}) for _ in range(90)] == [{}] * 90


def test_a_rule_that_is_slow_for_a_short_time_stays() -> None:
    stage = Stage()
    for _ in range(10):
        stage.run(20, {SLOW: 0.9})
        assert stage.run(40, {SLOW: 0.1}) == {}


def test_of_rules_that_together_take_too_much_the_costliest_are_set_aside() -> None:
    stage = Stage(known=[SLOW, OTHER, THIRD])
    assert stage.run(50, {SLOW: 0.4, OTHER: 0.3, THIRD: 0.2}) == {"slow": ProblemReason.OVER_BUDGET}
    assert stage.health.problems[SLOW].description == (
        "its own expressions took 40% of the CPU of the match stage, which could not keep up, and all rules together"
        " more than 80%"
    )


def test_many_rules_that_each_take_little_are_too_many_but_none_is_to_blame() -> None:
    known = [(f"rule-{number}", 1) for number in range(30)]
    assert Stage(known=known).run(200, dict.fromkeys(known, 0.033)) == {}


def test_a_rule_is_tried_again_with_growing_pauses_and_at_once_when_it_is_edited() -> None:
    stage = Stage()
    stage.run(50, {SLOW: 0.7})
    pauses = []
    for _ in range(9):
        problem = stage.health.problems[SLOW]
        assert problem.retry_at is not None
        pauses.append((problem.retry_at - problem.since) / MINUTE)
        assert stage.run(int((problem.retry_at - stage.now).total_seconds()), {SLOW: 0.7}) == {}
        stage.run(80, {SLOW: 0.7})
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    stage.known = [("slow", 2), OTHER]
    assert stage.run(1) == {}


def test_a_rule_that_has_been_well_for_long_begins_with_the_shortest_pause() -> None:
    stage = Stage()
    stage.run(120, {SLOW: 0.7})
    stage.run(200, {SLOW: 0.1})
    stage.run(50, {SLOW: 0.7})
    problem = stage.health.problems[SLOW]
    assert problem.retry_at == problem.since + MINUTE


def test_rules_over_budget_come_back_one_at_a_time() -> None:
    stage = Stage(known=[SLOW, OTHER, THIRD])
    assert set(stage.run(40, {SLOW: 0.9})) == {"slow"}
    assert set(stage.run(54, {OTHER: 0.9})) == {"slow", "other"}
    stage.health = replace(stage.health, tried_at=stage.now)
    tried_at = [stage.now]
    for _ in range(200):
        before = set(stage.health.problems)
        stage.run(1, busy=0.0)
        tried_at += [stage.now] * len(before - set(stage.health.problems))
    assert [(later - earlier) / MINUTE for earlier, later in pairwise(tried_at)] == [1, 1]


def test_a_rule_that_fails_on_several_fetches_in_a_row_is_set_aside_alone_and_tried_again() -> None:
    stage = Stage()
    assert stage.run(4, failed=[SLOW], busy=0.1) == {}
    assert stage.run(1, busy=0.1) == {}
    assert stage.run(4, failed=[SLOW], busy=0.1) == {}
    assert stage.run(1, failed=[SLOW], busy=0.1) == {"slow": ProblemReason.EVALUATION_FAILED}
    assert stage.health.problems[SLOW].description.startswith("it could not be evaluated on 5 fetches in a row")
    assert stage.run(60, failed=[SLOW], busy=0.1) == {}
    assert stage.run(5, failed=[SLOW], busy=0.1) == {"slow": ProblemReason.EVALUATION_FAILED}


def test_a_stage_that_has_just_begun_is_not_behind() -> None:
    load = RuleLoad().add(Measurement(elapsed=5.0, busy=5.0, cpu=5.0, measured=5.0, rules={SLOW: 4.0}), BUDGET)
    assert not load.is_behind(BUDGET)
    assert load.add(Measurement(elapsed=6.0, busy=6.0, cpu=6.0, measured=0.0, rules={}), BUDGET).is_behind(BUDGET)
    assert RuleLoad().shares == {}


def test_a_fetch_stands_for_all_that_was_matched_since_the_one_before() -> None:
    load = RuleLoad().add(Measurement(elapsed=1.0, busy=1.0, cpu=1.0, measured=0.1, rules={SLOW: 0.06}), BUDGET)
    assert load.shares[SLOW] == pytest.approx(0.6)


def test_a_refused_rule_says_what_the_check_of_a_rule_says_and_no_text_of_a_library() -> None:
    with pytest.raises(ExpressionError) as error:
        check_filter("serv == 'a'")
    assert refused(error.value, NOW).description.startswith('line 1, column 1: unknown name "serv"')
    problem = refused(RuntimeError("at 0x7f"), NOW)
    assert problem.reason is ProblemReason.COMPILE_FAILED
    assert problem.description == "it could not be compiled; rule_refused in the evaluator's log says why"


versions = st.tuples(st.sampled_from("abcdef"), st.integers(1, 2))
shares = st.dictionaries(versions, st.floats(0, 1), max_size=8)


@given(shares)
def test_no_rule_is_over_budget_while_each_and_all_are_under_it(found: dict[RuleVersion, float]) -> None:
    total = sum(found.values())
    fitting = {version: share * 0.79 / total for version, share in found.items()} if total > 0.79 else found
    if all(share <= BUDGET.rule_share for share in fitting.values()):
        assert over_budget(fitting, BUDGET) == []


@given(shares, st.randoms())
def test_the_order_of_the_rules_does_not_matter(found: dict[RuleVersion, float], random: object) -> None:
    listed = list(found.items())
    random.shuffle(listed)  # type: ignore[attr-defined]
    assert over_budget(dict(listed), BUDGET) == over_budget(found, BUDGET)


@given(shares)
def test_without_the_rules_over_budget_the_others_have_room_or_none_takes_much(found: dict[RuleVersion, float]) -> None:
    over = over_budget(found, BUDGET)
    rest = {version: share for version, share in found.items() if version not in over}
    assert sum(rest.values()) <= BUDGET.rules_share + 1e-9 or all(share < 0.05 for share in rest.values())


steps = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.booleans()), max_size=40)


@given(steps)
def test_whatever_happens_one_rule_is_evaluated_and_each_pause_ends(
    given_steps: list[tuple[float, float, float, bool]],
) -> None:
    stage = Stage()
    for slow, other, busy, fails in given_steps:
        stage.run(20, {SLOW: slow * busy, OTHER: other * busy}, busy=busy)
        reasons = [problem.reason for problem in stage.health.problems.values()]
        assert reasons.count(ProblemReason.OVER_BUDGET) < len(stage.known)
        stage.run(1, failed=[SLOW] * fails, busy=busy)
    stage.health = replace(stage.health, load=RuleLoad())
    for _ in range(4):
        stage.now += timedelta(hours=2)
        stage.run(1, busy=0.0)
    assert stage.health.problems == {}
