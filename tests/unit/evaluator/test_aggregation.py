"""Matching: the rows of a block depend on its records alone, not on how they were fetched."""

from collections import Counter, defaultdict
from dataclasses import replace
from random import Random
from typing import NoReturn

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.chassis.kafka import Record
from services.evaluator.adapters.log_events import LogDecoder
from services.evaluator.core.match import aggregation
from services.evaluator.core.match.aggregation import match_events
from services.evaluator.core.match.blocks import Block, SourcePartition, flush_sources
from services.evaluator.core.match.bucketing import compact, first_of_each
from services.evaluator.core.records import SECOND_NS, Aggregate, RowKey, totals_key
from services.evaluator.core.rules import RuleSet
from services.rule_language.checking import Expression, check_filter
from tests.unit.evaluator.block_contents import rows_of
from tests.unit.evaluator.pipeline import START, rule
from tests.unit.evaluator.rows import to_rows
from tocsin.logs.v1.log_event_pb2 import LogBatch, LogEvent

RULES = RuleSet.of(
    1,
    [
        rule("plain", "count > threshold"),
        rule("scoped", "rate > threshold", scope='service != "b"', group_by=("service", "attributes.zone")),
        rule("wide", "total > threshold", scope='service != "b"', group_by=("service",)),
        rule("coded", "max > threshold", filter="status_code >= 500", value_field="status_code", group_by=("host",)),
        rule("none", "count > threshold", filter='message.contains("never")'),
    ],
)
DECODER = LogDecoder()
randoms = st.randoms(use_true_random=True)


def random_event(random: Random) -> LogEvent:
    event = LogEvent(
        service=random.choice("abc"),
        level=LogEvent.Level.ValueType(random.randint(1, 6)),
        message="m" * random.choice((1, 2000)),
        host=random.choice(("", "h")),
        trace_id=random.choice(("", "ab" * 16)),
        attributes=random.choice(({}, {"zone": "z"})),
    )
    if random.random() < 0.7:
        event.event_time.FromNanoseconds((START + random.randrange(40)) * SECOND_NS)
    if random.random() < 0.5:
        event.status_code = random.choice((200, 500, 503))
    if random.random() < 0.5:
        event.response_time = random.choice((0.1, 0.7, 1e17, float("-inf"), float("inf")))
    return event


def random_records(random: Random) -> list[Record]:
    records = []
    for partition in (0, 1):
        first = random.choice((0, 250))
        for offset in range(first, first + random.randrange(12)):
            batch = LogBatch(events=[random_event(random) for _ in range(random.randrange(6))])
            trace = [("traceparent", f"00-{offset:032x}-{1:016x}-01".encode())] if random.random() < 0.5 else ()
            value = batch.SerializeToString()
            records.append(Record("log-events", partition, offset, None, value, trace, START * 1000 + offset))
    return records


def matched(records: list[Record], cuts: list[int]) -> dict[int, dict[int, dict[RowKey, Aggregate]]]:
    """Return rows and totals by partition and block, after fetching the records cut at these places."""
    starts = {each.partition: each.offset for each in reversed(records)}
    sources = {partition: SourcePartition.at(partition, offset) for partition, offset in starts.items()}
    for first, end in zip([0, *cuts], [*cuts, len(records)], strict=True):
        batch, _ = DECODER.decode(records[first:end])
        match_events(batch, RULES, sources)
    return {source.partition: {each.number: rows_of(each) for each in source.blocks} for source in sources.values()}


