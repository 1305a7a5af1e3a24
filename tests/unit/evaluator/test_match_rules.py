"""The match loop: what rules that come and change select, and what is counted of it."""

from services.chassis import telemetry
from services.evaluator.core.records import BLOCK_RECORDS
from services.evaluator.core.rules import RuleSet
from tests.unit.evaluator.match_loop import GOOD, NEW, Loop
from tests.unit.evaluator.pipeline import rule
from tests.unit.evaluator.rows import to_rows
from tocsin.logs.v1.log_event_pb2 import LogBatch, LogEvent


def by_rule(metric: str) -> dict[str, float]:
    lines = telemetry.exposition()[0].decode().splitlines()
    chosen = [line for line in lines if line.startswith(f"tocsin_evaluator_rule_{metric}{{")]
    return {line.split('"')[1]: float(line.rpartition(" ")[2]) for line in chosen}


def evaluated() -> float:
    lines = telemetry.exposition()[0].decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("events_evaluated_total"))


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
