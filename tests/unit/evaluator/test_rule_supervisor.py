"""The match loop with rules that fail or take too much: they are set aside, and the others go on."""

from collections.abc import Iterator
from datetime import timedelta
from typing import NoReturn

import numpy as np
import pytest
from structlog.testing import capture_logs

from services.chassis import telemetry
from services.domain.problem_reason import ProblemReason
from services.evaluator.core.match.cpu_meter import CpuMeter
from services.evaluator.core.match.events import EventColumns, RowMask
from services.evaluator.core.match.plan import RulePlan
from services.evaluator.core.rules import RuleSet
from services.rule_language.checking import check_filter
from services.rule_language.rule import Rule
from tests.unit.evaluator.expressions import batch_of
from tests.unit.evaluator.match_loop import GOOD, Loop
from tests.unit.evaluator.pipeline import rule
from tests.unit.evaluator.rows import to_rows
from tests.unit.evaluator.test_plan import EVENTS

PLAIN = rule("plain", "count > threshold")
SCOPED = rule("scoped", "count > threshold", scope="level > INFO")


class Odd:
    """A scope that takes CPU time, or fails."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.seconds = 0.0
        self.fails = False

    def __call__(self, columns: EventColumns, _among: RowMask | None) -> RowMask:
        if self.fails:
            raise RuntimeError("at 0x7f")
        self.loop.clock.advance(timedelta(seconds=self.seconds))
        return np.ones(len(columns), dtype=np.bool_)


class Supervised(Loop):
    """The loop with a plain rule, and one whose scope is odd."""

    def __init__(self, scoped: Rule = SCOPED) -> None:
        super().__init__(PLAIN, scoped)
        self.odd = Odd(self)
        compiled = self.rules.current.rules["scoped"]
        object.__setattr__(compiled, "scope", self.odd)
        self.offset = 0

    async def fetch(self, count: int = 1, *, seconds: float = 0.001) -> None:
        for _ in range(count):
            await self.bring(GOOD, first=self.offset, assigned=None if self.offset else 0, seconds=seconds)
            self.offset += 1

    @property
    def problems(self) -> dict[str, ProblemReason]:
        return {each: problem.reason for each, problem in self.worker._supervisor.problems.items()}

    def missed(self) -> list[str]:
        return [rule_id for _, batch in self.partials.written for rule_id, _ in batch.blocks[0].missed]


@pytest.fixture
def loop() -> Iterator[Supervised]:
    with telemetry.telemetry("test", "i", ""):
        yield Supervised()


def exposed(name: str) -> list[str]:
    lines = telemetry.exposition()[0].decode().splitlines()
    return [line for line in lines if line.startswith(name) and not line.endswith(" 0.0")]


async def test_a_rule_that_fails_again_and_again_is_set_aside_and_the_others_go_on(loop: Supervised) -> None:
    await loop.fetch(3, seconds=2)
    loop.odd.fails = True
    with capture_logs() as logs:
        await loop.fetch(7, seconds=2)
    assert loop.problems == {"scoped": ProblemReason.EVALUATION_FAILED}
    assert exposed("tocsin_evaluator_rules_set_aside") == [
        'tocsin_evaluator_rules_set_aside{reason="EVALUATION_FAILED"} 1.0'
    ]
    (entry,) = [each for each in logs if each["event"] == "rule_set_aside"]
    assert (entry["rule_id"], entry["reason"], "0x7f" in entry["problem"]) == ("scoped", "EVALUATION_FAILED", False)
    # Each output is told once for each block and pane.
    assert set(loop.missed()) == {"scoped"}
    (plain,) = [
        row.aggregate.counted for row in to_rows(loop.partials.written[-1][1].rows) if row.key.rule_id == "plain"
    ]
    assert plain == 10


async def test_each_change_is_reported_at_once(loop: Supervised) -> None:
    changes: list[dict[str, ProblemReason]] = []
    loop.worker._supervisor._on_change = lambda: changes.append(loop.problems)
    loop.odd.fails = True
    await loop.fetch(7, seconds=2)
    loop.rules.current = RuleSet.of(2, [PLAIN])
    await loop.fetch()
    assert changes == [{"scoped": ProblemReason.EVALUATION_FAILED}, {}]


async def test_a_rule_that_was_set_aside_is_evaluated_again_after_a_pause(loop: Supervised) -> None:
    loop.odd.fails = True
    await loop.fetch(7, seconds=2)
    loop.odd.fails = False
    with capture_logs() as logs:
        await loop.fetch(seconds=70)
    assert loop.problems == {}
    assert [each["event"] for each in logs if each["event"].startswith("rule_")] == ["rule_resumed"]
    assert exposed('tocsin_evaluator_rule_events_matched_total{rule="scoped"')[0].endswith(" 1.0")


async def test_an_edit_ends_that_a_rule_is_set_aside_at_once(loop: Supervised) -> None:
    loop.odd.fails = True
    await loop.fetch(7, seconds=2)
    loop.rules.current = RuleSet.of(2, [PLAIN, rule("scoped", "count > threshold", revision=2)])
    await loop.fetch()
    assert loop.problems == {}


async def test_a_rule_that_takes_nearly_all_time_is_set_aside_while_the_stage_cannot_keep_up(loop: Supervised) -> None:
    loop.odd.seconds = 4.0
    await loop.fetch(14)
    assert loop.problems == {"scoped": ProblemReason.OVER_BUDGET}
    assert exposed("tocsin_evaluator_rule_cpu_share") == []
    before = loop.clock.monotonic()
    await loop.fetch(seconds=1)
    assert loop.clock.monotonic() - before == 1
    assert loop.missed() == ["scoped"]


async def test_the_share_of_each_rule_is_shown_and_an_idle_stage_sets_none_aside(loop: Supervised) -> None:
    loop.odd.seconds = 4.0
    await loop.fetch(14, seconds=4)
    assert loop.problems == {}
    assert exposed("tocsin_evaluator_rule_cpu_share") == [
        'tocsin_evaluator_rule_cpu_share{rule="scoped",severity="HIGH"} 1.0'
    ]


async def test_a_refused_rule_is_a_problem_from_when_it_was_first_refused(loop: Supervised) -> None:
    broken = rule("broken", "count > threshold")
    object.__setattr__(broken, "filter", "level >>")
    loop.rules.current = RuleSet.of(2, [PLAIN, broken])
    await loop.fetch()
    before = loop.worker._supervisor.problems
    loop.rules.current = RuleSet.of(3, [PLAIN, broken])
    await loop.fetch(seconds=5)
    assert loop.problems == {"broken": ProblemReason.COMPILE_FAILED}
    assert loop.worker._supervisor.problems == before


def ticking() -> Iterator[float]:
    now = 0.0
    while True:
        now += 1.0
        yield now


def test_of_what_rules_have_in_common_each_bears_its_part_and_what_nobody_needs_is_not_evaluated() -> None:
    texts = {
        "rest": ["size(attributes) == 0"],
        "one": ['service.matches("s.*p$") || service == "pay"'],
        "two": ['service.matches("s.*p$") || service == "pay"', "level > INFO"],
        "cheap": ["level == INFO"],
    }
    plan = RulePlan({name: [check_filter(text) for text in each] for name, each in texts.items()})
    clock = ticking()
    chosen = plan.select(EventColumns.of(batch_of(EVENTS)), clock=lambda: next(clock))
    assert chosen.costs["rest"] == 1.0
    assert chosen.costs["one"] == chosen.costs["two"] > 0
    assert "cheap" not in chosen.costs
    alone = plan.select(EventColumns.of(batch_of(EVENTS)), frozenset({"one", "rest"}), clock=lambda: next(clock))
    assert alone.costs == {"two": chosen.costs["one"] + chosen.costs["two"]}
    assert {"one", "rest"}.isdisjoint(alone.rows)
    assert alone.rows["two"].tolist() == chosen.rows["two"].tolist()
    nobody = plan.select(EventColumns.of(batch_of(EVENTS)), frozenset({"one", "two", "rest"}), lambda: next(clock))
    assert (nobody.costs, list(nobody.rows)) == ({}, ["cheap"])


def test_what_patterns_are_looked_for_together_costs_each_its_part() -> None:
    clock = ticking()
    meter: CpuMeter[str] = CpuMeter(lambda: next(clock))
    assert meter.run_for(["a", "b", "b", "b"], lambda: 7) == 7
    assert meter.run("b", lambda: 8) == 8
    assert meter.seconds == {"a": 0.25, "b": 1.75}


def test_what_fails_is_measured_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> NoReturn:
        raise RuntimeError("no")

    plan = RulePlan({"rest": [check_filter("size(attributes) == 0")]})
    monkeypatch.setattr("services.evaluator.core.match.plan._Rest.narrow", crash)
    clock = ticking()
    chosen = plan.select(EventColumns.of(batch_of(EVENTS)), clock=lambda: next(clock))
    assert (list(chosen.failed), chosen.costs) == (["rest"], {"rest": 1.0})