def naive(records: list[Record]) -> dict[int, dict[int, dict[RowKey, tuple[int, int]]]]:
    """Count selected and counted events one by one."""
    counts: dict[int, dict[int, dict[RowKey, tuple[int, int]]]] = defaultdict(lambda: defaultdict(dict))
    for record in records:
        for event in LogBatch.FromString(record.value).events:
            zone = event.attributes.get("zone", "")
            error = event.level >= LogEvent.ERROR
            rows = [
                ("plain", True, (event.service,), error),
                ("scoped", event.service != "b", (event.service, zone), error),
                ("wide", event.service != "b", (event.service,), error),
                ("coded", True, (event.host,), event.status_code >= 500),
                ("none", True, (event.service,), False),
            ]
            happened = event.event_time.seconds if event.HasField("event_time") else record.timestamp_ms // 1000
            pane_ns = happened // 10 * 10 * SECOND_NS
            block = counts[record.partition][record.offset // 256]
            selecting = {(RULES.rules[each[0]].bucketing_id, each[2]) for each in rows if each[1]}
            for bucketing_id, group in selecting:
                key = totals_key(bucketing_id, group, pane_ns)
                block[key] = 0, block.get(key, (0, 0))[1] + 1
            for rule_id, is_selected, group, is_counted in rows:
                if is_selected and is_counted:
                    key = RowKey(rule_id, 1, group, pane_ns)
                    total = block[totals_key(RULES.rules[rule_id].bucketing_id, group, pane_ns)][1]
                    block[key] = block.get(key, (0, 0))[0] + 1, total
    return {partition: dict(blocks) for partition, blocks in counts.items()}


@settings(max_examples=60, deadline=None)
@given(randoms)
def test_where_fetches_are_cut_does_not_matter(random: Random) -> None:
    records = random_records(random)
    cuts = sorted(random.sample(range(len(records) + 1), min(4, len(records))))
    assert matched(records, cuts) == matched(records, [])


@settings(max_examples=60, deadline=None)
@given(randoms)
def test_columns_count_the_same_as_a_loop_over_the_events(random: Random) -> None:
    records = random_records(random)
    counts = {
        partition: {
            number: {key: (aggregate.counted, aggregate.total) for key, aggregate in rows.items()}
            for number, rows in blocks.items()
            if rows
        }
        for partition, blocks in matched(records, []).items()
    }
    assert {partition: blocks for partition, blocks in counts.items() if blocks} == naive(records)


def one_block(*events: LogEvent, trace: str = "", arrival_s: int = START) -> Block:
    headers = [("traceparent", trace.encode())] if trace else ()
    value = LogBatch(events=events).SerializeToString()
    batch, _ = DECODER.decode([Record("log-events", 0, 0, None, value, headers, arrival_s * 1000)])
    source = SourcePartition.at(0, 0)
    match_events(batch, RULES, {0: source})
    return source.blocks[0]


def plain(block: Block, service: str = "a") -> Aggregate:
    (aggregate,) = [
        aggregate for key, aggregate in rows_of(block).items() if key.rule_id == "plain" and key.group == (service,)
    ]
    return aggregate


def error(**fields: object) -> LogEvent:
    given: dict[str, object] = {"service": "a", "level": LogEvent.ERROR, "message": "no"}
    return LogEvent(**(given | fields))  # type: ignore[arg-type]


def test_the_first_three_counted_events_are_kept_as_samples() -> None:
    infos = [error(level=LogEvent.INFO, message="fine") for _ in range(2)]
    aggregate = plain(one_block(*infos, *(error(message=f"no {number}") for number in range(5))))
    assert [sample.message for sample in aggregate.samples] == ["no 0", "no 1", "no 2"]
    assert (aggregate.counted, aggregate.total) == (5, 7)


def test_a_sample_names_its_own_trace_never_that_of_its_sender() -> None:
    trace = f"00-{'1' * 32}-{'2' * 16}-01"
    aggregate = plain(one_block(error(trace_id="a" * 32), error(), trace=trace))
    assert [sample.trace_id for sample in aggregate.samples] == ["a" * 32, ""]
    assert aggregate.traceparent == trace


def test_a_sample_keeps_its_attributes() -> None:
    aggregate = plain(one_block(error(attributes={"user.tier": "silver", "a": "", "path": "/é"}), error()))
    first, second = aggregate.samples
    assert first.attributes == (("a", ""), ("path", "/é"), ("user.tier", "silver"))
    assert second.attributes == ()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({f"{number:02d}": "x" for number in range(40)}, [(f"{number:02d}", "x") for number in range(16)]),
        ({"long": "x" * 1024, "z": "y"}, [("long", "x" * 256), ("z", "y")]),
        ({f"{number:02d}": "x" * 256 for number in range(16)}, [(f"{number:02d}", "x" * 256) for number in range(7)]),
    ],
    ids=["number", "value", "all"],
)
def test_the_attributes_of_a_sample_are_bounded(given: dict[str, str], kept: list[tuple[str, str]]) -> None:
    (sample,) = plain(one_block(error(attributes=given))).samples
    assert list(sample.attributes) == kept


