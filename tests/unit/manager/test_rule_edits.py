"""What edits make of rules, and which fields an update changes."""

from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.severity import Severity
from services.manager.core.rule_edits import (
    CHANGEABLE_FIELDS,
    SERVER_FIELDS,
    UpdateMaskError,
    counts_afresh,
    create,
    edit,
    is_unchanged,
    masked_fields,
    merge,
)
from services.manager.worker.default_rules import DEFAULT_RULES
from services.rule_language.rule import Draft, Rule, RuleType, complete
from tests.fakes.transitions import NOW
from tocsin.rules.v1.alert_rule_pb2 import AlertRule


def rule(**changed: Any) -> Rule:
    fields = {
        "name": "a rule",
        "type": RuleType.ERROR_THRESHOLD,
        "threshold": 5.0,
        "window_minutes": 5,
        "severity": Severity.HIGH,
    }
    return complete(Draft(**{**fields, **changed}))


VALUES = Draft(
    name="another",
    description="new",
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


def test_only_the_fields_of_the_mask_change() -> None:
    stored = rule(description="stored")
    after = complete(merge(stored, VALUES, {"threshold", "labels"}))
    assert after == replace(stored, threshold=1.0, labels={"a": "b"})


def test_either_field_of_the_window_replaces_the_other() -> None:
    assert complete(merge(rule(), VALUES, {"window_minutes"})).window == timedelta(minutes=7)
    seconds = replace(VALUES, window_minutes=None, window=timedelta(seconds=42))
    assert complete(merge(rule(), seconds, {"window"})).window == timedelta(seconds=42)


def test_another_type_brings_its_presets_but_keeps_the_rules_own_fields() -> None:
    slow = replace(VALUES, type=RuleType.LATENCY_THRESHOLD)
    by_preset = complete(merge(rule(), slow, {"type"}))
    assert by_preset.filter == rule(type=RuleType.LATENCY_THRESHOLD).filter
    own = complete(merge(rule(filter="level >= FATAL"), slow, {"type"}))
    assert own.filter == "level >= FATAL"
    custom = rule(type=RuleType.CUSTOM, filter="level >= FATAL", condition="count > 2")
    assert complete(merge(custom, slow, {"type"})).filter == "level >= FATAL"


@given(st.sets(st.sampled_from(sorted(CHANGEABLE_FIELDS - {"window"}))))
def test_applying_an_update_twice_equals_once(fields: set[str]) -> None:
    once = complete(merge(rule(), VALUES, fields))
    assert complete(merge(once, VALUES, fields)) == once
    assert is_unchanged(once, complete(merge(once, VALUES, fields)))


def test_a_new_rule_counts_from_its_first_revision() -> None:
    stored = create(rule(), "id", 7, now=NOW)
    assert (stored.rule.id, stored.rule.revision, stored.rule.selection_revision) == ("id", 7, 7)
    assert stored.create_time == stored.update_time == NOW


@pytest.mark.parametrize(
    ("change", "is_fresh"),
    [
        pytest.param({"threshold": 9.0}, False, id="threshold"),
        pytest.param({"name": "other", "severity": Severity.LOW}, False, id="text and severity"),
        pytest.param({"filter": "level >= WARN"}, True, id="filter"),
        pytest.param({"window": timedelta(minutes=1)}, True, id="window"),
        pytest.param({"enabled": False}, False, id="disabled"),
    ],
)
def test_counting_begins_afresh_when_the_selection_changed(change: dict[str, Any], *, is_fresh: bool) -> None:
    stored = create(rule(), "id", 7, now=NOW)
    later = NOW + timedelta(hours=1)
    changed = replace(stored.rule, **change)
    assert counts_afresh(stored.rule, changed) == is_fresh
    after = edit(stored, changed, 8, is_fresh=is_fresh, now=later)
    assert after.rule.revision == 8
    assert after.rule.selection_revision == (8 if is_fresh else 7)
    assert (after.create_time, after.update_time) == (NOW, later)
    assert after.etag != stored.etag


def test_counting_begins_afresh_when_the_rule_is_enabled_again() -> None:
    off = edit(create(rule(), "id", 1, now=NOW), replace(rule(), enabled=False), 2, is_fresh=False, now=NOW)
    assert counts_afresh(off.rule, replace(off.rule, enabled=True))
    on = edit(off, replace(off.rule, enabled=True), 3, is_fresh=True, now=NOW)
    assert on.rule.selection_revision == 3
    assert replace(on.rule, enabled=True) == on.rule


def test_counting_begins_afresh_when_the_former_rule_cannot_be_compiled() -> None:
    assert counts_afresh(replace(rule(), condition="count >> 1"), rule())


def test_the_default_rules_are_allowed() -> None:
    found = [complete(draft) for draft in DEFAULT_RULES]
    assert [each.threshold for each in found] == [100, 50, 25]
    assert {each.group_by for each in found} == {("service",)}
    assert {each.window for each in found} == {timedelta(minutes=5)}
    assert "2000" in found[1].filter


def test_id_and_revisions_are_no_part_of_an_edit() -> None:
    stored = replace(rule(), id="r", revision=7, selection_revision=3)
    assert is_unchanged(stored, rule())
    assert not is_unchanged(stored, rule(threshold=6.0))


def test_every_field_of_the_contract_is_either_changeable_or_the_servers() -> None:
    assert set(AlertRule.DESCRIPTOR.fields_by_name) == CHANGEABLE_FIELDS | SERVER_FIELDS | {"etag"}


@pytest.mark.parametrize(
    ("asked", "present", "meant"),
    [
        pytest.param([], ["name", "id", "etag"], {"name"}, id="what is set and may be changed"),
        pytest.param([], ["etag"], set(), id="nothing"),
        pytest.param(["*"], [], None, id="everything"),
        pytest.param(["groupBy", "window_minutes"], [], {"group_by", "window_minutes"}, id="either spelling"),
        pytest.param(["name", "etag"], [], {"name"}, id="the etag is a condition"),
    ],
)
def test_what_a_mask_means(asked: list[str], present: list[str], meant: AbstractSet[str] | None) -> None:
    assert masked_fields(asked, present) == meant


def test_every_wrong_path_is_named_as_it_was_written() -> None:
    with pytest.raises(UpdateMaskError) as wrong:
        masked_fields(["name", "createTime", "nonsense", "*"], [])
    assert wrong.value.paths == {
        "createTime": "is set by the server",
        "nonsense": "is not a field of an alert rule",
        "*": "must stand alone",
    }
    assert "nonsense" in str(wrong.value)


@given(st.lists(st.sampled_from(sorted(CHANGEABLE_FIELDS))))
def test_a_mask_of_fields_means_these_fields(paths: list[str]) -> None:
    assert masked_fields(paths, []) == frozenset(paths)
