"""Changes of people, schedules and policies by OnCallService, on a store in memory."""

from collections.abc import Awaitable
from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration

from services.chassis.failures import Failure
from services.chassis.request_ids import RequestIdReused
from services.contract.timestamps import duration_of, timestamp_of
from services.manager.core.on_call_records import OnCallKind
from services.manager.ports.feeds import NotifierReceivers
from services.manager.rpc.failures import (
    EtagMismatch,
    OverrideNotFound,
    PersonNotFound,
    PolicyNotFound,
    ScheduleNotFound,
    StillInUse,
    TooManyOnCall,
)
from tests.fakes.on_call import a_person, a_policy, a_schedule, a_snapshot, full_policy, full_schedule
from tests.fakes.routing import a_stored_tree, a_tree
from tests.fakes.transitions import NOW
from tests.unit.manager.on_call_world import FILE, World, refused
from tocsin.oncall.v1 import on_call_service_pb2 as pb
from tocsin.oncall.v1.schedule_pb2 import Person, Schedule, ScheduleLayer, WeeklyHours
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

REQUEST_ID = "6f0c8a52-9e0b-4d3c-9a53-0d5e8f1b7c41"
HOUR = timedelta(hours=1)


@pytest.fixture
def world() -> World:
    return World()


async def test_all_are_applied_at_once_and_come_back_as_they_were_given(world: World) -> None:
    first = await world.apply()
    change = pb.AppliedOnCall.Change.Name
    assert [(pb.AppliedOnCall.Kind.Name(each.kind), each.name, change(each.change)) for each in first.results] == [
        ("PERSON", "ann", "CREATED"),
        ("PERSON", "ben", "CREATED"),
        ("SCHEDULE", "payments", "CREATED"),
        ("POLICY", "urgent", "CREATED"),
    ]
    again = await world.apply()
    assert {change(each.change) for each in again.results} == {"UNCHANGED"}
    assert [each.etag for each in again.results] == [each.etag for each in first.results]
    assert world.stored.revision == 1
    person = (await world.rpc.GetPerson(pb.GetPersonRequest(name="ann"), None)).person
    assert (person.display_name, list(person.receivers), person.time_zone) == (
        "Ann",
        ["ann-pager", "mail"],
        "Europe/Berlin",
    )
    assert (person.etag, person.create_time, person.update_time) == (
        first.results[0].etag,
        timestamp_of(NOW),
        timestamp_of(NOW),
    )
    schedule = (await world.rpc.GetSchedule(pb.GetScheduleRequest(name="payments"), None)).schedule
    week, nights = schedule.layers
    assert (week.rotation, week.HasField("turn_length"), week.end_time) == (ScheduleLayer.WEEKLY, False, "")
    assert (nights.rotation, nights.turn_length) == (ScheduleLayer.CUSTOM, duration_of(12 * HOUR))
    assert (nights.start_time, nights.end_time) == ("2026-01-01T00:00:00", "2026-02-01T00:00:00")
    assert nights.hours[0] == WeeklyHours(weekdays=[WeeklyHours.MONDAY, WeeklyHours.FRIDAY], start="22:00", end="24:00")
    policy = (await world.rpc.GetEscalationPolicy(pb.GetEscalationPolicyRequest(name="urgent"), None)).policy
    assert policy.repeat_delay == Duration(seconds=300)
    assert (policy.steps[0].min_severity, policy.steps[0].time_zone) == (AlertRule.HIGH, "UTC")
    assert policy.steps[1].until_acknowledged


async def test_what_was_read_may_be_sent_back(world: World) -> None:
    values = (a_person(), a_person("ben"), a_schedule(), full_schedule(), full_policy(), a_policy())
    world.store.tables.on_call = a_snapshot(*values)
    people = await world.rpc.ListPeople(pb.ListPeopleRequest(), None)
    schedules = await world.rpc.ListSchedules(pb.ListSchedulesRequest(), None)
    policies = await world.rpc.ListEscalationPolicies(pb.ListEscalationPoliciesRequest(), None)
    request = pb.ApplyOnCallRequest(
        people=people.people, schedules=schedules.schedules, policies=policies.policies, request_id=REQUEST_ID
    )
    response = await world.rpc.ApplyOnCall(request, None)
    assert {each.change for each in response.results} == {pb.AppliedOnCall.UNCHANGED}
    assert await world.rpc.ApplyOnCall(request, None) == response
    request.people[0].display_name = "Ann"
    with pytest.raises(RequestIdReused):
        await world.rpc.ApplyOnCall(request, None)