def test_an_event_without_a_time_happened_when_it_arrived() -> None:
    aggregate = plain(one_block(error(), arrival_s=START + 7))
    assert aggregate.last_event_ns == (START + 7) * SECOND_NS


def test_the_source_is_never_ahead_of_arrival() -> None:
    ahead = error()
    ahead.event_time.FromSeconds(START + 500)
    assert one_block(ahead, arrival_s=START).max_event_ns == START * SECOND_NS


@pytest.mark.parametrize("second", [-62_135_596_800, 253_402_300_799])
def test_the_first_and_last_moments_of_a_timestamp_are_counted(second: int) -> None:
    event = error()
    event.event_time.FromSeconds(second)
    assert plain(one_block(event)).counted == 1


def test_a_record_that_cannot_be_decoded_counts_as_read_and_empty() -> None:
    good = LogBatch(events=[error()]).SerializeToString()
    records = [Record("log-events", 0, n, None, v, (), START * 1000) for n, v in enumerate([good, b"\xff", good])]
    batch, unreadable = DECODER.decode(records)
    source = SourcePartition.at(0, 0)
    match_events(batch, RULES, {0: source})
    assert [each.record.offset for each in unreadable] == [1]
    assert (source.position, plain(source.blocks[0]).counted) == (3, 2)


def test_offsets_must_rise() -> None:
    source = SourcePartition.at(0, 5)
    with pytest.raises(ValueError, match="offset 4"):
        source.add_record(4, 0)


def test_many_groups_are_found_by_sorting() -> None:
    events = [error(service=f"service-{number}") for number in range(1500)]
    spread = [error(service=f"service-{number}") for number in range(1500)]
    for number, event in enumerate(spread):
        event.event_time.FromSeconds(START - number * 10)
    block = one_block(*events, *spread)
    assert sum(aggregate.counted for key, aggregate in rows_of(block).items() if key.rule_id == "plain") == 3000


