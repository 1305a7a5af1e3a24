"""A rule counts the events of its own tenant, and no others."""

from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from services.chassis.kafka import Record
from services.evaluator.adapters.log_events import LogDecoder
from services.evaluator.core.match.aggregation import match_events
from services.evaluator.core.match.blocks import SourcePartition
from services.evaluator.core.records import Aggregate, RowKey, closing_key
from services.evaluator.core.rules import RuleSet
from services.rule_language.rule import Rule
from tests.unit.evaluator.block_contents import rows_of
from tests.unit.evaluator.pipeline import START, Event, rule
from tests.unit.evaluator.test_aggregation import random_event
from tocsin.logs.v1.log_event_pb2 import LogBatch

DECODER = LogDecoder()
TENANTS = ("default", "acme", "other")
CLOSINGS = closing_key(0).rule_id


def rules_of(tenant: str) -> list[Rule]:
    plain = rule(f"plain {tenant}", "count > threshold")
    scoped = rule(f"scoped {tenant}", "rate > threshold", scope='service != "b"', group_by=("service",))
    return [replace(each, tenant=tenant) for each in (plain, scoped)]


RULES = [each for tenant in TENANTS[:2] for each in rules_of(tenant)]


def counted(records: list[Record], rules: list[Rule], size: int) -> tuple[dict[RowKey, Aggregate], set[str]]:
    """Return the rows of one partition, fetched so many records at once, and the rules that selected something."""
    source, selected = SourcePartition.at(0, 0), set[str]()
    compiled = RuleSet.of(1, rules)
    for first in range(0, len(records), size):
        batch, _ = DECODER.decode(records[first : first + size])
        outcome = match_events(batch, compiled, {0: source})
        selected |= {rule_id for rule_id, count in outcome.selected.items() if count}
    rows = {key: each for block in source.blocks for key, each in rows_of(block).items() if key.rule_id != CLOSINGS}
    return rows, selected


def record(offset: int, tenant: str, random: Random, *, is_empty: bool = False) -> Record:
    events = [random_event(random) for _ in range(random.randrange(4))]
    batch = LogBatch(events=[] if is_empty else events, tenant="" if tenant == "default" else tenant)
    return Record("log-events", 0, offset, None, batch.SerializeToString(), (), (START + offset) * 1000)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(TENANTS), min_size=1, max_size=8), st.integers(1, 8), st.integers(0, 2**32))
def test_events_of_several_tenants_are_counted_as_if_each_tenant_were_alone(
    tenants: list[str], size: int, seed: int
) -> None:
    def records(shown: str = "") -> list[Record]:
        random = Random(seed)  # noqa: S311  (chosen events)
        return [
            record(offset, tenant, random, is_empty=shown not in {"", tenant}) for offset, tenant in enumerate(tenants)
        ]

    together, selected = counted(records(), RULES, size)
    alone = [counted(records(tenant), rules_of(tenant), size) for tenant in TENANTS[:2]]
    assert together == {key: each for rows, _ in alone for key, each in rows.items()}
    assert selected == {rule_id for _, found in alone for rule_id in found}


def test_rules_of_tenants_share_no_totals() -> None:
    first, second = (RuleSet.of(1, rules_of(tenant)) for tenant in TENANTS[:2])
    ids = [{each.bucketing_id for each in rules.rules.values()} for rules in (first, second)]
    assert ids[0].isdisjoint(ids[1])
    assert RuleSet.of(1, RULES).tenants.keys() == {"default", "acme"}


def test_of_a_fetch_with_events_of_two_tenants_each_rule_counts_its_own() -> None:
    def fetched(offset: int, tenant: str, services: str) -> Record:
        events = [Event(second=offset, service=service).message() for service in services]
        value = LogBatch(events=events, tenant=tenant).SerializeToString()
        return Record("log-events", 0, offset, None, value, (), (START + offset) * 1000)

    rows, selected = counted([fetched(0, "", "aab"), fetched(1, "acme", "ac")], RULES, 2)
    assert selected == {each.id for each in RULES}
    of_plain = {(key.rule_id, key.group): each.counted for key, each in rows.items() if key.rule_id.startswith("plain")}
    assert of_plain == {
        ("plain default", ("a",)): 2,
        ("plain default", ("b",)): 1,
        ("plain acme", ("a",)): 1,
        ("plain acme", ("c",)): 1,
    }
