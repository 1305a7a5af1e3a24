"""Early flushes: the rows of tenants with few of them go first, and nothing else changes."""

from dataclasses import replace

import pytest

from services.chassis.kafka import Record
from services.evaluator.adapters.log_events import LogDecoder
from services.evaluator.core import records
from services.evaluator.core.match import early_flush
from services.evaluator.core.match.aggregation import match_events
from services.evaluator.core.match.blocks import SourcePartition, flush_sources
from services.evaluator.core.match.early_flush import early_tenants, flush_early
from services.evaluator.core.partial_rows import PartialBatch
from services.evaluator.core.rules import RuleSet
from tests.unit.evaluator.pipeline import START, Event, rule
from tests.unit.evaluator.rows import to_rows
from tocsin.logs.v1.log_event_pb2 import LogBatch

RULES = RuleSet.of(7, [replace(rule(each, "rate > threshold"), tenant=each) for each in ("many", "few")])


@pytest.fixture(autouse=True)
def _few_rows_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early_flush, "MANY_ROWS", 10)


def counted(rules: RuleSet = RULES, few: int = 1) -> SourcePartition:
    """Return a source with a record of ten services of one tenant, and one of `few` services of the other."""
    source = SourcePartition.at(0, 0)
    values = [
        LogBatch(events=[Event(1.0, f"{tenant}-{each}").message() for each in range(services)], tenant=tenant)
        for tenant, services in (("many", 10), ("few", few))
    ]
    fetched = [
        Record("log-events", 0, offset, None, value.SerializeToString(), (), START * 1000 + 5000)
        for offset, value in enumerate(values)
    ]
    match_events(LogDecoder().decode(fetched)[0], rules, {0: source})
    return source


def early(source: SourcePartition, rules: RuleSet = RULES) -> list[tuple[int, PartialBatch]]:
    return flush_early([source], rules, outputs=2, source_partitions=1)


def in_full(source: SourcePartition) -> list[tuple[int, PartialBatch]]:
    return flush_sources([source], outputs=2, source_partitions=1, idle_ns={}, rules_revision=7)


def groups(flushed: list[tuple[int, PartialBatch]]) -> list[tuple[str, bool]]:
    """Return the groups of the rows of tenants, and whether it is the row of totals."""
    rows = [row for _, batch in flushed for row in to_rows(batch.rows)]
    return sorted((row.key.group[0], row.key.rule_id not in RULES.rules) for row in rows if row.key.group)


def test_rows_of_a_tenant_with_few_of_them_go_first_with_their_totals_and_the_others_afterwards() -> None:
    source = counted()
    assert groups(early(source)) == [("few-0", False), ("few-0", True)]
    later = groups(in_full(source))
    assert {group for group, _ in later} == {f"many-{number}" for number in range(10)}
    assert len(later) == 20
    assert in_full(source) == []


def test_every_output_partition_is_told_and_the_next_flush_follows_on_the_early_one() -> None:
    source = counted()
    first = [(output, each.blocks[0].progress) for output, each in early(source)]
    assert [(output, each.previous_up_to, each.up_to, each.rules_revision) for output, each in first] == [
        (0, 0, 2, 7),
        (1, 0, 2, 7),
    ]
    assert {each.blocks[0].progress.previous_up_to for _, each in in_full(source)} == {2}


def test_an_early_flush_moves_no_time_and_does_not_count_as_sent() -> None:
    source = counted()
    (_, batch), _ = early(source)
    assert batch.blocks[0].progress.max_event_ns is None
    assert (source.sent_up_to, source.has_unflushed_records) == (0, True)
    assert source.again(0).flush_from == 2
    assert in_full(source)[0][1].blocks[0].progress.max_event_ns is not None
    assert source.sent_up_to == 2


def test_nothing_goes_early_of_a_block_that_is_complete_or_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "BLOCK_RECORDS", 2)
    assert early(counted()) == []
    source = counted()
    source.add_record(2, 0)
    assert early(source) == []


def test_nothing_goes_early_before_the_offset_is_reached_to_which_a_flush_came_before() -> None:
    source = counted()
    source.flush_from = 3
    assert early(source) == []


def test_rows_whose_rules_are_gone_wait() -> None:
    source = counted()
    assert early(source, RuleSet.of(8, [RULES.rules["many"].rule])) == []


@pytest.mark.parametrize(
    ("rows", "first"),
    [
        ({"a": 3, "b": 100}, {"a"}),
        ({"a": 3, "b": 4, "c": 100}, {"a", "b"}),
        # Together they are too many beside the others.
        ({"a": 12, "b": 13, "c": 100}, {"a"}),
        # Too few rows wait for them.
        ({"a": 1, "b": 9}, set[str]()),
        ({"a": 100}, set[str]()),
        # Nobody's rows always wait.
        ({"": 1, "a": 2, "b": 100}, {"a"}),
        ({}, set[str]()),
    ],
)
def test_tenants_with_the_fewest_rows_go_first_as_far_as_it_is_worth_it(rows: dict[str, int], first: set[str]) -> None:
    assert early_tenants(rows) == first
