"""The records of one flush are judged together, and how records are cut into fetches changes nothing."""

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.evaluator.core.match.blocks import SourcePartition, flush_sources
from services.evaluator.core.partial_rows import PartialBatch, concat, of_rows
from services.evaluator.core.records import (
    SECOND_NS,
    Aggregate,
    BlockProgress,
    Row,
    RowKey,
    Sample,
    closing_key,
    totals_key,
)
from services.evaluator.core.rules import CompiledRule, RuleSet
from services.evaluator.core.window import stage as stage_module
from services.evaluator.core.window.checkpoint import Checkpoint
from services.evaluator.core.window.stage import WindowStage
from services.evaluator.core.window.step import Outcome
from tests.unit.evaluator.pipeline import Window, rule
from tests.unit.evaluator.stage_driver import COUNT, FRESH, StageDriver, progress, row

# Neither is monotone: what holds in between may not hold in the end.
RULES = RuleSet.of(1, [rule("count", "count == 3"), rule("share", "rate > 0.5 && total > 2")])
BUCKETING = CompiledRule.of(rule("share", "total > 2")).bucketing_id
SOURCES = 2


def random_records(random: Random) -> list[PartialBatch]:
    """Return records of two sources whose blocks go on, with rows of any kind and flushes of any length."""
    counts: dict[tuple[int, RowKey], int] = {}
    at, block = [0] * SOURCES, [0] * SOURCES
    records = []
    for second in range(random.randrange(20)):
        source = random.randrange(SOURCES)
        if random.random() < 0.2:
            block[source] += 1
            at[source] = block[source] * 256
            counts = {key: count for key, count in counts.items() if key[0] != source}
        before, at[source] = at[source], at[source] + random.randint(1, 3)
        rows = []
        for key in random.sample(_keys(), random.randrange(3)):
            sent = counts.get((source, key), 0)
            count = counts[source, key] = sent + random.randint(1, 2)
            # A row that has all the samples it may have is sent without them from then on.
            samples = tuple(_sample(source, number) for number in range(min(count, 3) if sent < 3 else 0))
            rows.append(Row(key, Aggregate(counted=count, total=count, samples=samples)))
        of_block = BlockProgress(
            source_partition=source,
            source_partitions=SOURCES,
            block=block[source],
            up_to=at[source],
            previous_up_to=before + (random.random() < 0.1),
            max_event_ns=random.choice((None, 2 * second * SECOND_NS)),
            idle_ns=random.choice((None, None, None, 3 * second * SECOND_NS)),
            rules_revision=1,
        )
        records.append(PartialBatch.of_block(progress=of_block, rows=of_rows(rows), continues=random.random() < 0.5))
    return records


def _keys() -> list[RowKey]:
    panes, groups = (0, 10 * SECOND_NS, 20 * SECOND_NS), (("a",), ("b",))
    counted = [RowKey(rule_id, 1, group, pane) for rule_id in RULES.rules for group in groups for pane in panes]
    totals = [totals_key(BUCKETING, group, pane) for group in groups for pane in panes]
    return [*counted, *totals, *(closing_key(moment * SECOND_NS) for moment in (15, 25))]


def _sample(source: int, number: int) -> Sample:
    return Sample(number, f"{source}", None, "m", None, None, "", "")


def observed(stage: WindowStage, records: list[PartialBatch], cuts: list[int], first: int = 0) -> list[Outcome]:
    """Return what the records lead to, given in parts that begin there."""
    numbered = list(enumerate(records))[first:]
    borders = [0, *sorted(min(cut, len(numbered)) for cut in cuts), len(numbered)]
    return [stage.observe(numbered[begin:end], 7) for begin, end in pairwise(borders)]


def facts(outcomes: list[Outcome]) -> tuple[object, ...]:
    late: dict[str, int] = {}
    for outcome in outcomes:
        for rule_id, events in outcome.late_by_rule.items():
            late[rule_id] = late.get(rule_id, 0) + events
    return (
        [transition for outcome in outcomes for transition in outcome.transitions],
        [gap for outcome in outcomes for gap in outcome.gaps],
        sum(outcome.late_events for outcome in outcomes),
        late,
    )


def joined(one: PartialBatch, other: PartialBatch) -> PartialBatch:
    """Return one record of two blocks."""
    return PartialBatch(blocks=[*one.blocks, *other.blocks], rows=concat([one.rows, other.rows]))


def source_of(batch: PartialBatch) -> int:
    return batch.blocks[0].progress.source_partition


def contents(stage: WindowStage) -> list[str]:
    return sorted(map(str, Window(stage, 0).content()))


def ids(outcomes: list[Outcome]) -> list[str]:
    return [transition.id for outcome in outcomes for transition in outcome.transitions]


def started(checkpoint: Checkpoint = FRESH) -> WindowStage:
    stage = WindowStage.restored(checkpoint, (), SECOND_NS)
    stage.update_rules(RULES, 0)
    return stage


