"""The window loop: published before committed, resumed exactly, read again after a gap."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from services.chassis import telemetry
from services.chassis.backoff import Backoff
from services.chassis.kafka import CommittedOffset, Rebalance
from services.domain.tenants import TenantLimits
from services.evaluator.core.partial_rows import PartialBatch, PartialRows, of_rows
from services.evaluator.core.records import (
    SECOND_NS,
    Aggregate,
    BlockProgress,
    Row,
    RowKey,
    TransitionState,
    closing_key,
)
from services.evaluator.core.rules import RuleSet
from services.evaluator.core.window.checkpoint import Checkpoint
from services.evaluator.core.window.stage import WindowStage
from services.evaluator.metrics import Metrics
from services.evaluator.worker.transition_publisher import MAX_TRANSITIONS
from services.evaluator.worker.window import WindowWorker
from tests.fakes.clock import FakeClock
from tests.fakes.evaluator import NOW, MemoryAlerts, MemoryPartials, MemoryRules, MemorySnapshots, MemoryStates
from tests.unit.evaluator.pipeline import rule
from tests.unit.evaluator.rows import to_rows

AT_ONCE = Backoff(first_delay=timedelta(), max_delay=timedelta())
ASSIGNED = Rebalance(assigned=(CommittedOffset(partition=0, offset=0),))


class Loop:
    """The worker with everything around it."""

    def __init__(self) -> None:
        self.max_groups = 100_000
        self.tenant_groups = TenantLimits()
        self.partials, self.alerts, self.states = MemoryPartials(), MemoryAlerts(), MemoryStates()
        self.snapshots = MemorySnapshots()
        self.rules = MemoryRules(RuleSet.of(1, [rule("count", "count > threshold")]))
        self.clock, self.metrics = FakeClock(NOW), Metrics()
        self.metrics.rules(self.rules.current)
        self.worker = self.started()

    def started(self) -> WindowWorker:
        return WindowWorker(
            source=self.partials,
            states=self.states,
            snapshots=self.snapshots,
            alerts=self.alerts,
            rules=self.rules,
            metrics=self.metrics,
            clock=self.clock,
            commit=timedelta(seconds=1),
            idle=timedelta(seconds=1),
            max_groups=self.max_groups,
            tenant_groups=self.tenant_groups,
            backoff=AT_ONCE,
        )

    async def bring(self, *batches: PartialBatch, first: int = 0, rebalance: Rebalance | None = None) -> None:
        self.partials.bring(*batches, first=first, rebalance=rebalance)
        self.clock.advance(timedelta(seconds=2))
        await self.worker.turn()

    def steps(self) -> list[TransitionState]:
        return [each.state for each in self.alerts.written]


def flush(
    up_to: int, counted: int = 0, *, previous: int | None = None, event: float = 1, block: int = 1
) -> PartialBatch:
    """Give a flush of group "a" in the window from 0; `up_to` counts from the block's start."""
    key = RowKey("count", 1, ("a",), 0)
    start = block * 256
    return PartialBatch.of_block(
        progress=BlockProgress(
            source_partition=0,
            source_partitions=1,
            block=block,
            up_to=start + up_to,
            previous_up_to=start + (up_to - 1 if previous is None else previous),
            max_event_ns=int(event * SECOND_NS),
        ),
        rows=of_rows([Row(key, Aggregate(counted=counted, total=counted))] if counted else []),
    )


def with_rows(batch: PartialBatch, rows: PartialRows) -> PartialBatch:
    return PartialBatch.of_block(batch.blocks[0].progress, rows)


@pytest.fixture
def loop() -> Loop:
    return Loop()


async def test_what_is_decided_is_published_and_saved_and_then_committed(loop: Loop) -> None:
    await loop.bring(flush(1, 3), rebalance=ASSIGNED)
    assert loop.steps() == [TransitionState.FIRING]
    assert [state.id for state in loop.states.kept.values()] == [each.id for each in loop.alerts.written]
    (committed,) = loop.partials.commits
    assert (committed.partition, committed.offset) == (0, 0)