async def test_everything_that_is_wrong_is_named_at_once(world: World) -> None:
    layer = {"name": "l", "people": ["ann"], "rotation": "DAILY", "startTime": "2026-01-01T00:00:00"}
    bad_layers = [
        layer | {"rotation": "ROTATION_UNSPECIFIED", "startTime": "soon"},
        layer | {"name": "m", "turnLength": "3600s", "endTime": "2026-01-01T00:00:00Z"},
        layer | {"name": "n", "rotation": "CUSTOM", "hours": [{"weekdays": [0, 9], "start": "24:00", "end": "25:00"}]},
        layer | {"name": "o", "rotation": "CUSTOM", "turnLength": "5400s"},
    ]
    policy = {
        "name": "p",
        "repeatDelay": "315576000000s",
        "steps": [{"people": ["ann"], "timeZone": "Mars", "minSeverity": 9}],
    }
    fields = await refused(
        world.apply(
            people=[{"name": "a b", "timeZone": "Nowhere"}, {"name": "c", "receivers": ["x"], "timeZone": "a\0"}],
            schedules=[{"name": "s", "layers": bad_layers}, {"name": "t", "timeZone": "UTC"}],
            policies=[policy],
        )
    )
    assert sorted(fields) == [
        "people[0].name",
        "people[0].receivers",
        "people[0].timeZone",
        "people[1].timeZone",
        "policies[0].repeatDelay",
        "policies[0].steps[0].minSeverity",
        "policies[0].steps[0].timeZone",
        "policies[0].steps[0].timeZone",
        "schedules[0].layers[0].rotation",
        "schedules[0].layers[0].startTime",
        "schedules[0].layers[1].endTime",
        "schedules[0].layers[1].turnLength",
        "schedules[0].layers[2].hours[0].end",
        "schedules[0].layers[2].hours[0].start",
        "schedules[0].layers[2].hours[0].weekdays[0]",
        "schedules[0].layers[2].hours[0].weekdays[1]",
        "schedules[0].layers[2].turnLength",
        "schedules[0].layers[3].turnLength",
        "schedules[0].timeZone",
        "schedules[1].layers",
    ]
    assert world.stored.records == {}


async def test_an_apply_names_each_name_once_and_something(world: World) -> None:
    assert await refused(world.rpc.ApplyOnCall(pb.ApplyOnCallRequest(), None)) == ["people"]
    twice = [{"name": "ann", "receivers": ["x"]}] * 2
    assert await refused(world.apply(people=twice)) == ["people[0].name", "people[1].name"]
    many = pb.ApplyOnCallRequest(people=[Person()] * 1001, schedules=[Schedule()] * 501)
    assert await refused(world.rpc.ApplyOnCall(many, None)) == ["people", "schedules"]


async def test_people_and_schedules_that_do_not_exist_are_named_and_nothing_is_stored(world: World) -> None:
    given = FILE | {"people": FILE["people"][:1]}
    assert await refused(world.apply(**given)) == [
        "schedules[0].layers[0].people[1]",
        "schedules[0].layers[1].people[0]",
    ]
    assert world.stored.records == {}
    await world.apply(people=FILE["people"])
    assert await refused(world.apply(policies=FILE["policies"])) == ["policies[0].steps[0].schedules[0]"]


async def test_a_call_that_checks_only_stores_nothing(world: World) -> None:
    response = await world.apply(**FILE, validateOnly=True)
    assert [each.etag for each in response.results] == [""] * 4
    assert world.stored.records == {}
    person = Person(receivers=["x"])
    request = pb.ReplacePersonRequest(name="ann", person=person, validate_only=True)
    checked = (await world.rpc.ReplacePerson(request, None)).person
    assert (checked.name, checked.etag, checked.HasField("create_time")) == ("ann", "", False)


async def test_one_is_replaced_under_the_name_of_the_path(world: World) -> None:
    await world.apply()
    person = Person(name="ann", receivers=["mail"])
    replaced = await world.rpc.ReplacePerson(pb.ReplacePersonRequest(name="ann", person=person), None)
    assert world.cache.current.people["ann"].receivers == ("mail",)
    assert replaced.person.etag
    person.name = "ben"
    assert await refused(world.rpc.ReplacePerson(pb.ReplacePersonRequest(name="ann", person=person), None)) == ["name"]
    stale = Person(receivers=["x"], etag="other")
    with pytest.raises(EtagMismatch):
        await world.rpc.ReplacePerson(pb.ReplacePersonRequest(name="ann", person=stale), None)
    schedule = (await world.rpc.GetSchedule(pb.GetScheduleRequest(name="payments"), None)).schedule
    schedule.layers[0].people.append("zoe")
    request = pb.ReplaceScheduleRequest(name="payments", schedule=schedule)
    assert await refused(world.rpc.ReplaceSchedule(request, None)) == ["layers[0].people[2]"]
    policy = (await world.rpc.GetEscalationPolicy(pb.GetEscalationPolicyRequest(name="urgent"), None)).policy
    del policy.fallback_receivers[:]
    response = await world.rpc.ReplaceEscalationPolicy(
        pb.ReplaceEscalationPolicyRequest(name="urgent", policy=policy), None
    )
    assert [warning.field for warning in response.warnings] == ["fallbackReceivers"]


