"""Records that were judged before are merged many at once: that counts as one by one does."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.evaluator.core.partial_rows import PartialBatch, of_rows
from services.evaluator.core.records import SECOND_NS, Aggregate, BlockProgress, Row, RowKey, Sample, totals_key
from services.evaluator.core.rules import CompiledRule, RuleSet
from services.evaluator.core.window import stage as stage_module
from services.evaluator.core.window.checkpoint import Checkpoint
from services.evaluator.core.window.stage import WindowStage
from tests.unit.evaluator.pipeline import Window, rule
from tests.unit.evaluator.stage_driver import COUNT

RATE = rule("rate", "rate > 2.0 && total > 0")
RULES = RuleSet.of(2, [COUNT, RATE])
BUCKETING = CompiledRule.of(RATE).bucketing_id
SAMPLE = Sample(1, "a", None, "m", None, None, "", "")

aggregates = st.builds(
    Aggregate,
    counted=st.integers(0, 9),
    total=st.integers(0, 9),
    value_count=st.integers(0, 2),
    sum=st.floats(allow_nan=False),
    min=st.none(),
    max=st.none() | st.floats(0, 9),
    last_event_ns=st.none() | st.integers(0, 9),
    samples=st.just(()),
    traceparent=st.just(""),
)
groups = st.sampled_from([("a",), ("b",)])
panes = st.sampled_from([0, 10 * SECOND_NS])
keys = st.builds(RowKey, st.just("count"), st.just(1), groups, panes) | st.builds(
    totals_key, st.just(BUCKETING), groups, panes
)
batches = st.builds(
    lambda source, block, up_to, revision, rows: PartialBatch.of_block(
        progress=BlockProgress(
            source_partition=source,
            source_partitions=3,
            block=block,
            up_to=block * 256 + up_to,
            previous_up_to=block * 256,
            rules_revision=revision,
        ),
        rows=of_rows([Row(key, aggregate) for key, aggregate in rows.items()]),
    ),
    source=st.integers(0, 1),
    block=st.integers(0, 2),
    up_to=st.integers(1, 4),
    revision=st.integers(1, 3),
    rows=st.dictionaries(keys, aggregates, max_size=3),
)


def replayed(given: list[PartialBatch], *, at_once: int) -> list[object]:
    """Return what a stage holds after records that were judged before, merged so many at once."""
    checkpoint = Checkpoint(offset=0, position=100, watermark_ns=None)
    stage = WindowStage.restored(checkpoint, (), SECOND_NS)
    stage.update_rules(RULES, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage_module, "_MAX_UNMERGED", at_once)
        for offset, batch in enumerate(given):
            stage.observe([(offset, batch)], 0)
        checkpoint = stage.checkpoint(0)
    content = [(start, group, str(numbers), samples) for start, group, numbers, samples in Window(stage, 0).content()]
    return [checkpoint, *sorted(content)]


@settings(deadline=None, max_examples=150)
@given(st.lists(batches, max_size=12))
def test_many_at_once_count_as_one_by_one(given: list[PartialBatch]) -> None:
    assert replayed(given, at_once=1000) == replayed(given, at_once=1)


@pytest.mark.parametrize("rows", [1, 1000])
def test_so_many_records_of_a_block_wait_at_most(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_module, "_MAX_UNMERGED_ROWS", rows)
    batch = PartialBatch.of_block(
        progress=BlockProgress(source_partition=0, source_partitions=1, block=0, up_to=1, previous_up_to=0),
        rows=of_rows([Row(RowKey("count", 1, ("a",), 0), Aggregate(1))]),
    )
    assert replayed([batch] * 5, at_once=2) == replayed([batch], at_once=2) != replayed([], at_once=2)


@settings(deadline=None, max_examples=50)
@given(st.lists(batches, max_size=8), st.data())
def test_a_record_that_comes_again_at_once_changes_nothing(given: list[PartialBatch], data: st.DataObject) -> None:
    repeated = [batch for batch in given for _ in range(data.draw(st.integers(1, 2)))]
    once, twice = replayed(given, at_once=1000), replayed(repeated, at_once=1000)
    assert twice[1:] == once[1:]


@pytest.mark.parametrize(
    ("read", "counted"),
    [
        pytest.param([(0, 1), (0, 2)], 2, id="a later one that has come further"),
        pytest.param([(0, 2), (0, 1)], 2, id="a repeat that has not come as far"),
        pytest.param([(0, 2), (1, 3), (0, 3)], 5, id="a repeat after the next block has begun"),
    ],
)
def test_of_rows_of_a_block_the_one_that_has_come_furthest_counts(read: list[tuple[int, int]], counted: int) -> None:
    stage = WindowStage.restored(Checkpoint(offset=0, position=9, watermark_ns=None), (), SECOND_NS)
    stage.update_rules(RULES, 0)
    for offset, (block, up_to) in enumerate(read):
        progress = BlockProgress(source_partition=0, source_partitions=1, block=block, up_to=up_to, previous_up_to=0)
        # Samples are left out where they were sent before.
        aggregate = Aggregate(up_to, samples=(SAMPLE,) if offset == 0 else ())
        rows = of_rows([Row(RowKey("count", 1, ("a",), 0), aggregate)])
        stage.observe([(offset, PartialBatch.of_block(progress=progress, rows=rows))], 0)
    stage.checkpoint(0)
    ((_, _, merged, samples),) = Window(stage, 0).content()
    assert (merged.counted, samples) == (counted, 1)