async def test_firings_and_late_events_are_counted_by_rule_and_late_events_also_once() -> None:
    with telemetry.telemetry("test", "i", ""):
        loop = Loop()
        await loop.bring(flush(1, 3), flush(2, event=40), rebalance=ASSIGNED)
        late = flush(3, 5, event=40)
        closing = Row(closing_key(15 * SECOND_NS), Aggregate(counted=4))
        both = of_rows([*to_rows(late.rows), closing])
        await loop.bring(with_rows(late, both), first=2)
        lines = telemetry.exposition()[0].decode().splitlines()
    assert "late_events_total 4.0" in lines
    values = {line.split("{")[0]: line.rpartition(" ")[2] for line in lines if 'rule="count"' in line}
    assert values["tocsin_evaluator_rule_events_late_total"] == "2.0"
    assert values["tocsin_evaluator_rule_fired_total"] == "1.0"


async def test_nothing_is_committed_while_kafka_refuses_the_transition(loop: Loop) -> None:
    loop.alerts.failures = 3
    await loop.bring(flush(1, 3), rebalance=ASSIGNED)
    assert loop.steps() == [TransitionState.FIRING]
    assert loop.alerts.failures == 0


async def test_a_transition_whose_state_was_not_saved_is_published_again(loop: Loop) -> None:
    loop.states.failures = 0
    await loop.bring(rebalance=ASSIGNED)
    loop.states.failures = 1
    await loop.bring(flush(1, 3))
    assert loop.steps() == [TransitionState.FIRING, TransitionState.FIRING]
    assert len({each.id for each in loop.alerts.written}) == 1


async def test_stopping_before_a_transition_is_published_commits_nothing(loop: Loop) -> None:
    await loop.bring(rebalance=ASSIGNED)
    commits = list(loop.partials.commits)
    loop.worker.stop()
    await loop.bring(flush(1, 3))
    await loop.worker.run()
    assert (loop.steps(), loop.partials.commits) == ([], commits)


async def test_a_successor_goes_on_where_it_was(loop: Loop) -> None:
    batches = [flush(1, 3), flush(2, 4, event=2)]
    await loop.bring(*batches, rebalance=ASSIGNED)
    (committed,) = loop.partials.commits
    loop.worker = loop.started()
    await loop.bring(*batches, rebalance=Rebalance(assigned=(committed,)))
    await loop.bring(flush(3, event=25), first=2)
    assert loop.steps() == [TransitionState.FIRING, TransitionState.RESOLVED]


async def test_states_are_waited_for(loop: Loop) -> None:
    loop.states.failures = 2
    await loop.bring(flush(1, 3), rebalance=ASSIGNED)
    assert loop.steps() == [TransitionState.FIRING]


async def test_new_rules_are_judged_without_a_new_event(loop: Loop) -> None:
    await loop.bring(flush(1, 2), rebalance=ASSIGNED)
    loop.rules.current = RuleSet.of(2, [rule("count", "count > threshold", 1, revision=2)])
    await loop.bring()
    assert loop.steps() == [TransitionState.FIRING]
    loop.rules.current = RuleSet.of(3, [])
    await loop.bring()
    assert loop.steps() == [TransitionState.FIRING, TransitionState.RESOLVED]


async def test_after_a_gap_it_reads_again_from_the_committed_offset(loop: Loop) -> None:
    await loop.bring(flush(256, 1, previous=0, block=0), rebalance=ASSIGNED)
    await loop.bring(flush(1, 1), flush(3, 3, previous=2), first=1)
    assert loop.partials.rewinds == [(0, 0)]
    assert loop.steps() == []
    await loop.bring(flush(256, 1, previous=0, block=0), flush(1, 1), flush(2, 2), flush(3, 3), first=0)
    assert loop.steps() == [TransitionState.FIRING]


async def test_a_gap_that_stays_is_read_again_once(loop: Loop) -> None:
    batches = [flush(256, 1, previous=0, block=0), flush(1, 1), flush(3, 3, previous=2)]
    await loop.bring(*batches, rebalance=ASSIGNED)
    await loop.bring(*batches)
    assert loop.partials.rewinds == [(0, 0)]
    assert loop.steps() == [TransitionState.FIRING]


async def test_a_revoked_partition_is_not_committed(loop: Loop) -> None:
    await loop.bring(flush(1, 1), rebalance=ASSIGNED)
    commits = list(loop.partials.commits)
    await loop.bring(flush(2, 3), first=1, rebalance=Rebalance(revoked=(0,)))
    assert (loop.steps(), loop.partials.commits) == ([], commits)