def test_a_rule_that_fails_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> NoReturn:
        raise RuntimeError("no")

    monkeypatch.setattr(Expression, "part", crash)
    good, bad = (
        RULES.rules["plain"],
        replace(RULES.rules["scoped"], expressions=(check_filter("size(attributes) < 9"),)),
    )
    rules = RuleSet(revision=1, rules={"bad": bad, "good": good})
    value = LogBatch(events=[error()]).SerializeToString()
    batch, _ = DECODER.decode([Record("log-events", 0, 0, None, value, (), START * 1000)])
    source = SourcePartition.at(0, 0)
    failed = match_events(batch, rules, {0: source}).failed
    assert list(failed) == [bad]
    assert plain(source.blocks[0]).counted == 1
    ((_, sent),) = flush_sources([source], outputs=1, source_partitions=1, idle_ns={}, rules_revision=1)
    assert sent.blocks[0].missed == {bad.selection_key: [START // 60 * 60 * SECOND_NS]}


def test_a_rule_that_cannot_be_grouped_does_not_stop_the_others() -> None:
    good, bad = RULES.rules["plain"], RULES.rules["wide"]
    bad = replace(bad, rule=replace(bad.rule, group_by=("unknown",)), bucketing_id="unknown")
    value = LogBatch(events=[error()]).SerializeToString()
    batch, _ = DECODER.decode([Record("log-events", 0, 0, None, value, (), START * 1000)])
    rules = RuleSet(revision=1, rules={"bad": bad, "good": good})
    outcome = match_events(batch, rules, {0: SourcePartition.at(0, 0)})
    assert list(outcome.failed) == [bad]
    assert outcome.selected == {"plain": 1}


def test_a_rule_whose_scope_fails_does_not_stop_the_others() -> None:
    def crash(*_: object) -> NoReturn:
        raise RuntimeError("no")

    good, bad = RULES.rules["plain"], replace(RULES.rules["scoped"], scope=crash)
    rules = RuleSet(revision=1, rules={"bad": bad, "good": good})
    value = LogBatch(events=[error()]).SerializeToString()
    batch, _ = DECODER.decode([Record("log-events", 0, 0, None, value, (), START * 1000)])
    source = SourcePartition.at(0, 0)
    assert list(match_events(batch, rules, {0: source}).failed) == [bad]
    assert {key.rule_id for key in rows_of(source.blocks[0])} == {"plain", good.bucketing_id}


def test_how_many_events_are_added_at_once_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    records = random_records(Random(1))  # noqa: S311  (the same each time)
    at_once = matched(records, [2])
    monkeypatch.setattr(aggregation, "_HITS_AT_ONCE", 1)
    assert matched(records, [2]) == at_once


def test_lengths_must_fit_the_events() -> None:
    batch, _ = DECODER.decode([])
    with pytest.raises(ValueError, match="lengths"):
        replace(batch, lengths=np.array([1]))


def test_a_row_with_three_samples_gets_no_more_from_a_later_fetch() -> None:
    def record(offset: int, *messages: str) -> Record:
        value = LogBatch(events=[error(message=message) for message in messages]).SerializeToString()
        return Record("log-events", 0, offset, None, value, (), START * 1000)

    blocks = matched([record(0, "one", "two", "three"), record(1, "four")], [1])[0]
    (aggregate,) = [aggregate for key, aggregate in blocks[0].items() if key.rule_id == "plain"]
    assert aggregate.counted == 4
    assert [sample.message for sample in aggregate.samples] == ["one", "two", "three"]


def test_nothing_is_chosen_where_nothing_is_wanted() -> None:
    assert first_of_each(np.array([0, 1, 0]), np.array([0, 0])).tolist() == []
    assert first_of_each(np.array([0, 1, 0]), np.array([1, 0])).tolist() == [0]


def test_codes_far_apart_are_compacted_like_close_ones() -> None:
    for code in (7, 10**9):
        present, index, counts = compact(np.array([code, 0, code]))
        assert (present.tolist(), index.tolist(), counts.tolist()) == ([0, code], [1, 0, 1], [1, 2])


def test_a_scope_that_no_event_is_in_counts_nothing() -> None:
    block = one_block(error(service="b"))
    totals = {RULES.rules[name].bucketing_id for name in ("plain", "coded")}
    assert {key.rule_id for key in rows_of(block)} == {"plain"} | totals


def flushed(rules: RuleSet, *events: LogEvent) -> Counter[str]:
    """Count the rows that a flush of these events writes, by rule or bucketing."""
    value = LogBatch(events=events).SerializeToString()
    batch, _ = DECODER.decode([Record("log-events", 0, 0, None, value, (), START * 1000)])
    source = SourcePartition.at(0, 0)
    match_events(batch, rules, {0: source})
    batches = flush_sources([source], outputs=4, source_partitions=1, idle_ns={}, rules_revision=1)
    return Counter(row.key.rule_id for _, batch in batches for row in to_rows(batch.rows))


FIVE_SERVICES = [error(service=service) for service in "abcde"]


def test_rules_that_select_nothing_write_nothing() -> None:
    silent = [rule(f"silent-{n}", "count > threshold", filter=f'message.contains("{n}")') for n in range(30)]
    loud = rule("loud", "count > threshold")
    assert flushed(RuleSet.of(1, [*silent, loud]), *FIVE_SERVICES) == {"loud": 5}


@pytest.mark.parametrize("condition", ["rate > 0.1", "total > 5", "count < 3", "count == 0", "!(count > 0)"])
def test_totals_are_written_once_for_all_rules_of_a_bucketing(condition: str) -> None:
    rules = RuleSet.of(1, [rule(f"r{n}", condition, filter=f'message.contains("{n}")') for n in range(30)])
    written = flushed(rules, *FIVE_SERVICES)
    assert set(written) == {rules.rules["r0"].bucketing_id}
    # At most once for each partition in which a rule's group is judged.
    assert 5 <= written.total() <= 5 * 4
    one = RuleSet.of(1, [rule("r", condition, filter='message.contains("x")')])
    assert flushed(one, *FIVE_SERVICES).total() == 5
