"""The match loop: what is committed, and what happens when something does not go through."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from services.chassis import telemetry
from services.chassis.backoff import Backoff
from services.chassis.kafka import CommittedOffset, Rebalance, Record
from services.evaluator.adapters.log_events import LogDecoder
from services.evaluator.core.match.aggregation import MatchOutcome
from services.evaluator.core.match.pacing import FlushedRows, early_pause_seconds, fetch_limit, pause_seconds
from services.evaluator.core.match.rule_load import Budget
from services.evaluator.core.match.traces import SampledTraces
from services.evaluator.core.partial_rows import PartialBatch
from services.evaluator.core.records import BLOCK_RECORDS
from services.evaluator.core.rules import RuleSet
from services.evaluator.metrics import Metrics
from services.evaluator.ports import LogFetch
from services.evaluator.worker import match
from services.evaluator.worker.match import MatchLimits, MatchWorker
from services.evaluator.worker.rule_supervisor import RuleSupervisor
from services.rule_language.rule import Rule
from tests.fakes.clock import FakeClock
from tests.fakes.evaluator import NOW, MemoryDeadLetters, MemoryLog, MemoryPartials, MemoryRules
from tests.unit.evaluator.pipeline import rule
from tests.unit.evaluator.rows import to_rows
from tocsin.logs.v1.log_event_pb2 import LogBatch, LogEvent

AT_ONCE = Backoff(first_delay=timedelta(), max_delay=timedelta())
GOOD = LogBatch(events=[LogEvent(service="a", level=LogEvent.ERROR, message="no")]).SerializeToString()
NEW = rule("new", "count > threshold", revision=2, selection_revision=2)


class Loop:
    """The worker with everything around it."""

    def __init__(self, *rules: Rule) -> None:
        self.log, self.partials, self.letters = MemoryLog(), MemoryPartials(), MemoryDeadLetters()
        self.rules = MemoryRules(RuleSet.of(1, rules or [rule("count", "count > threshold")]))
        self.clock, self.metrics = FakeClock(NOW), Metrics()
        self.metrics.rules(self.rules.current)
        self.traces = SampledTraces(1)
        # Seconds of CPU that the process has taken.
        self.cpu_s = 0.0
        self.worker = MatchWorker(
            source=self.log,
            sink=self.partials,
            dead_letters=self.letters,
            rules=self.rules,
            metrics=self.metrics,
            clock=self.clock,
            limits=MatchLimits(fetch_records=48, flush=timedelta(milliseconds=100), idle=timedelta(seconds=10)),
            supervisor=RuleSupervisor(
                clock=self.clock, cpu_clock=self.clock.monotonic, metrics=self.metrics, budget=Budget()
            ),
            traces=self.traces,
            cpu_clock=lambda: self.cpu_s,
            backoff=AT_ONCE,
        )

    async def bring(
        self,
        *values: bytes,
        first: int = 0,
        assigned: int | None = None,
        metadata: str = "",
        revoked: bool = False,
        seconds: float = 2,
    ) -> None:
        """One fetch, and the flush that follows it if it is time."""
        records = [
            Record("log-events", 0, first + number, None, value, (), int(NOW.timestamp() * 1000))
            for number, value in enumerate(values)
        ]
        events, unreadable = LogDecoder().decode(records)
        offsets = () if assigned is None else (CommittedOffset(partition=0, offset=assigned, metadata=metadata),)
        rebalance = Rebalance(revoked=(0,) if revoked else (), assigned=offsets)
        self.log.fetches.append(LogFetch(rebalance=rebalance, events=events, unreadable=unreadable))
        self.clock.advance(timedelta(seconds=seconds))
        await self.worker.turn()

    def committed(self) -> list[tuple[int, int]]:
        """Return the offset of each commit, and up to which one its metadata say that rows were sent."""
        return [(each.offset, json.loads(each.metadata)["up_to"]) for each in self.log.commits]

    @property
    def now(self) -> float:
        return self.clock.now().timestamp()

    def flushed(self) -> list[tuple[int, int, int, int]]:
        """Return block, previous, up_to and how many rows each flush stands for."""
        return [
            (
                batch.blocks[0].progress.block,
                batch.blocks[0].progress.previous_up_to,
                batch.blocks[0].progress.up_to,
                int(batch.rows.sharers.sum()),
            )
            for _, batch in self.partials.written
        ]


@pytest.fixture
def loop() -> Loop:
    return Loop()


async def test_only_whole_blocks_are_committed(loop: Loop) -> None:
    await loop.bring(*[GOOD] * 255, assigned=0)
    assert loop.committed() == [(0, 255)]
    await loop.bring(GOOD, GOOD, first=255)
    assert loop.flushed() == [(0, 0, 255, 1), (0, 255, 256, 1), (1, 256, 257, 1)]
    assert loop.committed() == [(0, 255), (BLOCK_RECORDS, 257)]
    await loop.bring()
    assert len(loop.log.commits) == 2


async def test_what_was_sent_of_a_block_is_committed_once_a_second_also_when_nothing_more_comes(loop: Loop) -> None:
    await loop.bring(GOOD, assigned=0)
    for first in (1, 2):
        await loop.bring(GOOD, first=first, seconds=0.3)
    assert loop.committed() == [(0, 1)]
    await loop.bring(seconds=0.5)
    assert loop.committed() == [(0, 1), (0, 3)]
    await loop.bring(GOOD, first=3, seconds=0.3)
    await loop.worker.finish()
    assert loop.committed()[-1] == (0, 4)


async def test_what_was_sent_of_a_block_is_committed_at_once_if_it_is_much(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(match, "_MANY_ROWS", 1)
    await loop.bring(assigned=0)
    two = LogBatch(
        events=[LogEvent(service=each, level=LogEvent.ERROR, message="no") for each in "ab"]
    ).SerializeToString()
    await loop.bring(GOOD, seconds=0.3)
    assert loop.committed() == []
    await loop.bring(two, first=1, seconds=0.3)
    assert loop.committed() == [(0, 2)]


async def test_a_flush_that_failed_is_not_committed_as_sent(loop: Loop) -> None:
    await loop.bring(GOOD, assigned=0)
    loop.partials.failures = 1
    await loop.bring(GOOD, first=1)
    await loop.bring()
    assert loop.committed() == [(0, 1)]


async def test_after_a_crash_only_what_changed_since_the_commit_is_sent_again() -> None:
    before, loop = Loop(), Loop()
    await before.bring(GOOD, GOOD, assigned=0)
    await loop.bring(GOOD, GOOD, assigned=0, metadata=before.log.commits[-1].metadata)
    assert loop.flushed() == []
    await loop.bring(GOOD, first=2)
    assert loop.flushed() == [(0, 2, 3, 1)]
    ((_, batch),) = loop.partials.written
    assert [row.aggregate.counted for row in to_rows(batch.rows)] == [3]


@pytest.mark.parametrize("outputs", [1, 2])
async def test_with_other_rules_or_outputs_all_of_a_block_is_sent_again(outputs: int) -> None:
    before, loop = Loop(), Loop(*([NEW] if outputs == 1 else []))
    loop.partials.outputs = outputs
    await before.bring(GOOD, GOOD, assigned=0)
    await loop.bring(GOOD, GOOD, assigned=0, metadata=before.log.commits[-1].metadata)
    assert {flush[:3] for flush in loop.flushed()} == {(0, 0, 2)}


async def test_traces_are_sampled_once_though_a_block_begins_again(loop: Loop) -> None:
    event = LogEvent(service="a", level=LogEvent.ERROR, message="no", trace_id="0" * 31 + "1")
    event.event_time.FromDatetime(NOW)
    record = LogBatch(events=[event]).SerializeToString()
    await loop.bring(record, assigned=0)
    loop.partials.failures = 1
    await loop.bring(record, first=1)
    await loop.bring(record, record, first=0)
    assert [(each.trace_id, each.service) for each in loop.traces.take()] == [(event.trace_id, "a")]


async def test_a_commit_that_kafka_refused_is_tried_again(loop: Loop) -> None:
    loop.log.takes_commits = False
    await loop.bring(*[GOOD] * 256, assigned=0)
    loop.log.takes_commits = True
    await loop.bring(GOOD, first=256)
    assert loop.committed() == [(256, 257)]


async def test_a_flush_that_failed_begins_the_block_again(loop: Loop) -> None:
    await loop.bring(*[GOOD] * 256, assigned=0)
    loop.partials.failures = 1
    await loop.bring(GOOD, first=256)
    assert loop.log.rewinds == [(0, 256)]
    await loop.bring(GOOD, GOOD, first=256)
    assert loop.flushed()[-1] == (1, 256, 258, 1)


async def test_what_a_rule_matched_is_counted_once_kafka_has_it() -> None:
    with telemetry.telemetry("test", "i", ""):
        loop = Loop(rule("count", "count > threshold"), rule("none", "count > threshold", filter="false"))
        loop.partials.failures = 1
        await loop.bring(GOOD, GOOD, assigned=0)
        assert by_rule("events_matched_total") == {"count": 0, "none": 0}
        assert by_rule("last_evaluation_timestamp_seconds") == {}
        await loop.bring(GOOD, GOOD)
        assert by_rule("events_matched_total") == {"count": 2, "none": 0}
        assert by_rule("last_evaluation_timestamp_seconds") == dict.fromkeys(("count", "none"), loop.now)


def by_rule(metric: str) -> dict[str, float]:
    lines = telemetry.exposition()[0].decode().splitlines()
    chosen = [line for line in lines if line.startswith(f"tocsin_evaluator_rule_{metric}{{")]
    return {line.split('"')[1]: float(line.rpartition(" ")[2]) for line in chosen}


async def test_an_unreadable_record_is_dead_lettered_before_anything_is_committed(loop: Loop) -> None:
    loop.letters.failures = 2
    await loop.bring(*[GOOD] * 255, b"\xff", assigned=0)
    assert [each.record.offset for each in loop.letters.published] == [255]
    assert loop.committed() == [(256, 256)]


async def test_stopping_before_an_unreadable_record_is_dead_lettered_commits_nothing(loop: Loop) -> None:
    loop.worker.stop()
    await loop.bring(*[GOOD] * 255, b"\xff", assigned=0)
    assert (loop.letters.published, loop.log.commits, loop.partials.written) == ([], [], [])


async def test_a_revoked_partition_is_not_flushed(loop: Loop) -> None:
    await loop.bring(GOOD, assigned=0)
    await loop.bring(revoked=True)
    await loop.bring()
    assert len(loop.flushed()) == 1


async def test_a_partition_that_is_assigned_again_begins_where_it_was_committed(loop: Loop) -> None:
    await loop.bring(GOOD, GOOD, assigned=0)
    await loop.bring(GOOD, assigned=0, revoked=True)
    assert loop.flushed() == [(0, 0, 2, 1), (0, 0, 1, 1)]


async def test_a_silent_partition_is_called_idle_only_when_kafka_says_that_it_is_empty(loop: Loop) -> None:
    await loop.bring(GOOD, assigned=0)
    loop.log.ends = {0: 2}
    for _ in range(6):
        await loop.bring()
    assert len(loop.flushed()) == 1
    loop.log.ends = {0: 1}
    await loop.bring()
    (_, batch) = loop.partials.written[-1]
    assert batch.blocks[0].progress.idle_ns == int(loop.clock.now().timestamp()) * 10**9


async def test_an_event_that_an_expression_gives_up_on_is_counted_and_the_others_are_judged() -> None:
    pairs = rule("pairs", "count > threshold", filter="attributes.all(a, attributes.all(b, a != service))")
    many = LogEvent(service="a", attributes={str(number): "" for number in range(150)})
    with telemetry.telemetry("test", "i", ""):
        loop = Loop(pairs)
        await loop.bring(LogBatch(events=[LogEvent(service="a"), many, many]).SerializeToString(), GOOD, assigned=0)
        text = telemetry.exposition()[0].decode()
    assert [row.aggregate.counted for _, batch in loop.partials.written for row in to_rows(batch.rows)] == [2]
    assert "tocsin_evaluator_events_given_up_total 2.0" in text
    assert "tocsin_evaluator_rules_failed_total 0.0" in text


async def test_a_rule_that_begins_to_need_totals_counts_from_the_start_of_the_block(loop: Loop) -> None:
    await loop.bring(GOOD, assigned=0)
    rated = rule("rated", "rate > 0.5", revision=2, selection_revision=2)
    loop.rules.current = RuleSet.of(2, [rule("count", "count > threshold"), rated])
    await loop.bring(GOOD, GOOD)
    assert loop.log.rewinds == [(0, 0)]
    (_, batch) = loop.partials.written[-1]
    assert (batch.blocks[0].progress.rules_revision, batch.blocks[0].progress.up_to) == (2, 2)
    assert sorted((row.key.rule_id == "rated", row.aggregate.total) for row in to_rows(batch.rows)) == [
        (False, 2),
        (False, 2),
        (True, 2),
    ]
    loop.rules.current = RuleSet.of(3, [rule("count", "count > threshold")])
    await loop.bring(GOOD, first=2)
    assert len(loop.log.rewinds) == 1


async def test_a_new_rule_counts_from_the_start_of_the_block_and_nothing_before_that_is_known_again(loop: Loop) -> None:
    await loop.bring(GOOD, GOOD, assigned=0)
    assert loop.flushed() == [(0, 0, 2, 1)]
    loop.rules.current = RuleSet.of(2, [rule("count", "count > threshold"), NEW])
    await loop.bring(GOOD)
    assert loop.log.rewinds == [(0, 0)]
    # What was flushed before is not sent half.
    assert len(loop.flushed()) == 1
    await loop.bring(GOOD, GOOD, first=1)
    (_, batch) = loop.partials.written[-1]
    assert loop.flushed()[1:] == [(0, 0, 3, 2)]
    assert batch.blocks[0].progress.rules_revision == 2
    assert {row.key.rule_id: row.aggregate.counted for row in to_rows(batch.rows)} == {"count": 3, "new": 3}


async def test_rules_that_select_nothing_new_are_used_where_the_block_is(loop: Loop) -> None:
    await loop.bring(GOOD, assigned=0)
    loop.rules.current = RuleSet.of(2, [rule("count", "count > threshold", threshold=7.0, revision=2)])
    await loop.bring(GOOD, first=1)
    assert loop.log.rewinds == []
    assert loop.partials.written[-1][1].blocks[0].progress.rules_revision == 2


async def test_at_the_border_of_a_block_nothing_begins_again(loop: Loop) -> None:
    await loop.bring(*[GOOD] * BLOCK_RECORDS, assigned=0)
    loop.rules.current = RuleSet.of(2, [rule("count", "count > threshold"), NEW])
    await loop.bring(GOOD, first=BLOCK_RECORDS)
    assert loop.log.rewinds == []
    assert {row.key.rule_id for row in to_rows(loop.partials.written[-1][1].rows)} == {"count", "new"}


async def test_of_many_new_rules_in_turn_the_blocks_begin_again_every_five_seconds(loop: Loop) -> None:
    await loop.bring(GOOD, assigned=0)
    known = [rule("count", "count > threshold")]
    for number, first, rewinds in ((1, 0, 1), (2, 1, 1), (3, 2, 1), (4, 0, 2)):
        known.append(rule(f"new {number}", "count > threshold", revision=number + 1, selection_revision=number + 1))
        loop.rules.current = RuleSet.of(number + 1, known)
        await loop.bring(GOOD, first=first)
        assert len(loop.log.rewinds) == rewinds
    await loop.bring(GOOD, GOOD, first=1)
    progress = loop.partials.written[-1][1].blocks[0].progress
    assert (progress.up_to, progress.rules_revision) == (3, 5)


async def test_what_was_matched_and_not_flushed_before_a_rewind_is_counted_once() -> None:
    with telemetry.telemetry("test", "i", ""):
        loop = Loop()
        await loop.bring(GOOD, assigned=0)
        await loop.bring(GOOD, first=1, seconds=0)
        rated = rule("rated", "rate > 0.5", revision=2, selection_revision=2)
        loop.rules.current = RuleSet.of(2, [rule("count", "count > threshold"), rated])
        await loop.bring(seconds=0)
        assert loop.log.rewinds == [(0, 0)]
        await loop.bring(GOOD, GOOD, GOOD)
        assert by_rule("events_matched_total") == {"count": 3}
        assert evaluated() == 3


async def test_what_was_flushed_before_a_new_rule_needs_totals_is_counted_once() -> None:
    with telemetry.telemetry("test", "i", ""):
        loop = Loop()
        await loop.bring(GOOD, GOOD, assigned=0)
        rated = rule("rated", "rate > 0.5", revision=2, selection_revision=2)
        loop.rules.current = RuleSet.of(2, [rule("count", "count > threshold"), rated])
        loop.metrics.rules(loop.rules.current)
        await loop.bring(GOOD)
        assert loop.log.rewinds == [(0, 0)]
        await loop.bring(GOOD, GOOD, first=1)
        assert by_rule("events_matched_total") == {"count": 3, "rated": 1}
        assert evaluated() == 3


async def test_what_was_flushed_before_a_flush_failed_is_counted_once() -> None:
    with telemetry.telemetry("test", "i", ""):
        loop = Loop()
        await loop.bring(GOOD, GOOD, assigned=0)
        loop.partials.failures = 1
        await loop.bring(GOOD, first=2)
        await loop.bring(GOOD, GOOD, GOOD)
        assert by_rule("events_matched_total") == {"count": 3}
        assert evaluated() == 3


async def test_a_partition_that_is_assigned_again_counts_from_where_it_was_committed() -> None:
    with telemetry.telemetry("test", "i", ""):
        loop = Loop()
        await loop.bring(GOOD, GOOD, assigned=0)
        await loop.bring(GOOD, assigned=0, revoked=True)
        assert evaluated() == 3


def evaluated() -> float:
    lines = telemetry.exposition()[0].decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("events_evaluated_total"))


async def test_when_it_stops_it_flushes_what_it_has(loop: Loop) -> None:
    await loop.bring(assigned=0)
    loop.worker.stop()
    await loop.worker.run()
    assert loop.flushed() == []


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
        loop.cpu_s += 0.008
        await send(batches)

    monkeypatch.setattr(loop.partials, "send", slowly)
    await loop.bring(GOOD, assigned=0)
    await loop.bring(seconds=0)
    timeout_s, _ = loop.log.asked[-1]
    assert timeout_s == pytest.approx(0.064)


@pytest.mark.parametrize(
    ("work_s", "rows", "pause_s"),
    [
        pytest.param(0.001, FlushedRows(10, 10), 0.05, id="little to do"),
        pytest.param(0.01, FlushedRows(10, 10), 0.08, id="some work"),
        pytest.param(0.1, FlushedRows(10, 10), 0.1, id="much work"),
        pytest.param(0.001, FlushedRows(50_000, 50_000), 0.2, id="many rows"),
        pytest.param(0.001, FlushedRows(1000, 250_000), 0.1285, id="rows of many rules each"),
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
    ("tenants", "written", "pause_s"), [(2, 1000, 0.05), (2, 999, float("inf")), (1, 1000, float("inf"))]
)
def test_no_rows_go_first_in_the_pause_after_few_rows_or_of_one_tenant(
    tenants: int, written: int, pause_s: float
) -> None:
    rows = FlushedRows(written, written)
    assert early_pause_seconds(interval_s=0.1, tenants=tenants, rows=rows) == pause_s


async def test_a_failed_early_flush_begins_again() -> None:
    loop = two_tenants()
    await loop.bring(assigned=0)
    loop.partials.failures = 1
    await loop.bring(of_tenant("few", 1), of_tenant("many", 1000))
    assert loop.log.rewinds == [(0, 0)]
    assert loop.partials.written == []
