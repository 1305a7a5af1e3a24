"""Edits of people, schedules and policies: what they change, what is refused, and what still uses them."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from services.manager.core.on_call import Schedule
from services.manager.core.on_call_checks import (
    names_receivers,
    override_problems,
    reference_problems,
    resource_problems,
    resource_warnings,
)
from services.manager.core.on_call_records import (
    MAX_OVERRIDES,
    OVERRIDE_RETENTION,
    OnCallChange,
    OnCallEdit,
    OnCallKind,
    OnCallResource,
    add_override,
    apply_resources,
    delete_resource,
    exceeded_kind,
    snapshot_after,
    users_of,
)
from services.manager.core.weekly_hours import WeeklyHours
from tests.fakes.on_call import (
    BERLIN,
    NIGHTS,
    a_layer,
    a_person,
    a_policy,
    a_schedule,
    a_snapshot,
    a_step,
    an_override,
    full_policy,
    full_schedule,
)
from tests.fakes.transitions import NOW

HOUR = timedelta(hours=1)
LATER = NOW + HOUR
PERSON, SCHEDULE, POLICY = OnCallKind.PERSON, OnCallKind.SCHEDULE, OnCallKind.POLICY
ALL = (a_person(), a_person("ben"), a_schedule(), a_policy())


def test_an_edit_creates_updates_or_leaves() -> None:
    before = a_snapshot(*ALL)
    changed = a_person("ben", receivers=("mail",))
    applied = apply_resources(before, [a_person(), changed, a_person("cem")], 2, now=LATER)
    assert [each.change for each in applied] == [OnCallChange.UNCHANGED, OnCallChange.UPDATED, OnCallChange.CREATED]
    assert [each.record.revision for each in applied] == [1, 2, 2]
    assert [(each.record.create_time, each.record.update_time) for each in applied] == [
        (NOW, NOW),
        (NOW, LATER),
        (LATER, LATER),
    ]
    etags = {each.record.etag for each in applied}
    assert len(etags) == 3
    assert before.records[PERSON, "ben"].etag not in etags


def test_a_snapshot_after_an_edit_has_what_was_written() -> None:
    before = a_snapshot(*ALL, overrides=(an_override("old"), an_override("kept")))
    (applied,) = apply_resources(before, [a_person("cem")], 2, now=LATER)
    edit = OnCallEdit(
        upserted=(applied.record,),
        deleted=((POLICY, "urgent"),),
        new_overrides=(an_override("new"),),
        deleted_overrides=("old",),
    )
    after = snapshot_after(before, edit, 2)
    assert after.version == "memory.2"
    assert after.names(PERSON) == ["ann", "ben", "cem"]
    assert after.names(POLICY) == []
    assert [each.id for each in after.overrides] == ["kept", "new"]


def test_the_directory_has_everything_and_the_schedules_their_overrides() -> None:
    other = an_override("x", schedule="other")
    snapshot = a_snapshot(*ALL, a_schedule("other"), overrides=(an_override(), other))
    directory = snapshot.directory()
    assert directory.people == {"ann": a_person(), "ben": a_person("ben")}
    assert directory.policies == {"urgent": a_policy()}
    assert directory.schedules["payments"].overrides == (an_override(),)
    assert directory.schedules["other"].overrides == (other,)
    assert directory.revision == 1


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ((PERSON, "ann"), ['schedule "payments"']),
        ((PERSON, "ben"), ['schedule "payments"', 'an override of schedule "payments"']),
        ((PERSON, "cem"), ['policy "people"']),
        ((PERSON, "dora"), []),
        ((SCHEDULE, "payments"), ['policy "urgent"']),
        ((SCHEDULE, "other"), []),
        ((POLICY, "urgent"), ["the routing tree"]),
        ((POLICY, "people"), []),
    ],
)
def test_what_is_used_is_known(key: tuple[OnCallKind, str], expected: list[str]) -> None:
    people = (a_person("cem"), a_person("dora"))
    policy = a_policy("people", steps=(a_step(schedules=(), people=("cem",)),))
    old = an_override("old", person="dora", start_time=NOW - 2 * HOUR, end_time=NOW)
    snapshot = a_snapshot(*ALL, *people, policy, a_schedule("other", layers=()), overrides=(an_override(), old))
    assert users_of(snapshot, key, routed_policies={"urgent"}, now=NOW) == expected


@pytest.mark.parametrize(
    ("key", "overrides"), [((PERSON, "ben"), ("o",)), ((SCHEDULE, "payments"), ("o", "x")), ((POLICY, "urgent"), ())]
)
def test_a_deleted_resource_takes_its_overrides_with_it(
    key: tuple[OnCallKind, str], overrides: tuple[str, ...]
) -> None:
    snapshot = a_snapshot(*ALL, overrides=(an_override(), an_override("x", person="ann")))
    assert delete_resource(snapshot, key) == OnCallEdit(deleted=(key,), deleted_overrides=overrides)


def test_an_override_takes_the_place_of_those_that_ended_long_ago() -> None:
    old = an_override("old", end_time=LATER - OVERRIDE_RETENTION - HOUR, start_time=NOW - 2 * OVERRIDE_RETENTION)
    full = tuple(an_override(f"o{n}") for n in range(MAX_OVERRIDES - 1))
    other = tuple(an_override(f"x{n}", schedule="other") for n in range(MAX_OVERRIDES))
    snapshot = a_snapshot(*ALL, overrides=(old, *full, *other))
    edit = add_override(snapshot, an_override("new"), now=LATER)
    assert edit == OnCallEdit(new_overrides=(an_override("new"),), deleted_overrides=("old",))
    assert add_override(snapshot_after(snapshot, edit, 2), an_override("more"), now=LATER) is None


def test_there_are_only_so_many_of_each_kind() -> None:
    assert exceeded_kind(a_snapshot(*(a_person(f"p{n}") for n in range(1000)))) is None
    assert exceeded_kind(a_snapshot(*(a_person(f"p{n}") for n in range(1001)))) is PERSON
    assert exceeded_kind(a_snapshot(*(a_schedule(f"s{n}") for n in range(501)))) is SCHEDULE


# What is allowed.


@pytest.mark.parametrize("value", [*ALL, full_policy(), full_schedule(), a_person(display_name="Ánn")])
def test_what_is_allowed_has_no_problems(value: OnCallResource) -> None:
    assert resource_problems(value) == []


def schedule_of(**layer: Any) -> Schedule:
    return a_schedule(layers=(a_layer(**layer),))


def test_a_turn_that_does_not_fit_is_shown() -> None:
    ((_, description),) = resource_problems(schedule_of(turn=timedelta(seconds=7862401)))
    assert description == "is 7862401s, must be whole hours up to 13 weeks"


@pytest.mark.parametrize(
    ("value", "fields"),
    [
        (a_person("", receivers=("x",)), ["name"]),
        (a_person("-ann"), ["name"]),
        (a_person("a" * 65), ["name"]),
        (a_person("ann/ben"), ["name"]),
        (a_person(display_name="a\nb"), ["displayName"]),
        (a_person(display_name="a" * 129), ["displayName"]),
        (a_person(receivers=()), ["receivers"]),
        (a_person(receivers=("x",) * 11), ["receivers"]),
        (a_person(receivers=("x", "", "y" * 129, "a\0")), ["receivers[1]", "receivers[2]", "receivers[3]"]),
        (a_schedule("", description="x" * 4097), ["name", "description"]),
        (a_schedule(description="\0"), ["description"]),
        (a_schedule(layers=()), ["layers"]),
        (a_schedule(layers=tuple(a_layer(f"l{n}") for n in range(11))), ["layers"]),
        (a_schedule(layers=(a_layer("a"), a_layer("a"))), ["layers[0].name", "layers[1].name"]),
        (schedule_of(name="override"), ["layers[0].name"]),
        (schedule_of(people=()), ["layers[0].people"]),
        (schedule_of(people=("ann",) * 51), ["layers[0].people"]),
        (schedule_of(turn=timedelta(minutes=59)), ["layers[0].turnLength"]),
        (schedule_of(turn=timedelta(minutes=90)), ["layers[0].turnLength"]),
        (schedule_of(turn=timedelta(weeks=14)), ["layers[0].turnLength"]),
        (schedule_of(start=datetime(1999, 12, 31)), ["layers[0].startTime"]),  # noqa: DTZ001
        (schedule_of(end=datetime(2025, 12, 1, 9)), ["layers[0].endTime"]),  # noqa: DTZ001
        (schedule_of(hours=(NIGHTS,) * 21), ["layers[0].hours"]),
        (a_policy("", steps=()), ["name", "steps"]),
        (a_policy(steps=(a_step(),) * 21), ["steps"]),
        (a_policy(repeat_count=-1), ["repeatCount"]),
        (a_policy(repeat_count=21), ["repeatCount"]),
        (a_policy(repeat_delay=timedelta(seconds=59)), ["repeatDelay"]),
        (a_policy(fallback_receivers=("x",) * 11), ["fallbackReceivers"]),
        (a_policy(steps=(a_step(schedules=()),)), ["steps[0].receivers"]),
        (a_policy(steps=(a_step(), a_step(delay=timedelta(days=8)))), ["steps[1].delay"]),
        (a_policy(steps=(a_step(delay=timedelta(seconds=-1)),)), ["steps[0].delay"]),
        (a_policy(steps=(a_step(receivers=("x",) * 21),)), ["steps[0].receivers"]),
        (a_policy(steps=(a_step(schedules=("x",) * 21),)), ["steps[0].schedules"]),
        (a_policy(steps=(a_step(people=("x",) * 21),)), ["steps[0].people"]),
        (a_policy(steps=(a_step(hours=WeeklyHours(spans=(NIGHTS,) * 21, zone=BERLIN)),)), ["steps[0].hours"]),
        (
            a_policy(steps=(a_step(until_acknowledged=True, delay=HOUR), a_step())),
            ["steps[0].untilAcknowledged"],
        ),
        (a_policy(steps=(a_step(until_acknowledged=True),)), ["steps[0].delay"]),
        (
            a_policy(steps=(a_step(until_acknowledged=True, delay=HOUR),), repeat_count=1),
            ["steps[0].untilAcknowledged"],
        ),
    ],
)
def test_each_field_that_is_not_allowed_is_named(value: OnCallResource, fields: list[str]) -> None:
    assert [field for field, _ in resource_problems(value)] == fields


def test_a_long_name_is_shown_in_part() -> None:
    (problem,) = resource_problems(a_person("ä" * 70))
    assert f'"{"ä" * 60}…"' in problem[1]


@pytest.mark.parametrize(
    ("value", "fields"),
    [
        (a_person(), []),
        (a_schedule(), ["layers[0].people[1]"]),
        (full_policy(), ["steps[0].schedules[0]", "steps[0].people[1]", "steps[1].schedules[0]"]),
    ],
)
def test_unknown_people_and_schedules_are_named(value: OnCallResource, fields: list[str]) -> None:
    assert [field for field, _ in reference_problems(value, {"ann"}, {"other"})] == fields
    assert reference_problems(value, {"ann", "ben"}, {"payments"}) == []


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, []),
        ({"end_time": NOW}, ["endTime"]),
        ({"start_time": NOW - 2 * HOUR, "end_time": NOW - HOUR}, ["endTime"]),
        ({"start_time": NOW + 5 * HOUR}, ["endTime"]),
        ({"end_time": NOW + timedelta(weeks=13, seconds=1)}, ["endTime"]),
    ],
)
def test_an_override_ends_after_its_start_and_within_thirteen_weeks(
    changed: dict[str, Any], expected: list[str]
) -> None:
    assert [field for field, _ in override_problems(an_override(**changed), now=NOW)] == expected


@pytest.mark.parametrize(
    ("value", "fields"),
    [
        (a_person(receivers=("mail", "ann-pager")), ["receivers[1]"]),
        (a_schedule(), []),
        (full_policy(), ["steps[0].receivers[0]", "fallbackReceivers[0]"]),
    ],
)
def test_a_receiver_that_is_unknown_is_warned_of(value: OnCallResource, fields: list[str]) -> None:
    assert [field for field, _ in resource_warnings(value, {"mail"})] == fields
    assert names_receivers(value) is bool(fields)


def test_a_policy_with_schedules_and_no_fallback_is_warned_of() -> None:
    assert [field for field, _ in resource_warnings(a_policy(fallback_receivers=()), None)] == ["fallbackReceivers"]
    only_people = a_policy(fallback_receivers=(), steps=(a_step(schedules=(), people=("ann",)),))
    assert [resource_warnings(each, None) for each in (a_person(), a_schedule(), a_policy(), only_people)] == [[]] * 4
