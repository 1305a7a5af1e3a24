"""New rules of a tenant: only what it has in the current blocks is counted again, and the others' rows stay."""

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.chassis import telemetry
from services.evaluator.core.match.blocks import SourcePartition
from services.evaluator.core.records import BLOCK_RECORDS, Aggregate, RowKey, closing_key
from services.evaluator.core.rules import RuleSet
from services.evaluator.worker import match
from services.rule_language.rule import Rule
from tests.unit.evaluator.block_contents import rows_of
from tests.unit.evaluator.match_loop import Loop
from tests.unit.evaluator.pipeline import Chaos, Event, Pipeline, Window, rule
from tests.unit.evaluator.rows import to_rows
from tests.unit.evaluator.test_match_rules import by_rule, evaluated
from tocsin.logs.v1.log_event_pb2 import LogBatch, LogEvent

TENANTS = ("default", "acme")
FORMS: list[dict[str, object]] = [
    {"condition": "count > threshold"},
    {"condition": "rate > 0.5", "filter": "level >= FATAL"},
    {"condition": "rate > 0.9"},
    {"condition": "rate > 0.5", "scope": 'service != "b"', "filter": 'service == "a"'},
]


def rules_of(tenant: str, forms: frozenset[int]) -> list[Rule]:
    fields = {form: FORMS[form] for form in sorted(forms)}
    return [
        replace(rule(f"{tenant} {form}", **each), tenant=tenant)  # type: ignore[arg-type]
        for form, each in fields.items()
    ]


def rule_set(revision: int, default: frozenset[int], acme: frozenset[int]) -> RuleSet:
    return RuleSet.of(revision, [*rules_of("default", default), *rules_of("acme", acme)])


def content(source: SourcePartition, rules: RuleSet) -> dict[RowKey, Aggregate]:
    """Return the rows of the current blocks that these rules read."""
    keys = {each.selection_key for each in rules.rules.values()}
    keys |= {(each.bucketing_id, 0) for each in rules.rules.values()}
    return {
        key: aggregate
        for block in source.blocks
        for key, aggregate in rows_of(block).items()
        if key.selection in keys and aggregate.total
    }


forms = st.frozensets(st.integers(0, len(FORMS) - 1), max_size=3)
sets = st.lists(st.tuples(forms, forms), min_size=2, max_size=4)
appended = st.lists(
    st.tuples(st.sampled_from(TENANTS), st.sampled_from("abc"), st.sampled_from(["INFO", "ERROR", "FATAL"])),
    min_size=1,
    max_size=12,
)


@settings(deadline=None)
@example(
    events=[("acme", "a", "ERROR")] * 3,
    chosen=[(frozenset(), frozenset({0})), (frozenset(), frozenset({0, 2}))],
    most=1,
)
@given(events=appended, chosen=sets, most=st.integers(1, 4))
def test_blocks_come_to_what_the_last_rules_alone_make_of_them(
    events: list[tuple[str, str, str]], chosen: list[tuple[frozenset[int], frozenset[int]]], most: int
) -> None:
    pipeline = Pipeline(rule_set(1, *chosen[0]), inputs=1)
    for second, (tenant, service, level) in enumerate(events):
        pipeline.append(0, [Event(second, service, level)], tenant=tenant)
    matcher = pipeline.matcher()
    for revision, each in enumerate(chosen, start=1):
        use(pipeline, rule_set(revision, *each), [matcher], most)
        pipeline.match(matcher, 0, most)
        pipeline.flush(matcher)
    alone = Pipeline(pipeline.rules, inputs=1, log=pipeline.log)
    other = alone.matcher()
    alone.match(other, 0, matcher.positions[0])
    assert content(matcher.sources[0], pipeline.rules) == content(other.sources[0], pipeline.rules)


def use(pipeline: Pipeline, rules: RuleSet, matchers: list, most: int) -> None:  # type: ignore[type-arg]
    """Use new rules in these instances."""
    before, pipeline.rules = pipeline.rules, rules
    again = rules.selecting_more(before)
    # The names of what the rules select are others.
    pipeline.sent.clear()
    for matcher in matchers if again else ():
        for partition in matcher.sources:
            pipeline.match_again(matcher, partition, again, most)


BEFORE = rule_set(1, frozenset({0, 1}), frozenset({0, 2}))
AFTER = rule_set(2, frozenset({0, 1}), frozenset({0, 1, 3}))


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=True))
def test_crashes_and_two_owners_change_nothing_of_what_the_new_rules_count(random: Random) -> None:
    swapped = Pipeline(BEFORE)
    chaos = Chaos(swapped, random)
    for rules in (BEFORE, AFTER):
        use(swapped, rules, chaos.matchers, random.randint(1, 3))
        for output, window in ((output, each) for output, owners in chaos.windows.items() for each in owners):
            swapped.publish(output, window.stage.update_rules(rules, swapped.now_ns))
        for partition, event, tenant in some_events(random):
            swapped.append(partition, [event], tenant=tenant)
            for _ in range(random.randrange(4)):
                chaos.step()
    chaos.settle()
    alone = Pipeline(AFTER, log=swapped.log)
    expected = Chaos(alone, random)
    expected.settle()
    for output, owners in chaos.windows.items():
        for window in owners:
            assert shown(window) == shown(expected.windows[output][0])


def shown(window: Window) -> list[str]:
    return sorted(map(repr, window.content()))


def some_events(random: Random) -> Iterator[tuple[int, Event, str]]:
    for _ in range(random.randrange(15)):
        event = Event(random.randrange(9), random.choice("ab"), random.choice(("INFO", "ERROR", "FATAL")))
        yield random.randrange(3), event, random.choice(TENANTS)


