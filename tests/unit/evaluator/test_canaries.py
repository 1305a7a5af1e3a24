"""Canaries are counted as other events are, and do not move event time."""

import pytest

from services.chassis.kafka import Record
from services.domain.canary import CANARY_SERVICE
from services.evaluator.adapters.log_events import LogDecoder
from services.evaluator.core.match.aggregation import match_events
from services.evaluator.core.match.blocks import SourcePartition
from services.evaluator.core.match.canaries import busy_partitions
from services.evaluator.core.rules import RuleSet
from services.manager.core.canary import CANARY_ATTRIBUTE, canary_rule
from tests.unit.evaluator.block_contents import rows_of
from tests.unit.evaluator.match_loop import Loop
from tests.unit.evaluator.pipeline import Event, moment
from tocsin.logs.v1.log_event_pb2 import LogBatch, LogEvent

CANARY = canary_rule().rule
RULES = RuleSet.of(1, [CANARY])


def canary(second: float, name: str = "one") -> LogEvent:
    event = Event(second, CANARY_SERVICE, "INFO").message()
    event.attributes[CANARY_ATTRIBUTE] = name
    return event


def record(offset: int, *events: LogEvent, partition: int = 0) -> Record:
    value = LogBatch(events=events).SerializeToString()
    return Record("log-events", partition, offset, None, value, (), moment(1000) // 10**6)


@pytest.mark.parametrize(
    ("records", "moved_to"),
    [
        ([record(0, canary(900))], None),
        ([record(0, Event(10).message(), canary(900))], 10),
        ([record(0, Event(10).message()), record(1, canary(900)), record(2, Event(11).message())], 11),
        ([record(0, Event(10).message())], 10),
    ],
)
def test_only_other_events_move_event_time(records: list[Record], moved_to: float | None) -> None:
    source = SourcePartition.at(0, 0)
    events, _ = LogDecoder().decode(records)
    match_events(events, RULES, {0: source})
    assert source.blocks[0].max_event_ns == (None if moved_to is None else moment(moved_to))
    assert source.position == len(records)


def test_each_canary_is_a_group_of_its_own_that_fires() -> None:
    source = SourcePartition.at(0, 0)
    events, _ = LogDecoder().decode([record(0, canary(900), Event(10).message()), record(1, canary(901, "two"))])
    match_events(events, RULES, {0: source})
    counted = {key.group: row.counted for key, row in rows_of(source.blocks[0]).items() if key.rule_id == CANARY.id}
    assert counted == {("one",): 1, ("two",): 1}
    assert CANARY.threshold < 1


def test_a_partition_is_busy_unless_all_that_it_has_are_canaries() -> None:
    records = [
        record(0, canary(1), Event(1).message()),
        record(0, canary(1), canary(2), partition=1),
        record(0, Event(1).message(), partition=2),
        record(0, canary(1), partition=3),
        record(1, Event(1).message(), partition=3),
        record(0, partition=4),
    ]
    assert busy_partitions(LogDecoder().decode(records)[0]) == {0, 2, 3, 4}
    assert busy_partitions(LogDecoder().decode(records[2:3])[0]) == {2}


async def test_a_partition_that_has_only_canaries_is_idle() -> None:
    loop = Loop()
    await loop.bring(LogBatch(events=[Event(1).message()]).SerializeToString(), assigned=0)
    value = LogBatch(events=[canary(2)]).SerializeToString()
    for offset in range(1, 8):
        loop.log.ends = {0: offset + 1}
        await loop.bring(value, first=offset)
    (*_, (_, batch)) = loop.partials.written
    assert batch.blocks[0].progress.idle_ns == int(loop.clock.now().timestamp()) * 10**9
