"""The match loop: how much is fetched at once, when is flushed, and which rows go first."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from math import inf

import pytest

from services.evaluator.core.match.aggregation import MatchOutcome
from services.evaluator.core.match.pacing import FlushedRows, early_pause_seconds, fetch_limit, pause_seconds
from services.evaluator.core.partial_rows import PartialBatch
from services.evaluator.worker.rule_supervisor import RuleSupervisor
from tests.unit.evaluator.match_loop import GOOD, Loop
from tests.unit.evaluator.pipeline import rule
from tests.unit.evaluator.rows import to_rows
from tocsin.logs.v1.log_event_pb2 import LogBatch, LogEvent


async def test_a_record_after_a_pause_without_any_is_flushed_at_once(loop: Loop) -> None:
    await loop.bring(assigned=0)
    await loop.bring(GOOD)
    assert loop.flushed() == [(0, 0, 1, 1)]
    await loop.bring(GOOD, first=1, seconds=0.02)
    assert loop.flushed() == [(0, 0, 1, 1)]
    # The time is over, but only since the last look at the clock.
    await loop.bring(seconds=0.035)
    assert loop.flushed() == [(0, 0, 1, 1), (0, 1, 2, 1)]
    await loop.bring(seconds=0.06)
    assert [(round(timeout_s, 6), fill) for timeout_s, fill in loop.log.asked] == [
        (0.1, False),
        (0.1, False),
        (0.03, True),
        (0.0, True),
        (0.1, False),
    ]


async def test_the_pause_depends_on_the_cpu_that_a_flush_takes_and_not_on_how_long_it_waits(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = loop.partials.send

    async def slowly(batches: Sequence[tuple[int, PartialBatch]]) -> None:
        loop.clock.advance(timedelta(seconds=3))
        loop.cpu_s += 0.016
        await send(batches)

    monkeypatch.setattr(loop.partials, "send", slowly)
    await loop.bring(GOOD, assigned=0)
    await loop.bring(seconds=0)
    timeout_s, _ = loop.log.asked[-1]
    assert timeout_s == pytest.approx(0.064)


async def test_the_pause_is_longer_where_matching_waits_for_a_processor(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = RuleSupervisor.timed

    def late(self: RuleSupervisor, match: Callable[[], MatchOutcome]) -> tuple[MatchOutcome, float]:
        loop.clock.advance(timedelta(milliseconds=20))
        outcome, _ = timed(self, match)
        return outcome, 0.004

    monkeypatch.setattr(RuleSupervisor, "timed", late)
    await loop.bring(GOOD, assigned=0)
    await loop.bring(seconds=0)
    timeout_s, _ = loop.log.asked[-1]
    assert timeout_s == pytest.approx(4 * 0.016)


@pytest.mark.parametrize(
    ("work_s", "rows", "pause_s"),
    [
        pytest.param(0.001, FlushedRows(10, 10), 0.05, id="little to do"),
        pytest.param(0.02, FlushedRows(10, 10), 0.08, id="some work"),
        pytest.param(0.1, FlushedRows(10, 10), 0.1, id="much work"),
        pytest.param(0.001, FlushedRows(50_000, 50_000), 0.2, id="many rows"),
        pytest.param(0.001, FlushedRows(1000, 250_000), 0.3775, id="rows of many rules each"),
        pytest.param(0.1, FlushedRows(500_000, 500_000), 1.0, id="at most a second"),
    ],
)
def test_the_more_there_is_to_do_the_longer_is_the_pause(work_s: float, rows: FlushedRows, pause_s: float) -> None:
    assert pause_seconds(interval_s=0.1, work_s=work_s, rows=rows) == pytest.approx(pause_s)


async def test_a_pattern_that_is_found_too_often_is_left_out_between_two_fetches() -> None:
    loop = Loop(rule("often", "count > threshold", filter='message.contains("e")'))
    often = LogBatch(events=[LogEvent(service="a", message="eee")] * 300).SerializeToString()
    await loop.bring(often, assigned=0)
    plan = loop.rules.current.plan
    assert plan.needs_compiling
    await loop.bring(often, first=1)
    assert loop.worker._compiling is not None
    await loop.worker._compiling
    await loop.bring(often, first=2)
    assert not plan.needs_compiling
    assert [row.aggregate.counted for _, batch in loop.partials.written for row in to_rows(batch.rows)][-1] == 900


async def test_where_rules_take_long_less_is_fetched_at_once(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(_: RuleSupervisor, match: Callable[[], MatchOutcome]) -> tuple[MatchOutcome, float]:
        return replace(match(), costs=dict.fromkeys(loop.rules.current.rules.values(), 0.05)), 9.0

    monkeypatch.setattr(RuleSupervisor, "timed", timed)
    await loop.bring(GOOD, GOOD, assigned=0)
    await loop.bring(*[GOOD] * 20, first=2)
    # Too soon to measure again.
    await loop.bring(GOOD, first=22, seconds=0.01)
    await loop.bring()
    assert loop.log.limits == [48, 4, 40, 40]


@pytest.mark.parametrize(
    ("record_s", "limit"),
    [
        pytest.param(0.0, 48, id="not known yet"),
        pytest.param(0.002, 48, id="cheap rules"),
        pytest.param(0.01, 10, id="a costly rule"),
        pytest.param(3.0, 1, id="at least one record"),
    ],
)
def test_matching_a_fetch_takes_about_the_interval_at_most(record_s: float, limit: int) -> None:
    assert fetch_limit(max_records=48, interval_s=0.1, record_s=record_s) == limit


def of_tenant(tenant: str, services: int) -> bytes:
    events = [LogEvent(service=f"{tenant}-{each}", level=LogEvent.ERROR, message="no") for each in range(services)]
    return LogBatch(events=events, tenant=tenant).SerializeToString()


def two_tenants() -> Loop:
    return Loop(*(replace(rule(each, "count > threshold"), tenant=each) for each in ("few", "many")))


def written_rules(loop: Loop) -> list[set[str]]:
    return [{row.key.rule_id for row in to_rows(batch.rows)} & {"few", "many"} for _, batch in loop.partials.written]


async def test_rows_of_a_tenant_with_few_of_them_are_sent_before_those_of_one_with_many() -> None:
    loop = two_tenants()
    await loop.bring(of_tenant("few", 1), of_tenant("many", 1000), assigned=0)
    assert written_rules(loop) == [{"few"}, {"many"}]


async def test_rows_of_a_tenant_with_few_of_them_do_not_wait_for_the_pause_after_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = two_tenants()
    send = loop.partials.send

    async def at_a_cost(batches: Sequence[tuple[int, PartialBatch]]) -> None:
        loop.cpu_s += 0.02
        await send(batches)

    monkeypatch.setattr(loop.partials, "send", at_a_cost)
    await loop.bring(of_tenant("many", 1000), assigned=0)
    await loop.bring(seconds=0.01)
    assert loop.log.asked[-1][0] == pytest.approx(0.04)
    await loop.bring(of_tenant("few", 1), of_tenant("many", 1000), first=1, seconds=0.05)
    assert written_rules(loop) == [{"many"}, {"few"}]
    assert loop.committed() == [(0, 1)]
    await loop.bring(seconds=2)
    assert written_rules(loop) == [{"many"}, {"few"}, {"many"}]
    assert loop.committed() == [(0, 1), (0, 3)]


@pytest.mark.parametrize(
    ("rows", "pause_s"),
    [
        pytest.param(FlushedRows(1000, 1000), 0.05, id="many rows"),
        pytest.param(FlushedRows(999, 999), inf, id="few rows"),
        pytest.param(FlushedRows(10, 8000), 0.05, id="few rows of many rules"),
    ],
)
def test_no_rows_go_first_in_the_pause_after_few_rows(rows: FlushedRows, pause_s: float) -> None:
    assert early_pause_seconds(interval_s=0.1, rows=rows) == pause_s


async def test_a_failed_early_flush_begins_again() -> None:
    loop = two_tenants()
    await loop.bring(assigned=0)
    loop.partials.failures = 1
    await loop.bring(of_tenant("few", 1), of_tenant("many", 1000))
    assert loop.log.rewinds == [(0, 0)]
    assert loop.partials.written == []