def test_late_events_of_a_tenant_whose_rules_are_new_are_counted_once() -> None:
    pipeline = Pipeline(rule_set(1, frozenset({0}), frozenset({0})), inputs=1)
    matcher = pipeline.matcher()
    for tenant in TENANTS:
        pipeline.append(0, [Event(1), Event(2), Event(3, level="INFO")], arrival=100, tenant=tenant)
    pipeline.match(matcher, 0, 2)
    moment_ns = next(key.pane_ns for key in rows_of(matcher.sources[0].blocks[0]) if key.is_closing)
    wider = rule("wider", "count > threshold", filter="true", revision=2, selection_revision=2)
    rules = [*pipeline.rules.rules.values()]
    use(pipeline, RuleSet.of(2, [*(each.rule for each in rules), replace(wider, tenant="acme")]), [matcher], 1)
    rows = rows_of(matcher.sources[0].blocks[0])
    assert [rows[closing_key(moment_ns, tenant)].counted for tenant in TENANTS] == [2, 3]


def acme(*services: str, tenant: str = "acme") -> bytes:
    events = [LogEvent(service=each, level=LogEvent.ERROR) for each in services]
    return LogBatch(events=events, tenant=tenant).SerializeToString()


OWN = rule("own", "count > threshold")
THEIRS, ALSO = (replace(rule(name, "count > threshold"), tenant="acme") for name in ("theirs", "also"))
NEW = replace(ALSO, revision=2, selection_revision=2)
OTHERS = acme("a", tenant="")


def written(loop: Loop) -> dict[str, int]:
    """Return what the rules have counted according to the last flush."""
    _, batch = loop.partials.written[-1]
    return {row.key.rule_id: row.aggregate.counted for row in to_rows(batch.rows)}


async def test_of_a_tenant_s_new_rule_what_was_matched_is_counted_again_without_reading_it() -> None:
    loop = Loop(OWN, THEIRS)
    await loop.bring(OTHERS, acme("a", "a"), OTHERS, assigned=0)
    assert written(loop) == {"own": 2, "theirs": 2}
    loop.rules.current = RuleSet.of(2, [OWN, THEIRS, NEW])
    await loop.bring()
    assert loop.log.rewinds == []
    assert written(loop) == {"also": 2}
    progress = loop.partials.written[-1][1].blocks[0].progress
    assert (progress.previous_up_to, progress.up_to, progress.rules_revision) == (3, 3, 2)
    await loop.bring(acme("a"), OTHERS, first=3)
    assert written(loop) == {"own": 3, "theirs": 3, "also": 3}


async def test_what_is_counted_again_is_in_metrics_once() -> None:
    with telemetry.telemetry("test", "i", ""):
        loop = Loop(OWN, THEIRS)
        await loop.bring(OTHERS, acme("a"), assigned=0)
        await loop.bring(acme("a"), OTHERS, first=2, seconds=0)
        loop.rules.current = RuleSet.of(2, [OWN, THEIRS, NEW])
        loop.metrics.rules(loop.rules.current)
        await loop.bring()
        assert by_rule("events_matched_total") == {"own": 2, "theirs": 2, "also": 1}
        assert evaluated() == 4


async def test_a_rule_that_fails_when_records_are_matched_again_is_counted() -> None:
    with telemetry.telemetry("test", "i", ""):
        loop = Loop(OWN, THEIRS)
        await loop.bring(OTHERS, acme("a"), assigned=0)
        rules = RuleSet.of(2, [OWN, THEIRS, replace(NEW, scope='service == "a"')])
        object.__setattr__(rules.rules["also"], "scope", None)
        loop.rules.current = rules
        await loop.bring()
        assert "tocsin_evaluator_rules_failed_total 1.0" in telemetry.exposition()[0].decode()


async def test_records_are_read_again_where_they_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(match, "_MAX_KEPT_BYTES", len(acme("a")))
    loop = Loop(OWN, THEIRS)
    await loop.bring(acme("a"), acme("a"), assigned=0)
    loop.rules.current = RuleSet.of(2, [OWN, THEIRS, NEW])
    await loop.bring()
    assert loop.log.rewinds == [(0, 0)]
    await loop.bring(acme("a"), acme("a"))
    assert written(loop) == {"theirs": 2, "also": 2}


async def test_records_from_before_a_second_tenant_had_rules_are_read_again() -> None:
    loop = Loop(OWN)
    await loop.bring(acme("a"), OTHERS, assigned=0)
    loop.rules.current = RuleSet.of(2, [OWN, NEW])
    await loop.bring(seconds=6)
    assert loop.log.rewinds == [(0, 0)]


async def test_records_that_were_read_again_are_counted_again_once() -> None:
    loop = Loop(OWN, THEIRS)
    await loop.bring(acme("a"), OTHERS, assigned=0)
    loop.partials.failures = 1
    await loop.bring(acme("a"), first=2)
    assert loop.log.rewinds == [(0, 0)]
    await loop.bring(acme("a"), OTHERS, acme("a"), seconds=6)
    await loop.bring(acme("a"), OTHERS, acme("a"), assigned=0, revoked=True)
    loop.rules.current = RuleSet.of(2, [OWN, THEIRS, NEW])
    await loop.bring()
    assert len(loop.log.rewinds) == 1
    assert written(loop) == {"also": 2}


async def test_records_of_ended_blocks_are_not_kept() -> None:
    loop = Loop(OWN, THEIRS)
    await loop.bring(*[acme("a")] * (BLOCK_RECORDS + 1), assigned=0)
    loop.rules.current = RuleSet.of(2, [OWN, THEIRS, NEW])
    await loop.bring(seconds=6)
    assert written(loop) == {"also": 1}
