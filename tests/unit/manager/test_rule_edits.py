"""What edits make of rules."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.severity import Severity
from services.manager.core.rule_edits import CHANGEABLE_FIELDS, counts_afresh, create, edit, is_unchanged, merge
from services.manager.worker.default_rules import DEFAULT_RULES
from services.rule_language.rule import Draft, Rule, RuleType, complete
from tests.fakes.transitions import NOW


def rule(**said: Any) -> Rule:
    given = {
        "name": "a rule",
        "type": RuleType.ERROR_THRESHOLD,
        "threshold": 5.0,
        "window_minutes": 5,
        "severity": Severity.HIGH,
    }
    return complete(Draft(**{**given, **said}))


GIVEN = Draft(
    name="another",
    description="given",
    type=RuleType.ERROR_RATE,
    scope='service == "a"',
    filter="level >= WARN",
    group_by=("host",),
    value_field="status_code",
    condition="count > 1",
    threshold=1.0,
    window_minutes=7,
    lateness=timedelta(seconds=1),
    severity=Severity.LOW,
    labels={"a": "b"},
    enabled=False,
)


def test_only_the_fields_that_are_meant_change() -> None:
    kept = rule(description="kept")
    after = complete(merge(kept, GIVEN, {"threshold", "labels"}))
    assert after == replace(kept, threshold=1.0, labels={"a": "b"})


def test_either_way_to_say_the_window_replaces_the_other() -> None:
    assert complete(merge(rule(), GIVEN, {"window_minutes"})).window == timedelta(minutes=7)
    seconds = replace(GIVEN, window_minutes=None, window=timedelta(seconds=42))
    assert complete(merge(rule(), seconds, {"window"})).window == timedelta(seconds=42)


def test_another_type_brings_its_presets_but_keeps_what_was_said() -> None:
    slow = replace(GIVEN, type=RuleType.LATENCY_THRESHOLD)
    by_preset = complete(merge(rule(), slow, {"type"}))
    assert by_preset.filter == rule(type=RuleType.LATENCY_THRESHOLD).filter
    own = complete(merge(rule(filter="level >= FATAL"), slow, {"type"}))
    assert own.filter == "level >= FATAL"
    custom = rule(type=RuleType.CUSTOM, filter="level >= FATAL", condition="count > 2")
    assert complete(merge(custom, slow, {"type"})).filter == "level >= FATAL"


@given(st.sets(st.sampled_from(sorted(CHANGEABLE_FIELDS - {"window"}))))
def test_applying_an_update_twice_equals_once(fields: set[str]) -> None:
    once = complete(merge(rule(), GIVEN, fields))
    assert complete(merge(once, GIVEN, fields)) == once
    assert is_unchanged(once, complete(merge(once, GIVEN, fields)))


def test_a_new_rule_counts_from_its_first_revision() -> None:
    kept = create(rule(), "id", 7, now=NOW)
    assert (kept.rule.id, kept.rule.revision, kept.rule.selection_revision) == ("id", 7, 7)
    assert kept.create_time == kept.update_time == NOW


@pytest.mark.parametrize(
    ("change", "is_fresh"),
    [
        pytest.param({"threshold": 9.0}, False, id="threshold"),
        pytest.param({"name": "other", "severity": Severity.LOW}, False, id="text and severity"),
        pytest.param({"filter": "level >= WARN"}, True, id="filter"),
        pytest.param({"window": timedelta(minutes=1)}, True, id="window"),
        pytest.param({"enabled": False}, False, id="switched off"),
    ],
)
def test_counting_begins_afresh_when_the_selection_changed(change: dict[str, Any], *, is_fresh: bool) -> None:
    kept = create(rule(), "id", 7, now=NOW)
    later = NOW + timedelta(hours=1)
    changed = replace(kept.rule, **change)
    assert counts_afresh(kept.rule, changed) == is_fresh
    after = edit(kept, changed, 8, is_fresh=is_fresh, now=later)
    assert after.rule.revision == 8
    assert after.rule.selection_revision == (8 if is_fresh else 7)
    assert (after.create_time, after.update_time) == (NOW, later)
    assert after.etag != kept.etag


def test_counting_begins_afresh_when_it_was_switched_on_again() -> None:
    off = edit(create(rule(), "id", 1, now=NOW), replace(rule(), enabled=False), 2, is_fresh=False, now=NOW)
    assert counts_afresh(off.rule, replace(off.rule, enabled=True))
    on = edit(off, replace(off.rule, enabled=True), 3, is_fresh=True, now=NOW)
    assert on.rule.selection_revision == 3
    assert replace(on.rule, enabled=True) == on.rule


def test_the_default_rules_are_allowed() -> None:
    found = [complete(draft) for draft in DEFAULT_RULES]
    assert [each.threshold for each in found] == [100, 50, 25]
    assert {each.group_by for each in found} == {("service",)}
    assert {each.window for each in found} == {timedelta(minutes=5)}
    assert "2000" in found[1].filter


def test_who_wrote_a_rule_down_when_is_no_part_of_what_it_says() -> None:
    kept = replace(rule(), id="r", revision=7, selection_revision=3)
    assert is_unchanged(kept, rule())
    assert not is_unchanged(kept, rule(threshold=6.0))