async def test_a_receiver_that_the_notifier_does_not_have_is_warned_of(world: World) -> None:
    assert list((await world.apply()).warnings) == []
    world.receivers.known = NotifierReceivers(names=frozenset({"mail", "ben-pager"}))
    response = await world.apply()
    assert [warning.field for warning in response.warnings] == [
        "people[0].receivers[0]",
        "policies[0].fallbackReceivers[0]",
    ]
    world.receivers.known = None
    (warning,) = (await world.apply(people=FILE["people"])).warnings
    assert (warning.field, "were not checked" in warning.description) == ("receivers", True)
    assert list((await world.apply(schedules=FILE["schedules"])).warnings) == []


async def test_there_are_only_so_many(world: World) -> None:
    world.store.tables.on_call = a_snapshot(*(a_person(f"p{n}") for n in range(1000)))
    with pytest.raises(TooManyOnCall):
        await world.apply(people=[{"name": "one-more", "receivers": ["x"]}])


async def test_what_is_in_use_is_not_deleted(world: World) -> None:
    await world.apply()
    world.store.tables.routing[1] = a_stored_tree(a_tree(policy="urgent"))
    with pytest.raises(StillInUse, match='policy "urgent", schedule "payments"'):
        await world.rpc.DeletePerson(pb.DeletePersonRequest(name="ann"), None)
    with pytest.raises(StillInUse, match='policy "urgent"'):
        await world.rpc.DeleteSchedule(pb.DeleteScheduleRequest(name="payments"), None)
    with pytest.raises(StillInUse, match="the routing tree"):
        await world.rpc.DeleteEscalationPolicy(pb.DeleteEscalationPolicyRequest(name="urgent"), None)
    world.store.tables.routing[2] = a_stored_tree(version=2)
    with pytest.raises(EtagMismatch):
        await world.rpc.DeleteEscalationPolicy(pb.DeleteEscalationPolicyRequest(name="urgent", etag="x"), None)
    await world.rpc.DeleteEscalationPolicy(pb.DeleteEscalationPolicyRequest(name="urgent"), None)
    await world.rpc.DeleteSchedule(pb.DeleteScheduleRequest(name="payments"), None)
    await world.rpc.DeletePerson(pb.DeletePersonRequest(name="ann"), None)
    assert world.cache.snapshot.names(OnCallKind.PERSON) == ["ben"]


async def test_what_does_not_exist_is_not_found(world: World) -> None:
    calls: list[tuple[Awaitable[object], type[Failure]]] = [
        (world.rpc.GetPerson(pb.GetPersonRequest(name="x"), None), PersonNotFound),
        (world.rpc.GetSchedule(pb.GetScheduleRequest(name="x"), None), ScheduleNotFound),
        (world.rpc.GetEscalationPolicy(pb.GetEscalationPolicyRequest(name="x"), None), PolicyNotFound),
        (world.rpc.DeletePerson(pb.DeletePersonRequest(name="x"), None), PersonNotFound),
        (world.rpc.GetOnCall(pb.GetOnCallRequest(schedule="x"), None), ScheduleNotFound),
        (world.rpc.DeleteOverride(pb.DeleteOverrideRequest(schedule="x", id="y"), None), ScheduleNotFound),
    ]
    for call, failure in calls:
        with pytest.raises(failure):
            await call
    await world.apply()
    with pytest.raises(OverrideNotFound):
        await world.rpc.DeleteOverride(pb.DeleteOverrideRequest(schedule="payments", id="x"), None)
    with pytest.raises(PersonNotFound):
        await world.rpc.GetCalendar(pb.GetCalendarRequest(schedule="payments", person="x"), None)


async def test_lists_have_pages_and_prefixes(world: World) -> None:
    world.store.tables.on_call = a_snapshot(*(a_person(name) for name in ("ann", "anton", "ben")))
    first = await world.rpc.ListPeople(pb.ListPeopleRequest(page_size=1, name_prefix="an"), None)
    second = await world.rpc.ListPeople(
        pb.ListPeopleRequest(page_size=1, name_prefix="an", page_token=first.next_page_token), None
    )
    assert [each.name for each in (*first.people, *second.people)] == ["ann", "anton"]
    assert second.next_page_token == ""