@settings(deadline=None, max_examples=60)
@given(st.randoms(use_true_random=True), st.lists(st.integers(0, 20), max_size=20))
def test_many_records_at_once_are_judged_as_one_by_one(random: Random, cuts: list[int]) -> None:
    records = random_records(random)
    one_by_one, cut = started(), started()
    each, parts = observed(one_by_one, records, list(range(20))), observed(cut, records, cuts)
    assert facts(parts) == facts(each)
    assert cut.checkpoint(0) == one_by_one.checkpoint(0)
    assert [str(pane) for pane in Window(cut, 0).content()] == [str(pane) for pane in Window(one_by_one, 0).content()]


@settings(deadline=None, max_examples=60)
@given(st.randoms(use_true_random=True))
def test_blocks_of_several_sources_count_in_one_record_as_in_one_each(random: Random) -> None:
    records = random_records(random)
    of_source = [[each for each in records if source_of(each) == source] for source in range(SOURCES)]
    pairs = list(zip(*of_source, strict=False))
    apart = [each for one, other in pairs for each in (replace(one, continues=True), replace(other, continues=False))]
    of_each, of_joined = started(), started()
    each = observed(of_each, apart, [])
    parts = observed(of_joined, [joined(*pair) for pair in pairs], [])
    # Which of several groups comes first may differ.
    assert sorted(ids(parts)) == sorted(ids(each))
    assert facts(parts)[2:] == facts(each)[2:]
    assert [gap for outcome in parts for _, gap in outcome.gaps] == [gap for outcome in each for _, gap in outcome.gaps]
    assert contents(of_joined) == contents(of_each)


@settings(deadline=None, max_examples=40)
@given(st.randoms(use_true_random=True), st.integers(0, 20))
def test_a_new_owner_decides_the_same_wherever_the_former_one_was_in_a_flush(random: Random, reached: int) -> None:
    records = random_records(random)
    former = started()
    before = observed(former, records[:reached], [])
    checkpoint = former.checkpoint(0)
    states = {(each.rule_id, each.group): each for outcome in before for each in outcome.transitions}
    successor = WindowStage.restored(checkpoint, states.values(), SECOND_NS)
    again = successor.update_rules(RULES, 0)
    after = observed(successor, records, [], first=checkpoint.offset)
    goes_on = observed(former, records, [], first=min(reached, len(records)))
    # Which of several groups comes first may differ.
    assert sorted([*(each.id for each in again), *ids(after)]) == sorted(ids(goes_on))


def test_a_flush_is_judged_once_all_of_it_is_here_and_before_its_times_close_anything() -> None:
    driver = StageDriver.with_rules(rule("count", "count == 3"))
    first = PartialBatch.of_block(
        progress=replace(progress(0, 0, 1), max_event_ns=30 * SECOND_NS), rows=of_rows([row(2)])
    )
    assert driver.process(replace(first, continues=True)).transitions == ()
    assert driver.stage.checkpoint(0) == Checkpoint(offset=0, position=0, watermark_ns=None)
    assert driver.stage.count_groups() == (0, 0)
    (fired, ended) = driver.process(
        PartialBatch.of_block(progress=progress(0, 1, 2), rows=of_rows([row(3)]))
    ).transitions
    assert (fired.window.count, fired.window.start_ns, ended.window.start_ns) == (3, 0, 10 * SECOND_NS)
    assert driver.stage.checkpoint(0).position == 2


def test_a_row_with_samples_is_judged_though_a_later_record_of_its_source_is_in_the_flush() -> None:
    key, aggregate = row(3)
    sampled = of_rows([Row(key, aggregate._replace(samples=(_sample(0, 1),)))])
    first = PartialBatch.of_block(progress=progress(0, 0, 1), rows=sampled, continues=True)
    second = PartialBatch.of_block(progress=progress(0, 1, 2), rows=of_rows([row(1, group=("b",))]))
    (fired,) = StageDriver.with_rules(COUNT).process_all([first, second]).transitions
    assert (fired.group, len(fired.samples)) == (("a",), 1)


@pytest.mark.parametrize("limit", ["_MAX_UNMERGED", "_MAX_UNMERGED_ROWS"])
def test_a_flush_that_does_not_end_is_judged_at_a_bound(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_module, limit, 2)
    driver = StageDriver.with_rules(COUNT)
    endless = [
        PartialBatch.of_block(progress=progress(0, number, number + 1), rows=of_rows([row(number + 2)]), continues=True)
        for number in range(3)
    ]
    assert [each.window.count for each in driver.process_all(endless).transitions] == [3]
    assert driver.stage.position == 2


def test_a_record_has_the_blocks_of_all_sources_and_a_further_one_where_a_source_has_begun_another() -> None:
    sources = [SourcePartition.at(number, 0) for number in range(3)]
    sources[0].add_record(0, 0)
    sources[0].add_record(256, 0)
    flushed = flush_sources(sources, outputs=2, source_partitions=3, idle_ns={2: 5}, rules_revision=1)
    found = [
        (output, [(part.progress.source_partition, part.progress.block) for part in batch.blocks], batch.continues)
        for output, batch in flushed
    ]
    assert found == [
        (0, [(0, 0), (2, 0)], True),
        (1, [(0, 0), (2, 0)], True),
        (0, [(0, 1)], False),
        (1, [(0, 1)], False),
    ]
    assert [part.progress.idle_ns for part in flushed[0][1].blocks] == [None, 5]
    assert flush_sources(sources, outputs=2, source_partitions=3, idle_ns={}, rules_revision=1) == []
