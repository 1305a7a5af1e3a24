"""Early flushes: rows that cost little go first, and nothing else changes."""

from dataclasses import replace

import numpy as np
import pytest

from services.chassis.kafka import Record
from services.evaluator.adapters.log_events import LogDecoder
from services.evaluator.core import records
from services.evaluator.core.match import early_flush
from services.evaluator.core.match.aggregation import match_events
from services.evaluator.core.match.blocks import SourcePartition, flush_sources
from services.evaluator.core.match.early_flush import early_units, flush_early
from services.evaluator.core.partial_rows import PartialBatch
from services.evaluator.core.rules import RuleSet
from tests.unit.evaluator.pipeline import START, Event, rule
from tests.unit.evaluator.rows import to_rows
from tocsin.logs.v1.log_event_pb2 import LogBatch

_ONE_SERVICE = 'service == "many-3"'
RULES = RuleSet.of(7, [replace(rule(each, "rate > threshold"), tenant=each) for each in ("many", "few")])


@pytest.fixture(autouse=True)
def _few_rows_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early_flush, "MANY_ROWS_SECONDS", 10 * 4e-6)


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


def of_one_tenant(condition: str) -> RuleSet:
    """Return a rule that selects all events, and one that selects those of one service."""
    return RuleSet.of(
        7, [replace(rule(each, condition), filter=text) for each, text in (("all", "true"), ("one", _ONE_SERVICE))]
    )


def fetched(rules: RuleSet) -> SourcePartition:
    """Return a source with a record of twenty services."""
    source = SourcePartition.at(0, 0)
    value = LogBatch(events=[Event(1.0, f"many-{each}").message() for each in range(20)]).SerializeToString()
    record = Record("log-events", 0, 0, None, value, (), START * 1000 + 5000)
    match_events(LogDecoder().decode([record])[0], rules, {0: source})
    return source


def rule_ids(flushed: list[tuple[int, PartialBatch]]) -> list[str]:
    return sorted({row.key.rule_id for _, batch in flushed for row in to_rows(batch.rows) if row.key.group})


def test_the_rows_of_a_rule_that_selects_little_go_before_those_of_one_that_selects_all() -> None:
    rules = of_one_tenant("count > threshold")
    source = fetched(rules)
    assert rule_ids(early(source, rules)) == ["one"]
    assert rule_ids(in_full(source)) == ["all"]


def test_rows_that_are_not_written_hold_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # The others cost 21 times 4 µs; nobody needs totals.
    monkeypatch.setattr(early_flush, "MANY_ROWS_SECONDS", 22 * 4e-6)
    rules = of_one_tenant("count > threshold")
    assert early(fetched(rules), rules) == []


def test_rules_that_are_judged_by_the_same_totals_go_together() -> None:
    rules = of_one_tenant("rate > threshold")
    assert early(fetched(rules), rules) == []


def test_rows_of_many_rules_count_as_often_as_they_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early_flush, "MANY_ROWS_SECONDS", 0.003)
    alike = [rule(f"all-{number}", "count > threshold") for number in range(100)]
    rules = RuleSet.of(7, [*alike, replace(rule("one", "count > threshold"), filter=_ONE_SERVICE)])
    assert rule_ids(early(fetched(rules), rules)) == ["one"]


A, B, C = 0, 1, 2
NOT_READ = (early_flush.NOBODY, 1.0)


@pytest.mark.parametrize(
    ("units", "first"),
    [
        pytest.param([(A, 3.0), (B, 100.0)], [0], id="a tenant with few rows"),
        pytest.param([(A, 3.0), (B, 4.0), (C, 100.0)], [0, 1], id="two tenants with few rows"),
        pytest.param([(A, 12.0), (B, 13.0), (C, 100.0)], [0], id="together they are too many beside the others"),
        pytest.param([(A, 1.0), (B, 9.0)], [], id="too few rows wait for them"),
        pytest.param([(A, 100.0)], [], id="nothing else waits"),
        pytest.param([(A, 3.0), (A, 100.0)], [0], id="of one tenant those that are few"),
        pytest.param([(A, 2.0), (A, 100.0), (B, 19.0)], [2], id="a tenant with few rows before part of another's"),
        pytest.param([(A, 100.0), (A, 2.0), (B, 3.0)], [1, 2], id="then part of another's"),
        pytest.param([NOT_READ, (A, 2.0), (B, 100.0)], [1], id="nobody's rows always wait"),
        pytest.param([NOT_READ], [], id="nobody's alone"),
        pytest.param([], [], id="nothing"),
    ],
)
def test_the_cheapest_rows_go_first_as_far_as_it_is_worth_it(units: list[tuple[int, float]], first: list[int]) -> None:
    tenant, cost_s = (np.array([each[place] for each in units], dtype=kind) for place, kind in ((0, int), (1, float)))
    assert np.flatnonzero(early_units(tenant, cost_s * 4e-6)).tolist() == first
