"""The match loop: what is committed, and what happens when something does not go through."""

import pytest

from services.evaluator.core.records import BLOCK_RECORDS
from services.evaluator.worker import match
from tests.fakes.evaluator import NOW
from tests.unit.evaluator.match_loop import GOOD, NEW, Loop
from tests.unit.evaluator.rows import to_rows
from tocsin.logs.v1.log_event_pb2 import LogBatch, LogEvent


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


async def test_when_it_stops_it_flushes_what_it_has(loop: Loop) -> None:
    await loop.bring(assigned=0)
    loop.worker.stop()
    await loop.worker.run()
    assert loop.flushed() == []
