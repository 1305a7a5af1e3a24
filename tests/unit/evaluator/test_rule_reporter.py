"""Reports to the manager: each count once, whatever becomes of a report."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import grpc
import pytest

from services.domain.problem_reason import ProblemReason
from services.evaluator.adapters.rule_client import RuleReportClient, RulesUnavailable
from services.evaluator.core.rule_problems import SetAsideRule
from services.evaluator.ports import RuleCounts, RuleReport
from services.evaluator.worker.rule_reporter import RuleReporter, added_since
from services.manager.core.rule import RuleStatistics
from tests.fakes.edge import Edge
from tests.unit.evaluator.test_rule_client import stored_rule

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LATER = NOW + timedelta(seconds=10)
PROBLEM = SetAsideRule(reason=ProblemReason.OVER_BUDGET, description="it is slow", since=NOW, retry_at=LATER)


class Reports:
    """The manager, which may take a report and lose its answer."""

    def __init__(self) -> None:
        self.sent: list[RuleReport] = []
        self.failures = 0

    async def send(self, report: RuleReport) -> None:
        self.sent.append(report)
        if self.failures:
            self.failures -= 1
            raise RulesUnavailable("the manager does not answer")


class Loop:
    """A reporter with all that is around it."""

    def __init__(self) -> None:
        self.counts: dict[str, RuleCounts] = {}
        self.problems: dict[str, SetAsideRule] = {}
        self.reports = Reports()
        ids = iter("abcdef")
        self.reporter = RuleReporter(
            self.reports, lambda: dict(self.counts), lambda: dict(self.problems), lambda: next(ids)
        )


@pytest.fixture
def loop() -> Loop:
    return Loop()


async def test_only_what_was_added_is_reported_and_nothing_when_nothing_was(loop: Loop) -> None:
    loop.counts = {"busy": RuleCounts(matched=5, fired=1, evaluate_time=NOW), "new": RuleCounts()}
    await loop.reporter.turn()
    await loop.reporter.turn()
    assert [report.added for report in loop.reports.sent] == [
        {"busy": RuleCounts(matched=5, fired=1, evaluate_time=NOW)}
    ]
    loop.counts["busy"] = RuleCounts(matched=7, late=1, beyond_limit=2, fired=1, evaluate_time=LATER)
    await loop.reporter.turn()
    assert loop.reports.sent[-1].added == {"busy": RuleCounts(matched=2, late=1, beyond_limit=2, evaluate_time=LATER)}


async def test_a_report_without_an_answer_is_repeated_as_it_was_and_later_counts_follow(loop: Loop) -> None:
    loop.counts = {"rule": RuleCounts(matched=5)}
    loop.reports.failures = 1
    with pytest.raises(RulesUnavailable):
        await loop.reporter.turn()
    loop.counts = {"rule": RuleCounts(matched=9)}
    await loop.reporter.turn()
    await loop.reporter.turn()
    first, repeated, rest = loop.reports.sent
    assert first == repeated
    assert (rest.id != first.id, rest.added) == (True, {"rule": RuleCounts(matched=4)})


async def test_problems_are_reported_each_time_until_they_are_over(loop: Loop) -> None:
    loop.problems = {"rule": PROBLEM}
    await loop.reporter.turn()
    await loop.reporter.turn()
    loop.problems = {}
    await loop.reporter.turn()
    await loop.reporter.turn()
    assert [report.problems for report in loop.reports.sent] == [{"rule": PROBLEM}, {"rule": PROBLEM}, {}]


def test_a_rule_that_was_disabled_in_between_begins_again_at_0() -> None:
    before = {"rule": RuleCounts(matched=5, evaluate_time=NOW), "gone": RuleCounts(matched=1)}
    assert added_since(before, {"rule": RuleCounts(matched=2, evaluate_time=LATER)}) == {
        "rule": RuleCounts(matched=2, evaluate_time=LATER)
    }


async def test_the_manager_adds_a_report_once_and_refuses_nonsense() -> None:
    edge, server = Edge(), grpc.aio.server()
    edge.store.tables.rules = {"rule-1": stored_rule(1)}
    edge.mount(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    report_id = "6f0c8a52-9e0b-4d3c-9a53-0d5e8f1b7c41"
    counts = RuleCounts(matched=3, late=2, beyond_limit=5, fired=1, evaluate_time=NOW)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as mesh:
        client = RuleReportClient(mesh, "evaluator-1")
        problems = {"rule-1": PROBLEM, "unknown": PROBLEM}
        report = RuleReport(id=report_id, added={"rule-1": counts, "unknown": counts}, problems=problems)
        for _ in range(2):
            await client.send(report)
        with pytest.raises(RulesUnavailable):
            await client.send(replace(report, id="", added={"rule-1": replace(counts, late=-1)}))
        with pytest.raises(RulesUnavailable):
            await client.send(replace(report, id="", problems={"rule-1": replace(PROBLEM, description="\0")}))
        with pytest.raises(RulesUnavailable):
            await RuleReportClient(mesh, "x" * 129).send(replace(report, id=""))
    await server.stop(0)
    assert edge.store.tables.rule_statistics == {
        "rule-1": RuleStatistics(matched=3, late=2, beyond_limit=5, fired=1, evaluate_time=NOW)
    }
    ((key, (problem, _)),) = edge.store.tables.rule_problems.items()
    assert (key, problem.reason, problem.description) == (("rule-1", "evaluator-1"), PROBLEM.reason, "it is slow")
    assert (problem.set_aside_time, problem.retry_time) == (NOW, LATER)