async def test_states_of_ended_alerts_are_deleted_after_the_commit(loop: Loop) -> None:
    await loop.bring(flush(1, 3), rebalance=ASSIGNED)
    loop.partials.takes_commits = False
    await loop.bring(flush(2, event=25), first=1)
    assert len(loop.states.kept) == 1
    loop.partials.takes_commits = True
    await loop.bring(flush(3, event=26), first=2)
    assert loop.states.kept == {}


def many(count: int) -> tuple[Row, ...]:
    return tuple(Row(RowKey("count", 1, (f"g{number}",), 0), Aggregate(counted=2, total=2)) for number in range(count))


async def test_many_transitions_go_in_batches_that_are_sent_once_and_no_rule_waits_for_all(loop: Loop) -> None:
    rules = [rule("count", "count > threshold"), rule("other", "count > threshold")]
    loop.rules.current = RuleSet.of(1, rules)
    await loop.bring(with_rows(flush(1), of_rows(many(3 * MAX_TRANSITIONS))), rebalance=ASSIGNED)
    commits = list(loop.partials.commits)
    loop.rules.current = RuleSet.of(2, [replace(rules[0], threshold=1.0, revision=2), rules[1]])
    loop.alerts.failures = 1
    await loop.bring()
    assert len(loop.alerts.written) == MAX_TRANSITIONS
    urgent = Row(RowKey("other", 1, ("a",), 0), Aggregate(counted=3, total=3))
    await loop.bring(with_rows(flush(2, event=2), of_rows([urgent])), first=1)
    assert "other" in {each.rule_id for each in loop.alerts.written}
    assert loop.partials.commits == commits
    for _ in range(2):
        await loop.bring()
    assert len({each.id for each in loop.alerts.written}) == len(loop.alerts.written) == 3 * MAX_TRANSITIONS + 1
    assert len(loop.partials.commits) == len(commits) + 1


async def test_unpublished_transitions_of_a_revoked_partition_are_left_to_its_next_owner(loop: Loop) -> None:
    await loop.bring(with_rows(flush(1), of_rows(many(2 * MAX_TRANSITIONS))), rebalance=ASSIGNED)
    loop.rules.current = RuleSet.of(2, [rule("count", "count > threshold", 1, revision=2)])
    await loop.bring()
    await loop.bring(rebalance=Rebalance(revoked=(0,)))
    assert len(loop.alerts.written) == MAX_TRANSITIONS


async def test_a_window_beyond_the_limit_of_groups_is_reported_once_and_its_events_are_counted(loop: Loop) -> None:
    loop.max_groups, loop.partials.partition_count = 8, 2
    loop.worker = loop.started()
    with capture_logs() as logs:
        await loop.bring(with_rows(flush(1), of_rows(many(7))), rebalance=ASSIGNED)
        await loop.bring(with_rows(flush(2), of_rows(many(8))), first=1)
    (logged,) = [entry for entry in logs if entry["event"] == "group_limit_reached"]
    assert (logged["rule_id"], logged["partition"], logged["window_start"]) == ("count", 0, "1970-01-01T00:00:00Z")
    assert loop.metrics.rule_counts()["count"].beyond_limit == 2 * 4
    assert (logged["limit"], logged["tenant"], logged["max_groups"]) == ("RULE", "default", 8)
    (fired,) = loop.alerts.written
    assert (fired.resource, fired.window.count) == ("~other/0", 6)


async def test_a_window_beyond_the_limit_of_its_tenant_says_so(loop: Loop) -> None:
    loop.tenant_groups = TenantLimits.parse("9,default=5")
    loop.worker = loop.started()
    with capture_logs() as logs:
        await loop.bring(with_rows(flush(1), of_rows(many(7))), rebalance=ASSIGNED)
    (logged,) = [entry for entry in logs if entry["event"] == "group_limit_reached"]
    assert (logged["limit"], logged["tenant"], logged["max_groups"]) == ("TENANT", "default", 5)


async def test_other_tasks_run_between_the_checkpoints_of_partitions(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    assigned = tuple(CommittedOffset(partition=partition, offset=0) for partition in range(3))
    await loop.bring(rebalance=Rebalance(assigned=assigned))
    seen: list[str] = []
    checkpoint = WindowStage.checkpoint

    def noted(stage: WindowStage, now_ns: int) -> Checkpoint:
        seen.append("checkpoint")
        asyncio.get_running_loop().call_soon(seen.append, "other task")
        return checkpoint(stage, now_ns)

    monkeypatch.setattr(WindowStage, "checkpoint", noted)
    await loop.bring()
    assert seen == ["checkpoint", "other task"] * 3
