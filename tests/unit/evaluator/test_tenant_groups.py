"""A tenant with more groups than its limit: what is beyond it is counted in `~other`, and others notice nothing."""

from dataclasses import replace
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.domain.tenants import TenantLimits
from services.evaluator.core.records import SECOND_NS, Row
from services.evaluator.core.rules import RuleSet
from services.evaluator.core.window import judging
from services.evaluator.core.window.group_limit import UNLIMITED, GroupLimit
from services.evaluator.core.window.stage import WindowStage
from tests.unit.evaluator.pipeline import rule
from tests.unit.evaluator.stage_driver import COUNT, FRESH, StageDriver, row, scope_row
from tests.unit.evaluator.test_group_limit_law import Records, randoms, started

MORE = rule("more", "count > threshold")
FOREIGN = replace(rule("foreign", "count > threshold"), tenant="acme")
THREE = GroupLimit(of_tenants=TenantLimits.parse("3,acme=0"))


def rows(rule_id: str, groups: str, counted: int = 1, pane: int = 0) -> list[Row]:
    return [row(counted, pane, (group,), rule_id=rule_id) for group in groups]


def groups_of(stage: WindowStage) -> dict[str, int]:
    return dict(stage.windows.table.tenants.count(stage.windows.table.windows))


def test_all_rules_of_a_tenant_share_its_limit_and_other_tenants_notice_nothing() -> None:
    driver = StageDriver.with_rules(COUNT, MORE, FOREIGN, limit=THREE)
    first = driver.observe(*rows("count", "ab"), *rows("foreign", "abcdef"), event=1)
    assert first.beyond_limit == {}
    outcome = driver.observe(*rows("more", "abc"), *rows("foreign", "g"), event=2)
    assert outcome.beyond_limit == {"more": 2}
    assert outcome.limited_windows == (("more", 0, "TENANT"),)
    assert groups_of(driver.stage) == {"default": 3, "acme": 7}
    assert driver.flush(*rows("more", "abcd", 3), *rows("foreign", "abcdefg", 3), event=3) == [
        "FIRING a 0",
        "FIRING ~other/0 0",
        *(f"FIRING {group} 0" for group in "abcdefg"),
    ]
    assert [each.window.count for each in driver.transitions if each.rule_id == "more"] == [3, 9]


def test_a_window_that_begins_has_the_groups_of_the_one_before_and_no_more() -> None:
    driver = StageDriver.with_rules(COUNT, limit=THREE)
    assert driver.observe(*rows("count", "abc"), event=9).beyond_limit == {}
    outcome = driver.observe(*rows("count", "bcde", pane=10), event=11)
    assert outcome.beyond_limit == {"count": 1}
    assert groups_of(driver.stage)["default"] == 3


def test_a_window_that_refused_a_group_takes_no_others_and_the_next_one_does() -> None:
    driver = StageDriver.with_rules(COUNT, MORE, limit=THREE)
    driver.observe(*rows("more", "abc"), event=1)
    assert driver.observe(*rows("count", "x", pane=10), event=11).beyond_limit == {"count": 1}
    # The window of `more` closes.
    driver.observe(event=21)
    assert groups_of(driver.stage)["default"] == 0
    assert driver.observe(*rows("count", "y", pane=10), event=21).beyond_limit == {"count": 1}
    assert driver.observe(*rows("count", "xyzw", pane=20), event=21).beyond_limit == {"count": 1}


def test_a_group_with_an_alert_stays_and_counts() -> None:
    driver = StageDriver.with_rules(COUNT, MORE, limit=THREE)
    assert driver.flush(*rows("count", "z", 3), event=1) == ["FIRING z 0"]
    driver.observe(*rows("more", "abc", pane=10), event=11)
    driver.observe(event=15)
    assert driver.observe(*rows("count", "z", 3, pane=20), event=21).beyond_limit == {}


def test_a_group_with_an_alert_has_a_pane_also_in_a_window_that_refused_another() -> None:
    driver = StageDriver.with_rules(COUNT, limit=THREE)
    assert driver.flush(*rows("count", "z", 3), event=1) == ["FIRING z 0"]
    assert driver.observe(*rows("count", "abcd", pane=10), event=11).beyond_limit == {"count": 1}
    assert driver.observe(*rows("count", "ez", 3, pane=10), event=12).beyond_limit == {"count": 3}


def test_totals_of_a_group_that_a_rule_counts_have_a_pane_also_where_others_were_refused() -> None:
    rate = rule("count", "rate >= 0.5 && count > 2")
    driver = StageDriver.with_rules(rate, limit=GroupLimit(of_tenants=TenantLimits.parse("4")))
    driver.observe(*rows("count", "ab"), event=1)
    driver.observe(*[scope_row(1, rate, group=(group,)) for group in "xyz"], event=2)
    assert driver.flush(*rows("count", "a", 3), scope_row(5, rate), event=3) == ["FIRING a 0"]
    assert driver.transitions[-1].window.total == 5


