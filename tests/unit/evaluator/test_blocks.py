"""Blocks and source partitions: what each flush writes."""

import numpy as np

from services.evaluator.core import records
from services.evaluator.core.match.blocks import Block, SourcePartition, flush_sources
from services.evaluator.core.match.counted_rows import Additions
from services.evaluator.core.partial_rows import PartialBatch, of_rows, split_batch
from services.evaluator.core.records import (
    BLOCK_RECORDS,
    Aggregate,
    BlockProgress,
    Row,
    RowKey,
    Sample,
    block_of,
    end_offset,
    first_offset,
    group_key,
    later,
    partition_of,
)
from services.evaluator.core.samples import SampleTable
from tests.unit.evaluator.rows import to_rows

SAMPLE = Sample(1, "a", None, "m", None, None, "", "")


def flushed(source: SourcePartition, idle_ns: int | None = None) -> list[tuple[int, PartialBatch]]:
    idle = {} if idle_ns is None else {source.partition: idle_ns}
    return flush_sources([source], outputs=2, source_partitions=1, idle_ns=idle, rules_revision=1)


def test_block_borders_depend_only_on_offsets() -> None:
    assert [block_of(offset) for offset in (0, 255, 256)] == [0, 0, 1]
    assert (first_offset(1), end_offset(1)) == (256, 512)


def count(block: Block, groups: str, samples: int = 0) -> None:
    """Count an event in each of these groups, and keep so many samples of it in the first one."""
    each = np.arange(len(groups))
    buckets = block.rows.buckets([(group,) for group in groups], each, each * 0)
    slots = block.rows.alone([("rule", 1)], [("rule",)], each * 0, buckets)
    ones, none = each * 0 + 1, np.full(len(each), np.nan)
    traces = block.rows.traces([""], each * 0)
    block.rows.add(
        slots,
        Additions(
            counted=ones,
            value_count=each * 0,
            min=none,
            max=none,
            last_event_ns=ones,
            total=ones,
            sum=np.zeros(len(each)),
            traceparent=traces,
        ),
    )
    if samples:
        block.rows.samples.add(SampleTable.of([SAMPLE]), slots[[0] * samples], np.zeros(samples, dtype=np.int64))


def total(block: Block, bucketing: str, readers: list[str]) -> None:
    """Count the totals of a bucketing's group "a"."""
    one = np.zeros(1, dtype=np.int64)
    buckets = block.rows.buckets([("a",)], one, one)
    block.rows.add_totals(block.rows.alone([(bucketing, 0)], [readers], one, buckets), one + 1, one)


def test_every_output_gets_the_progress_of_a_block() -> None:
    source = SourcePartition.at(0, 0)
    count(source.add_record(0, 5), "a")
    batches = flushed(source)
    assert [output for output, _ in batches] == [0, 1]
    assert {(batch.blocks[0].progress.previous_up_to, batch.blocks[0].progress.up_to) for _, batch in batches} == {
        (0, 1)
    }
    assert sum(len(batch.rows) for _, batch in batches) == 1
    assert flushed(source) == []


def test_only_changed_rows_are_sent_again_and_samples_only_once() -> None:
    source = SourcePartition.at(0, 0)
    count(source.add_record(0, 5), "ab", samples=1)
    flushed(source)
    count(source.add_record(1, 6), "a")
    (row,) = [row for _, batch in flushed(source) for row in to_rows(batch.rows)]
    assert (row.key.group, row.aggregate.counted, row.aggregate.samples) == (("a",), 2, ())
    count(source.add_record(2, 6), "a", samples=2)
    (row,) = [row for _, batch in flushed(source) for row in to_rows(batch.rows)]
    assert row.aggregate.samples == (SAMPLE, SAMPLE, SAMPLE)


def test_a_block_is_flushed_to_its_end_before_the_next_and_then_dropped() -> None:
    source = SourcePartition.at(0, 250)
    source.add_record(250, 1).add_event_time(10)
    source.add_record(300, 2).add_event_time(20)
    progress = [batch.blocks[0].progress for output, batch in flushed(source) if output == 0]
    assert [(each.block, each.previous_up_to, each.up_to) for each in progress] == [(0, 250, 256), (1, 256, 301)]
    assert [each.max_event_ns for each in progress] == [10, 20]
    assert [each.number for each in source.blocks] == [1]
    assert source.commit_offset == 256


def test_a_complete_block_can_be_committed() -> None:
    source = SourcePartition.at(0, 0)
    for offset in range(records.BLOCK_RECORDS):
        source.add_record(offset, 1)
    assert source.commit_offset == 0
    flushed(source)
    assert source.commit_offset == 256
    assert flushed(source) == []


