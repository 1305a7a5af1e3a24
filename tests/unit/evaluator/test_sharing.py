"""Rules that count the same events share rows; what each of them has counted does not depend on it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.chassis.kafka import Record
from services.evaluator.adapters.log_events import LogDecoder
from services.evaluator.adapters.window_partials_wire import decode_batch, encode_batch
from services.evaluator.core.match import aggregation
from services.evaluator.core.match.aggregation import match_events
from services.evaluator.core.match.blocks import SourcePartition, flush_sources
from services.evaluator.core.match.events import Ints
from services.evaluator.core.match.sharing import RowClasses, RuleHits, Split, together
from services.evaluator.core.partial_rows import PartialBatch, of_rows
from services.evaluator.core.records import Aggregate, RowKey, partition_of
from services.evaluator.core.rules import CompiledRule, RuleSet
from services.evaluator.core.shared_rows import expand
from tests.unit.evaluator.block_contents import rows_of
from tests.unit.evaluator.pipeline import START, rule
from tests.unit.evaluator.rows import to_rows
from tests.unit.evaluator.stage_driver import StageDriver, progress, row
from tests.unit.evaluator.test_aggregation import random_records
from tocsin.logs.v1.log_event_pb2 import LogBatch, LogEvent

DECODER = LogDecoder()
OUTPUTS = 3
FILTERS = ("level >= ERROR", "level >= WARN", 'host != "h"', 'host != "nobody"', "status_code >= 500", 'service == "a"')
# Each kind of rule has rows of its own; those of the first two share a bucketing, and those of the third part of it.
KINDS: dict[str, dict[str, object]] = {
    "r": {},
    "s": {"condition": "rate > 0.5"},
    "v": {"value_field": "status_code"},
    "g": {"group_by": ("host",)},
}
RULES = RuleSet.of(
    1,
    [
        rule(f"{kind}{number}", **({"condition": "count > threshold", "filter": each} | fields))  # type: ignore[arg-type]
        for kind, fields in KINDS.items()
        for number, each in enumerate(FILTERS)
    ],
)
# What each output partition is sent of each block in one flush.
Flush = list[tuple[int, dict[RowKey, Aggregate]]]
randoms = st.randoms(use_true_random=True)


def each_alone(hits: Mapping[CompiledRule, Ints]) -> list[RuleHits]:
    return [RuleHits(rules=(compiled,), events=events) for compiled, events in hits.items() if len(events)]


def flushes(records: Sequence[Record], cuts: Sequence[int], flushed_after: Sequence[int]) -> list[Flush]:
    """Return what the window stage reads in each flush, after fetching the records cut at these places."""
    sources = {each.partition: SourcePartition.at(each.partition, each.offset) for each in reversed(records)}
    read: list[Flush] = []
    for number, (first, end) in enumerate(zip([0, *cuts], [*cuts, len(records)], strict=True)):
        batch, _ = DECODER.decode(records[first:end])
        without = frozenset([RULES.rules["r0"]]) if number == 1 else frozenset[CompiledRule]()
        match_events(batch, RULES, sources, without)
        if number in flushed_after or end == len(records):
            flushed = flush_sources(
                sources.values(), outputs=OUTPUTS, source_partitions=2, idle_ns={}, rules_revision=1
            )
            read.append([(output, contents(batch)) for output, batch in flushed])
    return read


def contents(batch: PartialBatch) -> dict[RowKey, Aggregate]:
    """Return what a reader makes of a batch; the rows are where the writer says that they are."""
    expanded = expand(decode_batch(encode_batch(batch)))
    rows = to_rows(expanded.rows)
    assert sum(part.rows for part in expanded.blocks) == len(rows)
    found = {row.key: row.aggregate for row in rows}
    assert len(found) == len(rows) or len(expanded.blocks) > 1
    return found


@settings(max_examples=60, deadline=None)
@given(randoms)
def test_rules_that_share_rows_count_what_each_counts_alone(random: Random) -> None:
    records = random_records(random)
    cuts = sorted(random.sample(range(len(records) + 1), min(5, len(records))))
    flushed_after = random.sample(range(6), 3)
    shared = flushes(records, cuts, flushed_after)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aggregation, "together", each_alone)
        assert flushes(records, cuts, flushed_after) == shared


def error(**fields: object) -> LogEvent:
    given: dict[str, object] = {"service": "a", "level": LogEvent.ERROR, "message": "no"}
    return LogEvent(**(given | fields))  # type: ignore[arg-type]


class OneSource:
    """A source partition whose records are fetched one by one."""

    def __init__(self, *filters: str, outputs: int = 1, condition: str = "count > threshold") -> None:
        self.rules = RuleSet.of(1, [rule(f"r{number}", condition, filter=each) for number, each in enumerate(filters)])
        self.source, self.outputs = SourcePartition.at(0, 0), outputs

    def fetch(self, *events: LogEvent, without: Sequence[str] = ()) -> None:
        value = LogBatch(events=events).SerializeToString()
        record = Record("log-events", 0, self.source.position, None, value, (), START * 1000)
        batch, _ = DECODER.decode([record])
        match_events(batch, self.rules, {0: self.source}, frozenset(self.rules.rules[each] for each in without))

    def counts(self) -> dict[str, int]:
        return {key.rule_id: each.counted for key, each in rows_of(self.source.blocks[0]).items() if each.counted}

    def flush(self) -> list[PartialBatch]:
        flushed = flush_sources([self.source], outputs=self.outputs, source_partitions=1, idle_ns={}, rules_revision=1)
        return [batch for _, batch in flushed]

    def sent(self) -> dict[str, tuple[int, int]]:
        """Return how many events each rule has counted by the next flush, and how many samples that brings."""
        rows = [row for batch in self.flush() for row in to_rows(expand(batch).rows)]
        return {row.key.rule_id: (row.aggregate.counted, len(row.aggregate.samples)) for row in rows}


def test_rules_that_select_the_same_write_one_row_for_each_group() -> None:
    source = OneSource(*(f'host != "other-{number}"' for number in range(300)))
    source.fetch(*(error(service=service) for service in "abc"))
    (batch,) = source.flush()
    assert len(batch.rows) == 3
    assert batch.rows.sharers.tolist() == [300, 300, 300]


def test_rules_of_another_bucketing_or_value_field_have_rows_of_their_own() -> None:
    rules = [
        rule("a", "count > 1"),
        rule("b", "count > 1", group_by=("host",)),
        rule("c", "sum > 1.0", value_field="status_code"),
    ]
    hits = {compiled: np.arange(3) for compiled in RuleSet.of(1, rules).rules.values()}
    assert [len(each.rules) for each in together(hits)] == [1, 1, 1]


def test_rules_are_together_where_their_events_are_equal() -> None:
    one, same, equal, other, none = RuleSet.of(1, [rule(name, "count > 1") for name in "abcde"]).rules.values()
    events = np.array([1, 2])
    hits = {
        one: events,
        same: events,
        equal: events.copy(),
        other: np.array([1, 3]),
        none: np.array([], dtype=np.int64),
    }
    assert [each.rules for each in together(hits)] == [[one, same, equal], [other]]


def test_a_fetch_that_distinguishes_rules_gives_each_its_own_count() -> None:
    source = OneSource("level >= ERROR", "level >= WARN", 'host != "h"')
    source.fetch(error(), error())
    assert source.sent() == {"r0": (2, 2), "r1": (2, 2), "r2": (2, 2)}
    source.fetch(error(host="h"), error(level=LogEvent.WARN, host="h"))
    assert source.counts() == {"r0": 3, "r1": 4, "r2": 2}
    # What did not change is not sent again, and neither are its samples.
    assert source.sent() == {"r0": (3, 3), "r1": (4, 3)}
    source.fetch(error())
    # All three have selected the same now, and have had different counts before.
    assert source.counts() == {"r0": 4, "r1": 5, "r2": 3}
    assert source.sent() == {"r0": (4, 0), "r1": (5, 0), "r2": (3, 3)}


def test_rows_that_are_shared_are_sent_beside_others() -> None:
    source = OneSource("level >= ERROR", "level >= WARN", "level >= ERROR", outputs=2)
    source.fetch(error(), error(level=LogEvent.WARN))
    assert source.sent() == {"r0": (1, 1), "r1": (2, 2), "r2": (1, 1)}


def test_what_is_not_sent_when_rules_part_is_sent_for_each_of_them() -> None:
    source = OneSource("level >= ERROR", "level >= WARN")
    source.fetch(error())
    source.fetch(error(level=LogEvent.WARN))
    assert source.sent() == {"r0": (1, 1), "r1": (2, 2)}


def test_the_rows_of_other_groups_are_sent_for_each_of_those_who_part_too() -> None:
    source = OneSource("level >= ERROR", "level >= WARN")
    source.fetch(error())
    source.fetch(error(level=LogEvent.WARN, service="b"))
    rows = [row.key for batch in source.flush() for row in to_rows(expand(batch).rows)]
    assert sorted((key.rule_id, *key.group) for key in rows) == [("r0", "a"), ("r1", "a"), ("r1", "b")]


def test_samples_that_were_sent_before_rules_parted_are_not_sent_again() -> None:
    source = OneSource("level >= ERROR", "level >= WARN")
    source.fetch(error(), error(), error())
    source.flush()
    source.fetch(error(level=LogEvent.WARN))
    assert source.sent() == {"r1": (4, 0)}


def test_totals_are_read_in_each_output_partition_in_which_a_rule_reads_them() -> None:
    source = OneSource("level >= ERROR", "level >= ERROR", outputs=16, condition="rate > threshold")
    source.fetch(error())
    totals = next(iter(source.rules.total_readers))
    read = [{row.key.rule_id for row in to_rows(expand(batch).rows)} for batch in source.flush()]
    judging = {partition_of(rule_id, ("a",), 16): rule_id for rule_id in ("r0", "r1")}
    assert {output: names for output, names in enumerate(read) if names} == {
        output: {rule_id, totals} for output, rule_id in judging.items()
    }


def test_a_rule_that_misses_a_fetch_does_not_count_what_the_others_count() -> None:
    source = OneSource("level >= ERROR", "level >= WARN")
    source.fetch(error())
    source.fetch(error(), without=["r0"])
    assert source.counts() == {"r0": 1, "r1": 2}


def test_rows_go_on_to_where_their_rules_are_judged_after_these_have_parted() -> None:
    source = OneSource("level >= ERROR", "level >= WARN", outputs=16)
    source.fetch(error())
    source.flush()
    source.fetch(error(level=LogEvent.WARN))
    source.fetch(error())
    rows = {output: to_rows(batch.rows) for output, batch in enumerate(source.flush()) if len(batch.rows)}
    assert {row.key.rule_id: output for output, (row,) in rows.items()} == {
        each: partition_of(each, ("a",), 16) for each in ("r0", "r1")
    }


def test_classes_are_split_only_where_rules_differ() -> None:
    classes, (a, b, c, d) = RowClasses(), [(name, 1) for name in "abcd"]
    assert classes.alone(("totals", 0), ["a", "b"]) == classes.alone(("totals", 0), ["a", "b"]) == 0
    assert classes.divide([(a, b, c)]) == ([[1]], [])
    assert classes.divide([(a, b, c), (d,)]) == ([[1], [2]], [])
    assert classes.divide([(c, d)]) == ([[3, 2]], [Split(1, 3)])
    assert classes.divide([(a,), (b,)]) == ([[4], [1]], [Split(1, 4)])
    assert classes.sharers == [(("totals", 0),), (b,), (d,), (c,), (a,)]
    assert classes.readers == [["a", "b"], ("b",), ("d",), ("c",), ("a",)]


def test_the_window_stage_reads_a_shared_row_as_one_of_each_rule() -> None:
    several = [rule(name, "count > threshold", threshold) for name, threshold in (("low", 2), ("high", 5), ("gone", 1))]
    driver = StageDriver.with_rules(*several)
    shared = replace(of_rows([row(3)]), selections=[tuple((name, 1) for name in ("low", "high", "gone"))])
    batch = PartialBatch.of_block(progress(0, 0, 1), shared)
    transitions = driver.process(replace(batch, output=partition_of("low", ("a",), 64), outputs=64)).transitions
    assert [each.rule_id for each in transitions] == ["low"]
    assert {each.rule_id for each in driver.process(batch).transitions} == {"gone"}


def test_lists_without_a_row_stand_for_nothing() -> None:
    rows = replace(of_rows([row(3)]), selections=[(("low", 1), ("high", 1))]).take(np.zeros(0, dtype=np.int64))
    batch = PartialBatch.of_block(progress(0, 0, 1), rows)
    assert not len(expand(batch).rows)
    assert not StageDriver.with_rules(rule("low", "count > threshold")).process(batch).transitions


def test_selections_that_are_forgotten_have_no_class_and_leave_the_others_theirs() -> None:
    classes = RowClasses()
    first, second, third = ((name, 1) for name in "abc")
    assert classes.divide([(first, second), (third,)]) == ([[0], [1]], [])
    assert classes.forget(frozenset({first, third, ("unknown", 1)})) == [1]
    assert (classes.sharers[:2], classes.readers[:2]) == ([(second,), ()], [("b",), ()])
    assert classes.divide([(second,), (first, third)]) == ([[0], [2]], [])