def test_totals_count_like_a_rule_and_decide_for_their_readers() -> None:
    rate = rule("count", "rate >= 0.5 && count > 2")
    driver = StageDriver.with_rules(rate, limit=GroupLimit(of_tenants=TenantLimits.parse("4")))
    scopes = [scope_row(9, rate, group=(group,)) for group in "abcde"]
    outcome = driver.observe(*rows("count", "abe"), *scopes, event=1)
    assert outcome.beyond_limit == {"count": 1}
    assert outcome.limited_windows == (("count", 0, "TENANT"),)


def test_a_rule_that_is_not_known_yet_counts_once_it_is() -> None:
    driver = StageDriver.with_rules(limit=THREE, revision=0)
    driver.observe(*rows("count", "abcde"), event=1)
    assert groups_of(driver.stage) == {}
    driver.update_rules(COUNT)
    assert groups_of(driver.stage) == {"default": 5}
    # Whose the rows of a rule that is not known are is not known either.
    new = row(1, group=("q",), rule_id="new", selection_revision=9)
    assert driver.observe(new, event=1, rules=9).beyond_limit == {}
    assert driver.observe(*rows("count", "f"), event=1).beyond_limit == {"count": 1}


def test_each_partition_has_its_share_of_the_limit_and_at_least_one_group() -> None:
    limit = GroupLimit(partitions=4, of_tenants=TenantLimits.parse("10,small=2,free=0"))
    assert [limit.tenant_share(tenant) for tenant in ("any", "small", "free")] == [2, 1, UNLIMITED]
    assert not GroupLimit().limits_tenants


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(random=randoms, max_groups=st.integers(1, 12), is_resumed=st.booleans())
def test_nothing_is_lost_from_counts_and_little_is_beyond_what_a_tenant_may_have(
    random: Random, max_groups: int, *, is_resumed: bool
) -> None:
    rules = RuleSet.of(1, [rule(name, "count > threshold", 1e300) for name in ("plain", "second", "third")])
    limit = GroupLimit(of_tenants=TenantLimits(general=max_groups))
    records = Records(random, rules, limit).write(25)
    stage = started(rules, limit)
    position = random.randint(0, len(records.batches))
    whole, records.batches = records.batches, records.batches[:position]
    records.read(stage)
    if is_resumed:
        checkpoint = stage.checkpoint(0)
        stage = WindowStage.restored(checkpoint, (), SECOND_NS, snapshot=stage.snapshot(0), limit=limit)
        stage.update_rules(rules, 0)
    records.batches = whole
    records.read(stage, first=stage.position)
    stage.checkpoint(0)
    assert groups_of(stage).get("default", 0) <= max_groups
    for start_ns in records.starts:
        for compiled in rules.rules.values():
            windows = stage.windows.by_selection.get(compiled.selection_key)
            counted = sum(
                aggregate.counted
                for (_, _, key), aggregate in records.last.items()
                if key.rule_id == compiled.rule.id and key.pane_ns == start_ns
            )
            judged = judging.JudgedWindow(rules=windows, compiled=compiled, start_ns=start_ns) if windows else None
            panes = judging.all_panes(stage.windows.table, [judged] if judged else [])
            numbers = stage.windows.table.numbers(panes.slots, ("counted",))
            assert int(numbers["counted"].sum()) == counted


def test_only_windows_near_a_limit_and_what_they_share_totals_with_are_decided_group_by_group() -> None:
    rates = [rule(name, "rate >= 0.5 && count > 2") for name in ("rate", "share")]
    driver = StageDriver.with_rules(COUNT, FOREIGN, *rates, limit=THREE)
    driver.observe(*rows("count", "a"), *rows("foreign", "abcdef"), event=1)
    windows = driver.stage.windows
    of_rates = [*rows("rate", "a"), *rows("share", "a"), scope_row(9, rates[0])]
    found = [windows.window(each.key[:2], 0, 9, 0) for each in (*rows("count", "a"), *rows("foreign", "a"), *of_rates)]
    decided = [each.window.selection[0] for each in windows.admissions(found[:2], 3)]
    assert decided == ["count"]
    assert len(windows.admissions(found, 1)) == 0
    driver.observe(*rows("count", "bcd"), event=1)
    assert len(windows.admissions(found, 1)) == 4


def test_a_rule_that_is_not_known_has_its_own_limit_alone() -> None:
    driver = StageDriver.with_rules(COUNT, limit=GroupLimit(max_groups=1, of_tenants=TenantLimits.parse("3")))
    new = [row(1, group=(group,), rule_id="new", selection_revision=9) for group in "ab"]
    assert driver.observe(*new, event=1, rules=9).beyond_limit == {"new": 1}


def test_a_closed_window_of_a_snapshot_keeps_what_is_beyond_its_limit_and_limits_nothing() -> None:
    driver = StageDriver.with_rules(COUNT, limit=THREE)
    driver.observe(*rows("count", "abcd"), event=1)
    driver.observe(event=25)
    snapshot = driver.stage.snapshot(0)
    again = WindowStage.restored(FRESH, (), SECOND_NS, snapshot=snapshot, limit=THREE)
    again.update_rules(RuleSet.of(1, [COUNT]), 0)
    assert any(entry is not None and entry.overflow_of for entry in snapshot.table.windows)
    assert again.windows.table.windows.panes.room > 0
