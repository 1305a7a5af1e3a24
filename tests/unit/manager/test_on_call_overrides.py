"""Overrides, and who is on call, by OnCallService on a store in memory."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from services.contract.timestamps import timestamp_of
from services.manager.core.on_call_records import MAX_OVERRIDES
from services.manager.rpc.failures import (
    TooManyOnCall,
)
from tests.fakes.on_call import a_person, a_schedule, a_snapshot, an_override
from tests.fakes.transitions import NOW
from tests.unit.manager.on_call_world import World, refused
from tocsin.oncall.v1 import on_call_service_pb2 as pb
from tocsin.oncall.v1.schedule_pb2 import ScheduleOverride

REQUEST_ID = "6f0c8a52-9e0b-4d3c-9a53-0d5e8f1b7c41"
HOUR = timedelta(hours=1)


@pytest.fixture
def world() -> World:
    return World()


def override_request(**changed: Any) -> pb.CreateOverrideRequest:
    values: dict[str, Any] = {"person": "ben", "end_time": timestamp_of(NOW + HOUR)}
    return pb.CreateOverrideRequest(schedule="payments", override=ScheduleOverride(**values | changed))


async def on_call(world: World, at: datetime = NOW) -> str:
    request = pb.GetOnCallRequest(schedule="payments", time=timestamp_of(at))
    return (await world.rpc.GetOnCall(request, None)).shift.person


async def test_an_override_is_created_listed_and_deleted(world: World) -> None:
    await world.apply()
    assert await on_call(world) == "ann"
    request = override_request(actor="dora")
    request.request_id = REQUEST_ID
    created = (await world.rpc.CreateOverride(request, None)).override
    assert (await world.rpc.CreateOverride(request, None)).override == created
    assert (created.schedule, created.start_time, created.actor) == ("payments", timestamp_of(NOW), "dora")
    assert (await on_call(world), await on_call(world, NOW + HOUR)) == ("ben", "ann")
    earlier = await world.rpc.CreateOverride(override_request(start_time=timestamp_of(NOW - HOUR)), None)
    listed = await world.rpc.ListOverrides(pb.ListOverridesRequest(schedule="payments"), None)
    assert [each.id for each in listed.overrides] == [earlier.override.id, created.id]
    await world.rpc.DeleteOverride(pb.DeleteOverrideRequest(schedule="payments", id=created.id), None)
    await world.rpc.DeleteOverride(pb.DeleteOverrideRequest(schedule="payments", id=earlier.override.id), None)
    assert await on_call(world) == "ann"


async def test_an_override_that_is_wrong_is_refused(world: World) -> None:
    await world.apply()
    empty = pb.CreateOverrideRequest(schedule="payments")
    assert await refused(world.rpc.CreateOverride(empty, None)) == ["person", "endTime"]
    assert await refused(world.rpc.CreateOverride(override_request(end_time=timestamp_of(NOW)), None)) == ["endTime"]
    assert await refused(world.rpc.CreateOverride(override_request(person="zoe"), None)) == ["person"]
    assert await refused(world.rpc.CreateOverride(override_request(actor="x" * 257), None)) == ["actor"]
    checking = override_request()
    checking.validate_only = True
    assert (await world.rpc.CreateOverride(checking, None)).override.id == ""
    assert world.stored.overrides == ()
    full = tuple(an_override(f"o{n}") for n in range(MAX_OVERRIDES))
    world.store.tables.on_call = a_snapshot(a_person(), a_person("ben"), a_schedule(), overrides=full)
    with pytest.raises(TooManyOnCall):
        await world.rpc.CreateOverride(override_request(), None)


async def test_who_is_on_call_is_said_of_one_schedule_and_of_all(world: World) -> None:
    await world.apply()
    # The week of Ann, whose Friday evening is Ben's.
    answer = await world.rpc.GetOnCall(pb.GetOnCallRequest(schedule="payments"), None)
    assert (answer.shift.person, answer.shift.layer, answer.shift.is_override) == ("ann", "week", False)
    assert list(answer.person.receivers) == ["ann-pager", "mail"]
    assert (answer.next_shift.person, answer.next_shift.layer) == ("ben", "nights")
    assert answer.next_shift.start_time == answer.shift.end_time
    future = a_schedule("future", layers=())
    changed = a_snapshot(a_person(), a_person("ben"), a_schedule(), future)
    world.store.tables.on_call = replace(changed, revision=2)
    nobody = await world.rpc.GetOnCall(pb.GetOnCallRequest(schedule="future"), None)
    assert [nobody.HasField(field) for field in ("shift", "person", "next_shift")] == [False] * 3
    first = await world.rpc.ListOnCall(pb.ListOnCallRequest(page_size=1), None)
    second = await world.rpc.ListOnCall(pb.ListOnCallRequest(page_size=1, page_token=first.next_page_token), None)
    assert [(each.schedule, each.shift.person) for each in (*first.schedules, *second.schedules)] == [
        ("future", ""),
        ("payments", "ann"),
    ]
    far = pb.GetOnCallRequest(schedule="payments", time=timestamp_of(NOW + timedelta(days=367)))
    assert await refused(world.rpc.GetOnCall(far, None)) == ["time"]


async def test_shifts_are_those_of_the_next_days(world: World) -> None:
    await world.apply()
    request = pb.ListShiftsRequest(schedule="payments", start_time=timestamp_of(NOW), days=4)
    found = (await world.rpc.ListShifts(request, None)).shifts
    assert [(each.person, each.layer) for each in found] == [
        ("ann", "week"),
        ("ben", "nights"),
        ("ann", "week"),
        ("ben", "week"),
    ]
    assert len((await world.rpc.ListShifts(pb.ListShiftsRequest(schedule="payments"), None)).shifts) > len(found)
    assert await refused(world.rpc.ListShifts(pb.ListShiftsRequest(schedule="payments", days=32), None)) == ["days"]


async def test_a_calendar_has_the_shifts_of_everybody_or_of_one_person(world: World) -> None:
    await world.apply()
    whole = (await world.rpc.GetCalendar(pb.GetCalendarRequest(schedule="payments"), None)).calendar
    assert whole.content_type == "text/calendar; charset=utf-8"
    assert b"SUMMARY:Ann on call: payments\r\n" in whole.data
    assert b"SUMMARY:ben on call: payments\r\n" in whole.data
    one = (await world.rpc.GetCalendar(pb.GetCalendarRequest(schedule="payments", person="ben"), None)).calendar
    assert b"Ann" not in one.data