def test_what_a_former_owner_has_sent_is_not_sent_again() -> None:
    source = SourcePartition.at(0, 0, sent_before=2)
    for offset, groups in enumerate(("ab", "bc")):
        count(source.add_record(offset, 5), groups, samples=1)
        source.skip_sent()
    assert (source.has_unflushed_records, flushed(source)) == (False, [])
    assert (source.commit_offset, source.sent_up_to) == (0, 2)
    count(source.add_record(2, 6), "bd", samples=1)
    source.skip_sent()
    batches = [batch for _, batch in flushed(source)]
    rows = sorted((row.key.group, row.aggregate.counted) for batch in batches for row in to_rows(batch.rows))
    assert rows == [(("b",), 3), (("d",), 1)]
    assert {batch.blocks[0].progress.previous_up_to for batch in batches} == {2}
    assert source.sent_up_to == 3


def test_what_was_not_evaluated_is_sent_though_a_former_owner_has_sent_the_rows() -> None:
    source = SourcePartition.at(0, 0, sent_before=1)
    source.add_record(0, 5).add_missed(("rule", 1), [7])
    source.skip_sent()
    source.add_record(1, 5)
    assert [batch.blocks[0].missed for _, batch in flushed(source)] == [{("rule", 1): [7]}] * 2
    assert source.sent_up_to == 1


def test_a_block_that_begins_again_flushes_nothing_before_what_a_former_owner_has_sent() -> None:
    source = SourcePartition.at(0, 0, sent_before=2)
    source.add_record(0, 5)
    source.skip_sent()
    again = source.again(0)
    count(again.add_record(0, 5), "a")
    again.skip_sent()
    assert flushed(again) == []
    count(again.add_record(1, 5), "b")
    assert sorted(row.key.group for _, batch in flushed(again) for row in to_rows(batch.rows)) == [("a",), ("b",)]


def test_an_idle_source_is_reported() -> None:
    source = SourcePartition.at(0, 7)
    (progress, _) = [batch.blocks[0].progress for _, batch in flushed(source, idle_ns=99)]
    assert (progress.idle_ns, progress.previous_up_to, progress.up_to) == (99, 7, 7)


def test_totals_go_to_each_output_in_which_a_rules_group_is_judged() -> None:
    source = SourcePartition.at(0, 0)
    block = source.add_record(0, 5)
    total(block, "f", [f"r{n}" for n in range(9)])
    total(block, "g", ["r0"])
    total(block, "h", [])
    batches = [(row.key.rule_id, output) for output, batch in flushed(source) for row in to_rows(batch.rows)]
    assert sorted(batches) == [("f", 0), ("f", 1), ("g", partition_of("r0", ("a",), 2))]


def split(*groups: str) -> list[list[str]]:
    progress = BlockProgress(source_partition=0, source_partitions=1, block=0, up_to=1, previous_up_to=0, idle_ns=7)
    rows = of_rows([Row(RowKey(f"r{n}", 1, (group,), 0), Aggregate()) for n, group in enumerate(groups)])
    for continues in (True, False):
        first, second = split_batch(PartialBatch.of_block(progress=progress, rows=rows, continues=continues))
        assert (first.blocks[0].progress.idle_ns, second.blocks[0].progress) == (None, progress)
        assert (first.continues, second.continues) == (True, continues)
    return [[row.key.group[0] for row in to_rows(half.rows)] for half in (first, second)]


def test_a_split_keeps_the_rows_of_a_group_together_where_possible() -> None:
    assert split("a", "b", "a", "b") == [["a", "a"], ["b", "b"]]
    assert split("a", "b", "b", "b") == [["a"], ["b", "b", "b"]]
    assert split("a", "a", "a", "b") == [["a", "a", "a"], ["b"]]
    assert split("a", "a", "a", "a") == [["a", "a"], ["a", "a"]]


def test_groups_never_share_a_key() -> None:
    assert group_key("r", ("a", "bc")) != group_key("r", ("ab", "c"))
    assert 0 <= partition_of("r", ("a",), 4) < 4


def test_the_later_of_moments_that_may_be_unknown() -> None:
    assert (later(None, None), later(1, None), later(None, 2), later(3, 2)) == (None, 1, 2, 3)


def test_a_block_that_begins_in_the_middle_starts_there() -> None:
    assert Block.at(300).start == 300


def test_blocks_that_are_begun_again_are_not_committed_before_they_are_flushed_again() -> None:
    source = SourcePartition.at(0, 0)
    for offset in range(BLOCK_RECORDS + 10):
        source.add_record(offset, 0)
    flushed(source)
    again = source.again(0)
    for offset in range(BLOCK_RECORDS + 5):
        again.add_record(offset, 0)
    assert flushed(again) == []
    assert (again.commit_offset, again.sent_up_to) == (0, 0)
    for offset in range(BLOCK_RECORDS + 5, BLOCK_RECORDS + 10):
        again.add_record(offset, 0)
    flushed(again)
    assert (again.commit_offset, again.sent_up_to) == (BLOCK_RECORDS, BLOCK_RECORDS + 10)
